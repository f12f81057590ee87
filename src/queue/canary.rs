//! The canary of a queue: what in `meta` shows that Redis still has what it had.

use super::{Queue, reply::Reply, scripts};
use crate::{
    error::{Error, Result},
    types::{DueAt, ServerTime},
};

/// What polling scripts write into `meta`: with every claim that takes something, and else once a second. Redis that
/// has lost the queue has none or another one, and Redis that went back in time has an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canary {
    /// Since when it is written, in µs: tells one that was born after a loss from the one before.
    pub born_us: u64,
    /// How often it was written: grows whatever the clock of Redis does.
    pub count: u64,
    /// When it was written last, by the clock of Redis.
    pub at: ServerTime,
}

/// What a poll saw of the canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// The canary as it was before; none where Redis has none, or somebody damaged it.
    pub found: Option<Canary>,
    /// The canary as it was left.
    pub left: Canary,
}

/// The answer of `watch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// The instant.
    pub now: ServerTime,
    /// How many entries have an impossible score and wait for `reject`.
    pub impossible: u64,
    /// What became of the canary.
    pub canary: Sighting,
}

impl Queue {
    /// Keeps the canary while nothing is claimed here, because workers outside claim, or all handlers are busy.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn watch(&self) -> Result<Watched> {
        let mut reply = Reply::new("watch", self.call(self.timed(&scripts::WATCH)).await?)?;
        let (now, impossible) = (ServerTime::from_us(reply.int()?), reply.count()?);
        let canary = reply.sighting()?;
        self.heard_of_shards(reply.bytes()?.as_deref());
        Ok(Watched { now, impossible, canary })
    }
}

impl Reply {
    /// The canary found and the one left.
    pub(crate) fn sighting(&mut self) -> Result<Sighting> {
        let (found, left) = (self.bytes()?, self.bytes()?);
        let left = left.as_deref().and_then(canary_of);
        let left = left.ok_or(Error::Reply { script: self.script(), detail: "no canary".to_owned() })?;
        Ok(Sighting { found: found.as_deref().and_then(canary_of), left })
    }
}

/// `born count at`, as `lib.lua` writes it.
fn canary_of(text: &[u8]) -> Option<Canary> {
    let mut parts = std::str::from_utf8(text).ok()?.split(' ');
    let mut next = || parts.next()?.parse::<u64>().ok();
    let (born_us, count, at_ms) = (next()?, next()?, i64::try_from(next()?).ok()?);
    parts.next().is_none().then_some(Canary { born_us, count, at: ServerTime::from_ms(at_ms) })
}

impl Canary {
    /// When it was written last, for people.
    pub(crate) fn written_at(&self) -> Option<DueAt> {
        DueAt::from_ms(self.at.as_ms()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_numbers_are_a_canary_and_all_else_is_none() {
        let canary = Canary { born_us: 17, count: 4, at: ServerTime::from_ms(1_767_225_600_000) };
        assert_eq!(canary_of(b"17 4 1767225600000"), Some(canary));
        for text in ["", "17", "17 4", "17 4 5 6", "17 4 x", "17  4 5", "-1 4 5", "1 2 99999999999999999999"]
        {
            assert_eq!(canary_of(text.as_bytes()), None, "{text}");
        }
    }
}
