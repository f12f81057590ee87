//! Running schedulers until the last id is handled and acked.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use indicatif::ProgressBar;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    handler::{Delivery, Handler, Outcome},
    queue::{Counts, Queue},
    scheduler::{Scheduler, Settings},
};

/// How long nothing may happen. Longer than a lease: a delivery that was lost comes back.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often to look whether a queue without a handler in this process is empty. A look costs Redis some 10 µs, so this
/// is a quarter of a percent of its time; and it is 0.2 % of the time that a million ids take.
const LOOK_STEP: Duration = Duration::from_millis(4);
/// How often the progress is shown.
const SHOW_STEP: Duration = Duration::from_millis(200);

/// Handles nothing, at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nothing;

impl Handler for Nothing {
    async fn handle(&self, _delivery: &Delivery) -> Outcome {
        Outcome::Done
    }
}

/// How many ids are still to be handled.
#[derive(Debug)]
struct Countdown {
    left: AtomicI64,
    done: Notify,
    /// The first outcome that was not done.
    failed: Mutex<Option<Outcome>>,
}

/// A handler, and the count of what it handled.
struct Counted<H> {
    handler: Arc<H>,
    countdown: Arc<Countdown>,
}

impl<H: Handler> Handler for Counted<H> {
    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let outcome = self.handler.handle(delivery).await;
        if outcome == Outcome::Done {
            if self.countdown.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.countdown.done.notify_one();
            }
        } else {
            let mut failed = self.countdown.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| outcome.clone());
        }
        outcome
    }
}

/// Schedulers at work. They end when this is dropped.
pub(super) struct Schedulers {
    queues: Vec<Queue>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    countdown: Arc<Countdown>,
    count: u64,
}

impl Schedulers {
    /// Starts one for each of the queues, which may be the same one several times, to handle `count` ids in all.
    pub(super) fn start(queues: Vec<Queue>, settings: &Settings, handler: impl Handler, count: u64) -> Self {
        let (done, failed) = (Notify::new(), Mutex::default());
        let countdown = Arc::new(Countdown { left: AtomicI64::new(count as i64), done, failed });
        let (handler, stop, mut tasks) = (Arc::new(handler), CancellationToken::new(), JoinSet::new());
        for queue in &queues {
            let counted = Counted { handler: Arc::clone(&handler), countdown: Arc::clone(&countdown) };
            tasks.spawn(Scheduler::new(queue.clone(), settings.clone(), counted).run(stop.clone()));
        }
        Self { queues, tasks, stop, countdown, count }
    }

    /// Waits until all is handled and acked, and answers when that was. Then, off the clock, makes sure of it: each id
    /// was handled once, and nothing is left but what is not due.
    pub(super) async fn finish(mut self, bar: &ProgressBar) -> anyhow::Result<Instant> {
        self.handled(bar).await?;
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a scheduler panicked")?;
        }
        let ended = Instant::now();
        let left = self.countdown.left.load(Ordering::Acquire);
        ensure!(left == 0, "the engine disagrees: {} ids were handled more than once", -left);
        for queue in &self.queues {
            let Counts { due, leased, dead, .. } = queue.counts().await?;
            ensure!(
                due + leased + dead == 0,
                "the engine disagrees: of what was handled {due} ids are due, {leased} leased and {dead} dead"
            );
        }
        Ok(ended)
    }

    async fn handled(&self, bar: &ProgressBar) -> anyhow::Result<()> {
        bar.set_length(self.count);
        let (mut before, mut idle) = (i64::MAX, Duration::ZERO);
        while timeout(SHOW_STEP, self.countdown.done.notified()).await.is_err() {
            let left = self.countdown.left.load(Ordering::Acquire);
            bar.set_position(self.count.saturating_sub(u64::try_from(left).unwrap_or(0)));
            if let Some(outcome) = &*self.countdown.failed.lock().unwrap_or_else(PoisonError::into_inner) {
                bail!("a delivery failed: {outcome:?}");
            }
            idle = if left == before { idle + SHOW_STEP } else { Duration::ZERO };
            ensure!(idle < PATIENCE, "nothing happens: {left} of {} ids are not handled", self.count);
            before = left;
        }
        Ok(())
    }
}

/// Waits until nothing is scheduled any more.
pub(super) async fn until_empty(queue: &Queue, bar: &ProgressBar) -> anyhow::Result<()> {
    let (mut before, mut idle, mut count) = (u64::MAX, Duration::ZERO, None);
    loop {
        let left = queue.counts().await?.scheduled;
        if left == 0 {
            return Ok(());
        }
        let count = *count.get_or_insert(left);
        bar.set_length(count);
        bar.set_position(count.saturating_sub(left));
        idle = if left == before { idle + LOOK_STEP } else { Duration::ZERO };
        ensure!(idle < PATIENCE, "nothing happens: {left} of {count} ids are not fired");
        before = left;
        sleep(LOOK_STEP).await;
    }
}
