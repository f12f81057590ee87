//! The tasks that run handlers, and how many deliveries each gets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::OwnedSemaphorePermit,
    task::{JoinError, JoinSet},
};

use super::attempt::{Attempt, Claimed, Ended, Running};

/// How many quick deliveries share a task at most. What a task costs, about 1 µs, is then little for each.
const MAX_SEVERAL: usize = 16;

/// Tasks under way. A handler that does not come to its end at once has one of its own, so that handlers run side by
/// side; quick ones share one, which costs less than a task for each.
pub(super) struct Tasks {
    tasks: JoinSet<Ended>,
    /// How many deliveries they have in hand.
    deliveries: Arc<AtomicUsize>,
    /// How many the next one gets: doubled after each in which all were quick, and one again after any other.
    several: usize,
}

/// The places of a task among those that `concurrency` allows. They are free when it ends, in whatever way.
struct Places {
    taken: Arc<AtomicUsize>,
    count: usize,
}

impl Drop for Places {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.count, Ordering::AcqRel);
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self { tasks: JoinSet::new(), deliveries: Arc::default(), several: 1 }
    }
}

impl Tasks {
    /// Runs several that need no watching; fewer than `several` of them if fewer wait.
    pub(super) fn run_several(&mut self, attempt: Attempt, several: Vec<Claimed>) {
        self.spawn(several.len(), attempt.run_several(several));
    }

    /// Runs one that is watched. It may hold a permit as long as it runs.
    pub(super) fn run_alone(
        &mut self,
        attempt: Attempt,
        claimed: Claimed,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let run = attempt.run_several(vec![claimed]);
        self.spawn(1, async {
            let ended = run.await;
            drop(permit);
            ended
        });
    }

    /// Runs on what was begun in a task with others.
    pub(super) fn go_on(&mut self, running: Running) {
        self.spawn(1, async { Ended { settled: vec![running.await], ..Ended::default() } });
    }

    fn spawn(&mut self, count: usize, run: impl Future<Output = Ended> + Send + 'static) {
        self.deliveries.fetch_add(count, Ordering::AcqRel);
        let places = Places { taken: Arc::clone(&self.deliveries), count };
        self.tasks.spawn(async {
            let ended = run.await;
            drop(places);
            ended
        });
    }

    /// How many deliveries may begin.
    pub(super) fn free(&self, concurrency: usize) -> usize {
        concurrency.saturating_sub(self.deliveries())
    }

    /// How many the next task is to get.
    pub(super) fn several(&self) -> usize {
        self.several
    }

    /// Learns from a task that has ended.
    pub(super) fn adapt(&mut self, was_quick: bool) {
        self.several = if was_quick { (2 * self.several).min(MAX_SEVERAL) } else { 1 };
    }

    /// How many deliveries are under way.
    pub(super) fn deliveries(&self) -> usize {
        self.deliveries.load(Ordering::Acquire)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits for the next task to end; for ever while there is none.
    pub(super) async fn next(&mut self) -> Result<Ended, JoinError> {
        match self.tasks.join_next().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// A task that has ended, if there is one.
    pub(super) fn try_next(&mut self) -> Option<Result<Ended, JoinError>> {
        self.tasks.try_join_next()
    }

    /// Drops all that runs, and waits until it is really dropped, with what it started. Not for longer than `limit`: a
    /// handler that blocks its thread never is.
    pub(super) async fn abort(&mut self, limit: Duration) {
        self.tasks.abort_all();
        let dropped = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(limit, dropped).await;
    }
}
