//! Whether an id is in two shards, as plain commands can bring about, or a failover in the middle of a `reshard`.

use std::collections::BTreeSet;

use super::{Shards, is_of_other_shards, route::changing};
use crate::{
    error::Result,
    queue::{Flaw, Found, Queue, Verified, VerifyCursor},
    types::Id,
};

/// The keys with ids in them: scheduled, leased and dead.
pub(super) const SETS_OF_IDS: [usize; 3] = [0, 2, 6];
/// How often a step is tried while the shards change.
const TRIES: usize = 3;

/// Where a walk over all shards stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    shard: u16,
    set: usize,
    /// Of ZSCAN.
    cursor: String,
}

impl Place {
    const FIRST: &str = "0 0 0";

    fn read(text: &[u8]) -> Option<Self> {
        let words: Vec<&str> = std::str::from_utf8(text).ok()?.split(' ').collect();
        let [shard, set, cursor] = words[..] else { return None };
        let set = set.parse().ok().filter(|set| *set < SETS_OF_IDS.len())?;
        Some(Self { shard: shard.parse().ok()?, set, cursor: cursor.to_owned() })
    }

    /// Behind a step that ended at this cursor.
    fn then(mut self, cursor: String, shards: Shards) -> Option<VerifyCursor> {
        if cursor == "0" {
            self.set = (self.set + 1) % SETS_OF_IDS.len();
            self.shard += u16::from(self.set == 0);
        }
        let text = format!("{} {} {cursor}", self.shard, self.set);
        (self.shard < shards.all()).then(|| VerifyCursor::new(text.into_bytes()))
    }
}

impl Queue {
    /// Looks at a step of all shards, up to 1000 entries, for ids that another shard has too. They are not mended: which of the
    /// two is meant is not known here.
    ///
    /// # Errors
    /// If Redis refuses, or the shards go on changing.
    pub async fn verify_shards(&self, after: Option<&VerifyCursor>) -> Result<Verified> {
        let nothing = Verified { looked_at: 0, found: Vec::new(), next: None };
        for _ in 0..TRIES {
            let shards = self.ask_shards().await?;
            let place = after.map_or(Place::FIRST.as_bytes(), VerifyCursor::text);
            let place = Place::read(place).filter(|place| shards.all() > 1 && place.shard < shards.all());
            let Some(place) = place else { return Ok(nothing) };
            let step = self.verify_at(shards, place).await;
            if !is_of_other_shards(&step) {
                return step;
            }
            self.agree_on_shards().await?;
        }
        Err(changing())
    }

    async fn verify_at(&self, shards: Shards, place: Place) -> Result<Verified> {
        let shard = self.sibling(place.shard);
        let (cursor, members) = shard.walk(SETS_OF_IDS[place.set], &place.cursor).await?;
        // Of two shards one is not its home.
        let is_stray = |id: &Vec<u8>| shards.home_of(id) != place.shard;
        let strays = members.iter().filter(|id| is_stray(id));
        let strays: Vec<Id> = strays.filter_map(|id| Id::new(std::str::from_utf8(id).ok()?).ok()).collect();
        let ids: Vec<&Id> = strays.iter().collect();
        let mut elsewhere = BTreeSet::new();
        for other in (0..shards.all()).filter(|other| *other != place.shard) {
            let all: Vec<usize> = (0..ids.len()).collect();
            elsewhere.extend(self.here(other, shards, &ids, &all).await?);
        }
        // Asked last: what was only taken home meanwhile is here no more.
        let suspects: Vec<usize> = elsewhere.into_iter().collect();
        let doubled = self.here(place.shard, shards, &ids, &suspects).await?;
        let found = |position: usize| Found {
            flaw: Flaw::InTwoShards,
            subject: ids[position].as_str().as_bytes().to_vec(),
        };
        let found = doubled.into_iter().map(found).collect();
        Ok(Verified { looked_at: members.len() as u64, found, next: place.then(cursor, shards) })
    }

    /// Which of these positions a shard has, and not on its way out.
    async fn here(&self, shard: u16, shards: Shards, ids: &[&Id], asked: &[usize]) -> Result<Vec<usize>> {
        let found = self.sibling(shard).find(shards, ids, asked).await?;
        Ok(found.into_iter().filter(|(_, is_moving)| !is_moving).map(|(position, _)| position).collect())
    }
}
