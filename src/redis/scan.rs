//! Walking over the keys of a database, whoever they belong to.

use super::Redis;
use crate::error::{Error, Result};

/// How many keys one call looks at, about. It keeps Redis from others for a millisecond or so.
const KEYS_PER_CALL: usize = 1000;

/// Where a walk stands. Every key that is there from its beginning to its end is found, some perhaps twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanCursor(u64);

impl ScanCursor {
    /// The beginning.
    pub const START: Self = Self(0);

    /// How much of the walk is done, from 0 to 1. Redis counts its cursor up from the highest bit of the hash
    /// table's mask, so that the reversed bits grow steadily, also while the table is resized.
    #[must_use]
    pub fn fraction(self) -> f64 {
        self.0.reverse_bits() as f64 / u64::MAX as f64
    }
}

/// A step of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPage {
    /// The keys that match, none twice.
    pub keys: Vec<Vec<u8>>,
    /// Where to go on; none at the end.
    pub next: Option<ScanCursor>,
}

impl Redis {
    /// The next keys that match a glob, in no order.
    ///
    /// # Errors
    /// As [`Redis::run`].
    pub async fn scan(&self, cursor: ScanCursor, glob: &str) -> Result<ScanPage> {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor.0).arg("MATCH").arg(glob).arg("COUNT").arg(KEYS_PER_CALL);
        let value = self.run(&command).await?;
        let (next, mut keys): (u64, Vec<Vec<u8>>) = redis::from_redis_value(value)
            .map_err(|_| Error::Reply { script: "SCAN", detail: "no cursor with keys".to_owned() })?;
        keys.sort_unstable();
        keys.dedup();
        Ok(ScanPage { keys, next: (next != 0).then_some(ScanCursor(next)) })
    }

    /// How many keys the database holds.
    ///
    /// # Errors
    /// As [`Redis::run`].
    pub async fn key_count(&self) -> Result<u64> {
        let value = self.run(&redis::cmd("DBSIZE")).await?;
        redis::from_redis_value(value)
            .map_err(|_| Error::Reply { script: "DBSIZE", detail: "no count".to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_grows_with_the_walk() {
        // The order in which Redis visits a table of four buckets.
        let walk = [0, 2, 1, 3].map(|cursor| ScanCursor(cursor).fraction());
        assert!(walk.is_sorted() && walk[0] == 0.0 && (walk[3] - 0.75).abs() < 0.001, "{walk:?}");
    }
}
