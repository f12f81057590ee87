//! Gives what is claimed to the handler: at most `concurrency` at once.

use std::{collections::VecDeque, iter, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinError,
};
use tokio_util::sync::CancellationToken;

use super::{
    Settings,
    attempt::{Attempt, Claimed, Ended},
    breaker::{Breaker, Sign},
    keeper::Share,
    meter::Meter,
    settler::{Settlement, Verdict},
    tasks::Tasks,
};
use crate::{
    handler::SharedHandler,
    queue::{Delivery, Queue, Rejected, Unreadable},
};

/// How long dropping handlers may take.
const DROP_LIMIT: Duration = Duration::from_secs(1);

/// What a claim gives the worker to do.
pub(super) struct Work {
    /// For the handler.
    pub(super) deliveries: Vec<Delivery>,
    /// Outside the contract: straight to the dead set.
    pub(super) unreadable: Vec<Unreadable>,
    /// The share of all of them in the lease.
    pub(super) share: Share,
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

    /// The next that need not be watched.
    fn pop_unwatched(&mut self) -> Option<Claimed> {
        if self.sound.front()?.is_watched() { None } else { self.sound.pop_front() }
    }

    /// What was taken out and is not begun after all.
    fn put_back(&mut self, rest: Vec<Claimed>) {
        rest.into_iter().rev().for_each(|claimed| self.sound.push_front(claimed));
    }

    fn drain(&mut self) -> impl Iterator<Item = Claimed> {
        self.suspects.drain(..).chain(self.sound.drain(..))
    }
}

pub(super) struct Worker {
    pub(super) queue: Arc<Queue>,
    pub(super) handler: SharedHandler,
    pub(super) settings: watch::Receiver<Settings>,
    pub(super) breaker: Arc<Breaker>,
    /// One permit, for the one suspect that may run.
    pub(super) suspect_runs: Arc<Semaphore>,
    pub(super) outcomes: mpsc::UnboundedSender<Vec<Settlement>>,
    pub(super) drain_timeout: Duration,
    pub(super) meter: Meter,
}

impl Worker {
    /// Runs until the stop; then gives back what was not started, and ends when what runs is finished and
    /// the poller is gone.
    pub(super) async fn run(mut self, mut claims: mpsc::Receiver<Work>, stop: CancellationToken) {
        let (mut waiting, mut tasks) = (Waiting::default(), Tasks::default());
        while !stop.is_cancelled() {
            self.start(&mut waiting, &mut tasks);
            tokio::select! {
                () = stop.cancelled() => {}
                ended = tasks.next() => {
                    self.settle(ended, &mut waiting, &mut tasks);
                    // Whatever else has ended by now: one pass of the loop for many.
                    while let Some(ended) = tasks.try_next() {
                        self.settle(ended, &mut waiting, &mut tasks);
                    }
                }
                Some(work) = claims.recv() => self.accept(work, &mut waiting),
                Ok(()) = self.settings.changed() => {}
            }
        }
        self.give_back(&mut waiting);
        tokio::join!(self.drain(&mut tasks), self.refuse(&mut claims));
    }

    fn accept(&self, work: Work, waiting: &mut Waiting) {
        let Work { deliveries, unreadable, mut share } = work;
        let token = share.token();
        let bury = |Unreadable { id, error, reason }| {
            let verdict = Verdict::Bury(Rejected { id, token, reason, error });
            Settlement { verdict, lease: share.split_one(), timing: None }
        };
        self.report(unreadable.into_iter().map(bury).collect());
        for delivery in deliveries {
            waiting.push(Claimed { delivery, lease: share.split_one() });
        }
    }

    fn start(&self, waiting: &mut Waiting, tasks: &mut Tasks) {
        if self.breaker.is_open() {
            self.give_back(waiting);
            return;
        }
        let (concurrency, max_handler_time) = {
            let settings = self.settings.borrow();
            (settings.concurrency, settings.max_handler_time)
        };
        while let free @ 1.. = tasks.free(concurrency) {
            let Some(claimed) = waiting.pop(self.suspect_runs.available_permits() == 0) else { return };
            let attempt = Attempt {
                queue: Arc::clone(&self.queue),
                handler: Arc::clone(&self.handler),
                max_handler_time,
            };
            if claimed.is_watched() {
                let alone = claimed.is_suspect().then(|| Arc::clone(&self.suspect_runs).try_acquire_owned());
                tasks.run_alone(attempt, claimed, alone.and_then(Result::ok));
            } else {
                let others = iter::from_fn(|| waiting.pop_unwatched());
                let several = iter::once(claimed).chain(others).take(tasks.several().min(free));
                tasks.run_several(attempt, several.collect());
            }
        }
    }

    fn give_back(&self, waiting: &mut Waiting) {
        self.report(waiting.drain().map(Claimed::release).collect());
    }

    /// Gives back a claim that was on its way when the stop came.
    async fn refuse(&self, claims: &mut mpsc::Receiver<Work>) {
        let mut waiting = Waiting::default();
        while let Some(work) = claims.recv().await {
            self.accept(work, &mut waiting);
            self.give_back(&mut waiting);
        }
    }

    /// Lets running handlers finish within the drain timeout. The rest is dropped; they were begun, so their
    /// leases run out and the next claim counts the attempt.
    async fn drain(&self, tasks: &mut Tasks) {
        let deadline = tokio::time::sleep(self.drain_timeout);
        tokio::pin!(deadline);
        let mut waiting = Waiting::default();
        while !tasks.is_empty() {
            tokio::select! {
                ended = tasks.next() => {
                    self.settle(ended, &mut waiting, tasks);
                    self.give_back(&mut waiting);
                }
                () = &mut deadline => {
                    tracing::warn!(dropped = tasks.deliveries(), "handlers outlasted drain_timeout");
                    tasks.abort(DROP_LIMIT).await;
                    return;
                }
            }
        }
    }

    fn settle(&self, ended: Result<Ended, JoinError>, waiting: &mut Waiting, tasks: &mut Tasks) {
        match ended {
            Ok(Ended { settled, pending, rest, was_quick }) => {
                tasks.adapt(was_quick);
                if let Some(running) = pending {
                    tasks.go_on(running);
                }
                waiting.put_back(rest);
                settled.iter().for_each(|settlement| self.note(&settlement.verdict));
                self.meter.handled(settled.iter().filter_map(|settlement| settlement.timing));
                self.report(settled);
            }
            // Panics of handlers are caught in the task, so this is one in dropping a handler, or ours. The shares
            // in leases are dropped with the task, and the leases bring the ids back.
            Err(cause) => tracing::error!(%cause, "a delivery task ended without an outcome"),
        }
    }

    fn note(&self, verdict: &Verdict) {
        let sign = match verdict {
            Verdict::Ack(_) | Verdict::Bury(_) => Sign::Up,
            Verdict::Retry { .. } => Sign::Down,
            Verdict::Release(_) => Sign::None,
        };
        self.breaker.note(sign, &self.settings.borrow().circuit_breaker);
    }

    fn report(&self, settled: Vec<Settlement>) {
        if !settled.is_empty() {
            // Fails only when the settler panicked: the leases bring the ids back.
            let _ = self.outcomes.send(settled);
        }
    }
}
