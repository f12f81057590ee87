//! The verbs for what is dead: retry_dead, delete_dead, trim_dead, one by one and for all that fit.

use std::time::Duration;

use super::{
    MAX_IDS_PER_CALL, Queue, Settled, Shown, State, scripts,
    shards::{Part, Reach},
};
use crate::{error::Result, types::Id};

/// What to do with dead ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadVerb {
    /// [`Queue::retry_dead`].
    Retry,
    /// [`Queue::delete_dead`].
    Delete,
}

impl Queue {
    /// Schedules dead ids again, due now, with all attempts before them; stale means that it was not dead.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn retry_dead(&self, ids: &[Id]) -> Result<Vec<Settled>> {
        self.routed_to_dead(ids, |shard, ids| async move {
            shard
                .settle(&ids, MAX_IDS_PER_CALL, |step| shard.timed(&scripts::RETRY_DEAD).args(names(step)))
                .await
        })
        .await
    }

    /// Removes dead ids for good; stale means that it was not dead.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn delete_dead(&self, ids: &[Id]) -> Result<Vec<Settled>> {
        self.routed_to_dead(ids, |shard, ids| async move {
            shard
                .settle(&ids, MAX_IDS_PER_CALL, |step| shard.script(&scripts::DELETE_DEAD).args(names(step)))
                .await
        })
        .await
    }

    async fn routed_to_dead<'a, F>(
        &self,
        ids: &'a [Id],
        verb: impl Fn(Self, Vec<&'a Id>) -> F,
    ) -> Result<Vec<Settled>>
    where
        F: Future<Output = Result<Vec<Settled>>>,
    {
        let ids: Vec<&Id> = ids.iter().collect();
        let run = |part: Part| {
            let ids = part.of(&ids).into_iter().copied().collect();
            verb(part.shard, ids)
        };
        self.routed(&ids, Reach::One, |settled| *settled == Settled::Stale, run).await
    }

    /// Either of these; answers how many of the ids were dead.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn apply_to_dead(&self, verb: DeadVerb, ids: &[Id]) -> Result<usize> {
        let answers = match verb {
            DeadVerb::Retry => self.retry_dead(ids).await?,
            DeadVerb::Delete => self.delete_dead(ids).await?,
        };
        Ok(answers.iter().filter(|answer| **answer == Settled::Done).count())
    }

    /// The same for all dead ids that `keep` lets through, in at most `pages` looks of 1000 rows each; answers how many
    /// that were. Ids outside the contract stay: no call can name them.
    ///
    /// # Errors
    /// If Redis refuses. Running it again is safe.
    pub async fn apply_to_all_dead(
        &self,
        verb: DeadVerb,
        pages: usize,
        mut keep: impl FnMut(&Shown) -> bool,
    ) -> Result<usize> {
        let (mut count, mut cursor) = (0, None);
        for _ in 0..pages {
            // Ids that leave the set do not shift those behind the cursor: it is a place, not a number.
            let page = self.list_where(State::Dead, MAX_IDS_PER_CALL, cursor.as_ref(), &mut keep).await?;
            let ids: Vec<Id> = page.rows.into_iter().filter_map(|row| row.valid_id).collect();
            count += self.apply_to_dead(verb, &ids).await?;
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(count)
    }

    /// Removes for good at most 1000 ids of a shard that have been dead for longer than `retention`; answers how many.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn trim_dead(&self, retention: Duration) -> Result<u64> {
        let call = self.timed(&scripts::TRIM_DEAD).arg(retention.as_millis().to_string());
        self.counted(call.arg(MAX_IDS_PER_CALL)).await
    }
}

fn names<'a>(ids: &'a [&Id]) -> impl Iterator<Item = &'a str> {
    ids.iter().map(|id| id.as_str())
}
