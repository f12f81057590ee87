//! What is seen of a queue is the sum of its shards.

use std::time::Duration;

use futures_util::future::join_all;

use super::Shards;
use crate::{
    error::Result,
    queue::{Coming, Counts, Cursor, Queue, Shown, State, inspect::Scanned},
};

impl Queue {
    /// Asks all shards at once. What is on its way from one to another arrives before.
    async fn of_all<T, F: Future<Output = Result<T>>>(&self, ask: impl Fn(Self) -> F) -> Result<Vec<T>> {
        let shards = self.each_shard().await?;
        if !self.is_shard && self.shards().is_moving() {
            let all = join_all((0..self.shards().all()).map(|shard| self.bring_in(shard))).await;
            all.into_iter().collect::<Result<()>>()?;
        }
        join_all(shards.into_iter().map(ask)).await.into_iter().collect()
    }

    /// How much is where.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn counts(&self) -> Result<Counts> {
        let all = self.of_all(|shard| async move { shard.counts_here().await }).await?;
        let sum = all.into_iter().reduce(|sum, next| Counts {
            now: sum.now,
            scheduled: sum.scheduled + next.scheduled,
            due: sum.due + next.due,
            leased: sum.leased + next.leased,
            lost_leases: sum.lost_leases + next.lost_leases,
            dead: sum.dead + next.dead,
            impossible: sum.impossible + next.impossible,
            next_due_at: sum.next_due_at.into_iter().chain(next.next_due_at).min(),
            paused: sum.paused || next.paused,
        });
        Ok(sum.expect("a queue has a shard"))
    }

    /// How many deadlines fall into each of the next `stretches` (1 to 100) of length `step`. Each costs Redis a lookup.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn coming(&self, stretches: usize, step: Duration) -> Result<Coming> {
        let all = self.of_all(|shard| async move { shard.coming_here(stretches, step).await }).await?;
        let mut counts = vec![0; all[0].counts.len()];
        for shard in all {
            counts.iter_mut().zip(shard.counts).for_each(|(sum, count)| *sum += count);
        }
        Ok(Coming { step, counts })
    }

    /// Stops claiming, or lets it go on, for all processes of the queue; answers whether that changed anything.
    /// What is in flight goes on, and so do registering and cancelling.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn pause(&self, paused: bool) -> Result<bool> {
        if self.is_shard {
            return self.pause_here(paused).await;
        }
        let mut has_changed = false;
        loop {
            let shards = self.ask_shards().await?;
            let changed = self.of_all(|shard| async move { shard.pause_here(paused).await }).await?;
            has_changed |= changed.contains(&true);
            // New shards are paused as the first one was.
            if self.ask_shards().await? == shards {
                return Ok(has_changed);
            }
        }
    }

    /// True if Redis holds any key of it, as it does of every queue that was ever polled or had an id.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn exists(&self) -> Result<bool> {
        Ok(self.of_all(|shard| async move { shard.exists_here().await }).await?.contains(&true))
    }

    /// Removes every id in every state, and all that is known of them. What a sink has fired stays, and so does what
    /// is known of the queue: its last token, its canary (this is no loss of data), and whether it is paused.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn purge(&self) -> Result<()> {
        let shards = if self.is_shard { Shards::ONE } else { self.ask_shards().await? };
        if shards.is_moving() {
            // Ends a `reshard`: all that was on its way has arrived then, and nothing else leaves.
            self.declare(shards.then(shards.homes(), shards.all(), true)).await?;
        }
        self.of_all(|shard| async move {
            let moving = [shard.keys.moving()];
            let keys: Vec<String> = shard.keys.of_ids().iter().chain(&moving).cloned().collect();
            shard.unlink(&keys).await
        })
        .await?;
        Ok(())
    }

    /// A page of rows with their places, and whether more may follow.
    pub(in crate::queue) async fn scan(
        &self,
        state: State,
        limit: usize,
        after: Option<&Cursor>,
        payloads: bool,
    ) -> Result<Scanned> {
        let pages =
            self.of_all(|shard| async move { shard.scan_here(state, limit, after, payloads).await }).await?;
        Ok(merged(pages))
    }
}

/// The rows of all shards in their order, up to the first place behind which a shard may have more.
fn merged(pages: Vec<Scanned>) -> Scanned {
    if pages.len() == 1 {
        return pages.into_iter().next().unwrap_or_default();
    }
    let more = pages.iter().any(|(_, more)| *more);
    let ends = pages.iter().filter(|(_, more)| *more).filter_map(|(rows, _)| rows.last());
    let end = ends.map(|(_, place)| place.clone()).min();
    let mut rows: Vec<(Shown, Cursor)> = pages.into_iter().flat_map(|(rows, _)| rows).collect();
    rows.sort_by(|(_, a), (_, b)| a.cmp(b));
    rows.retain(|(_, place)| end.as_ref().is_none_or(|end| place <= end));
    (rows, more)
}
