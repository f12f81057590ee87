//! Runs handlers: at most `concurrency` at once, each in a task of its own.

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    Settings,
    breaker::{Breaker, Sign},
    keeper::Share,
    settler::{Settlement, Verdict},
};
use crate::{
    duration,
    fault::{self, Side},
    handler::{Outcome, SharedHandler},
    queue::{Delivery, Queue, Rejected, Settled},
};

/// How long dropping handlers may take.
const DROP_LIMIT: Duration = Duration::from_secs(1);

/// What a claim gives the worker to do.
pub(super) enum Work {
    /// Run the handler.
    Deliver(Claimed),
    /// Outside the contract: straight to the dead set.
    Bury(Rejected, Share),
}

/// A delivery and its share in the lease.
pub(super) struct Claimed {
    pub(super) delivery: Delivery,
    pub(super) lease: Share,
}

impl Claimed {
    /// True if a delivery of the id was lost before: it is noted when it begins, in case it is the cause.
    fn is_watched(&self) -> bool {
        self.delivery.attempt > self.delivery.failures + 1
    }

    /// True if its process died while it was running. It runs alone among its like, so that the next death
    /// tells the cause from the bystanders.
    fn is_suspect(&self) -> bool {
        self.delivery.kills > 0
    }
}

/// What is claimed and not begun.
#[derive(Default)]
struct Waiting {
    sound: VecDeque<Claimed>,
    suspects: VecDeque<Claimed>,
}

impl Waiting {
    fn push(&mut self, claimed: Claimed) {
        if claimed.is_suspect() { self.suspects.push_back(claimed) } else { self.sound.push_back(claimed) }
    }

    /// The next to begin: a suspect if none runs.
    fn pop(&mut self, suspect_runs: bool) -> Option<Claimed> {
        let suspect = if suspect_runs { None } else { self.suspects.pop_front() };
        suspect.or_else(|| self.sound.pop_front())
    }

    fn drain(&mut self) -> impl Iterator<Item = Claimed> {
        self.suspects.drain(..).chain(self.sound.drain(..))
    }
}

pub(super) struct Worker {
    pub(super) queue: Queue,
    pub(super) handler: SharedHandler,
    pub(super) settings: watch::Receiver<Settings>,
    pub(super) breaker: Arc<Breaker>,
    /// One permit, for the one suspect that may run.
    pub(super) suspect_runs: Arc<Semaphore>,
    pub(super) outcomes: mpsc::UnboundedSender<Settlement>,
    pub(super) drain_timeout: Duration,
}

impl Worker {
    /// Runs until the stop; then gives back what was not started, and ends when what runs is finished and
    /// the poller is gone.
    pub(super) async fn run(mut self, mut claims: mpsc::Receiver<Vec<Work>>, stop: CancellationToken) {
        let mut waiting = Waiting::default();
        let mut running = JoinSet::new();
        while !stop.is_cancelled() {
            self.start(&mut waiting, &mut running);
            tokio::select! {
                () = stop.cancelled() => {}
                Some(ended) = running.join_next() => {
                    self.settle(ended);
                    // Whatever else has ended by now: one pass of the loop for many.
                    while let Some(ended) = running.try_join_next() {
                        self.settle(ended);
                    }
                }
                Some(work) = claims.recv() => self.accept(work, &mut waiting),
                Ok(()) = self.settings.changed() => {}
            }
        }
        self.give_back(&mut waiting);
        tokio::join!(self.drain(&mut running), self.refuse(&mut claims));
    }

    fn accept(&self, work: Vec<Work>, waiting: &mut Waiting) {
        for work in work {
            match work {
                Work::Deliver(claimed) => waiting.push(claimed),
                Work::Bury(rejected, lease) => {
                    self.report(Settlement { verdict: Verdict::Bury(rejected), lease });
                }
            }
        }
    }

    fn start(&self, waiting: &mut Waiting, running: &mut JoinSet<Settlement>) {
        if self.breaker.is_open() {
            self.give_back(waiting);
            return;
        }
        let (concurrency, max_handler_time) = {
            let settings = self.settings.borrow();
            (settings.concurrency, settings.max_handler_time)
        };
        while running.len() < concurrency {
            let Some(claimed) = waiting.pop(self.suspect_runs.available_permits() == 0) else { return };
            if claimed.lease.is_live() {
                let alone = claimed.is_suspect().then(|| Arc::clone(&self.suspect_runs).try_acquire_owned());
                let attempt = Attempt {
                    queue: self.queue.clone(),
                    handler: Arc::clone(&self.handler),
                    max_handler_time,
                    _alone: alone.and_then(Result::ok),
                };
                running.spawn(attempt.run(claimed));
            } else {
                // Another process may have it already; giving it back is refused as stale then.
                self.breaker.note(Sign::None, &self.settings.borrow().circuit_breaker);
                self.report(release(claimed));
            }
        }
    }

    fn give_back(&self, waiting: &mut Waiting) {
        waiting.drain().for_each(|claimed| self.report(release(claimed)));
    }

    /// Gives back a claim that was on its way when the stop came.
    async fn refuse(&self, claims: &mut mpsc::Receiver<Vec<Work>>) {
        let mut waiting = Waiting::default();
        while let Some(work) = claims.recv().await {
            self.accept(work, &mut waiting);
            self.give_back(&mut waiting);
        }
    }

    /// Lets running handlers finish within the drain timeout. The rest is dropped; they were begun, so their
    /// leases run out and the next claim counts the attempt.
    async fn drain(&self, running: &mut JoinSet<Settlement>) {
        let deadline = tokio::time::sleep(self.drain_timeout);
        tokio::pin!(deadline);
        while !running.is_empty() {
            tokio::select! {
                Some(ended) = running.join_next() => self.settle(ended),
                () = &mut deadline => {
                    tracing::warn!(dropped = running.len(), "handlers outlasted drain_timeout");
                    running.abort_all();
                    // So that they are really dropped, and what they started with them. Not for long: one that
                    // blocks its thread never is.
                    let dropped = async { while running.join_next().await.is_some() {} };
                    let _ = tokio::time::timeout(DROP_LIMIT, dropped).await;
                    return;
                }
            }
        }
    }

    fn settle(&self, ended: Result<Settlement, tokio::task::JoinError>) {
        match ended {
            Ok(settlement) => {
                let sign = match settlement.verdict {
                    Verdict::Ack(_) | Verdict::Bury(_) => Sign::Up,
                    Verdict::Retry { .. } => Sign::Down,
                    Verdict::Release(_) => Sign::None,
                };
                self.breaker.note(sign, &self.settings.borrow().circuit_breaker);
                self.report(settlement);
            }
            // Panics of handlers are caught in the task, so this is one in dropping a handler, or ours. The share
            // in the lease is dropped with the task, and the lease brings the id back.
            Err(cause) => tracing::error!(%cause, "a delivery task ended without an outcome"),
        }
    }

    fn report(&self, settlement: Settlement) {
        // Fails only when the settler panicked: the lease brings the ids back.
        let _ = self.outcomes.send(settlement);
    }
}

fn release(claimed: Claimed) -> Settlement {
    Settlement { verdict: Verdict::Release(claimed.delivery.lease()), lease: claimed.lease }
}

/// What running a handler once takes along.
struct Attempt {
    queue: Queue,
    handler: SharedHandler,
    max_handler_time: Duration,
    /// Held by a suspect while it runs.
    _alone: Option<OwnedSemaphorePermit>,
}

impl Attempt {
    async fn run(self, claimed: Claimed) -> Settlement {
        if claimed.is_watched() {
            // Stale, or Redis is away: either way somebody else may have it by the time it would be done.
            let Ok(Settled::Done) = self.queue.begin(&claimed.delivery.lease()).await else {
                return release(claimed);
            };
        }
        fault::point(Side::Before, "handler");
        let outcome = self.handle(&claimed.delivery).await;
        fault::point(Side::After, "handler");
        let verdict = match outcome {
            Outcome::Done => Verdict::Ack(claimed.delivery.lease()),
            Outcome::Retry { error, after } => Verdict::Retry { delivery: claimed.delivery, error, after },
            Outcome::Dead { error } => Verdict::Bury(Rejected {
                id: claimed.delivery.id.as_str().into(),
                token: claimed.delivery.token,
                reason: "rejected",
                error,
            }),
        };
        Settlement { verdict, lease: claimed.lease }
    }

    async fn handle(&self, delivery: &Delivery) -> Outcome {
        // The call is inside too: a handler may panic before it has made its future.
        let handled = AssertUnwindSafe(async { self.handler.handle_dyn(delivery).await }).catch_unwind();
        match tokio::time::timeout(self.max_handler_time, handled).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Outcome::retry(format!("handler panicked: {}", panic_message(&*panic))),
            Err(_) => {
                let limit = duration::format(self.max_handler_time);
                Outcome::retry(format!("handler took longer than max_handler_time ({limit})"))
            }
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
