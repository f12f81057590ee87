//! Settles what was delivered: outcomes that are to be sent go out together.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Settings, Timing,
    gather::{Gathered, Part},
    keeper::Share,
    meter::{Fate, Meter},
    trouble::Trouble,
};
use crate::{
    error::Result,
    queue::{Delivery, Lease, MAX_FAILURES_PER_CALL, Queue, Rejected, Retried, Retry, Settled},
    types::{Token, printable},
};

/// How a delivery ended, and its share in the lease.
pub(super) struct Settlement {
    pub(super) verdict: Verdict,
    pub(super) lease: Share,
    /// How long it took; none if no handler ran.
    pub(super) timing: Option<Timing>,
}

/// What to tell the queue.
pub(super) enum Verdict {
    /// It is done.
    Ack(Lease),
    /// It failed and is to be tried again.
    Retry { delivery: Delivery, error: String, after: Option<Duration> },
    /// It is not to be tried again.
    Bury(Rejected),
    /// It was not started.
    Release(Lease),
}

pub(super) struct Settler {
    queue: Queue,
    settings: watch::Receiver<Settings>,
    drain_timeout: Duration,
    /// When outcomes that Redis does not take are given up; known from the stop on.
    give_up_at: Option<Instant>,
    trouble: Trouble,
    meter: Meter,
}

/// Outcomes that go out together, by verb.
#[derive(Default)]
struct Round {
    acks: Vec<Lease>,
    /// Claims of which all that is left is done, and how many ids that is. An ack of the claim costs Redis an
    /// eighth of what one of each id does.
    whole: Vec<(Token, usize)>,
    retries: Vec<Retry>,
    buried: Vec<Rejected>,
    released: Vec<Lease>,
}

impl Round {
    fn len(&self) -> usize {
        self.acks.len() + self.whole.len() + self.retries.len() + self.buried.len() + self.released.len()
    }
}

impl Settler {
    pub(super) fn new(
        queue: Queue,
        settings: watch::Receiver<Settings>,
        drain_timeout: Duration,
        meter: Meter,
    ) -> Self {
        let trouble = Trouble::new(queue.name(), "settle", &meter);
        Self { queue, settings, drain_timeout, give_up_at: None, trouble, meter }
    }

    /// Runs until the worker is gone and its outcomes are settled. After the stop, outcomes that Redis does
    /// not take within the drain timeout are given up: the leases bring those ids back.
    pub(super) async fn run(
        mut self,
        mut outcomes: mpsc::UnboundedReceiver<Vec<Settlement>>,
        stop: CancellationToken,
    ) {
        let mut gathered = Gathered::default();
        while let Some(mut parts) = gathered.next(&mut outcomes).await {
            let round = self.round(&mut parts);
            // The shares in the leases are held until Redis knows the outcomes.
            if self.settle(round, &stop).await {
                parts.into_iter().for_each(|part| part.share.settle());
            }
        }
    }

    fn round(&self, parts: &mut [Part]) -> Round {
        let mut round = Round::default();
        for Part { share, verdicts, .. } in parts {
            let is_whole = share.is_all_that_is_left(verdicts.len())
                && verdicts.iter().all(|verdict| matches!(verdict, Verdict::Ack(_)));
            if is_whole {
                round.whole.push((share.token(), verdicts.len()));
                continue;
            }
            for verdict in verdicts.drain(..) {
                match verdict {
                    Verdict::Ack(lease) => round.acks.push(lease),
                    Verdict::Release(lease) => round.released.push(lease),
                    Verdict::Bury(rejected) => round.buried.push(rejected),
                    Verdict::Retry { delivery, error, after } => {
                        let backoff =
                            || self.settings.borrow().backoff.delay(delivery.failures + 1, rand::random());
                        let delay = after.unwrap_or_else(backoff);
                        round.retries.push(Retry { lease: delivery.lease(), delay, error });
                    }
                }
            }
        }
        round
    }

    /// Tries until Redis has taken all of it; answers whether it did. What went through is not said again, except after
    /// a lost answer: then it answers stale, which does no harm.
    async fn settle(&mut self, mut round: Round, stop: &CancellationToken) -> bool {
        while round.len() > 0 {
            let begun = Instant::now();
            let Err(error) = self.try_settle(&mut round).await else {
                self.trouble.recovered();
                continue;
            };
            let pause = self.trouble.failed(&error, begun);
            if self.gives_up(stop) {
                let (queue, open) = (self.queue.name(), round.len());
                tracing::error!(%queue, open, cause = %error, "outcomes given up; the ids will be delivered again");
                return false;
            }
            tokio::time::sleep(pause).await;
        }
        true
    }

    /// True once the drain timeout has passed since the stop was first seen.
    fn gives_up(&mut self, stop: &CancellationToken) -> bool {
        let now = Instant::now();
        stop.is_cancelled() && now >= *self.give_up_at.get_or_insert(now + self.drain_timeout)
    }

    /// Sends one call of each verb; started together, so that they travel together.
    async fn try_settle(&self, round: &mut Round) -> Result<()> {
        let max_attempts = self.settings.borrow().max_attempts;
        let failures = round.retries.len().min(MAX_FAILURES_PER_CALL);
        let rejections = round.buried.len().min(MAX_FAILURES_PER_CALL);
        let tokens: Vec<Token> = round.whole.iter().map(|(token, _)| *token).collect();
        let (acked, acked_whole, retried, buried, released) = tokio::join!(
            self.queue.ack(&round.acks),
            self.queue.ack_claims(&tokens),
            self.queue.retry(&round.retries[..failures], max_attempts),
            self.queue.bury(&round.buried[..rejections]),
            self.queue.release(&round.released),
        );
        let results = [
            acked.map(|answers| {
                self.note("ack", Fate::Done, &answers);
                round.acks.clear();
            }),
            acked_whole.map(|counts| {
                let acked = round.whole.iter().map(|(_, acked)| acked).sum::<usize>();
                let done = counts.iter().sum();
                let stale = acked.saturating_sub(done);
                self.meter.settled(Fate::Done, done);
                self.meter.settled(Fate::Stale, stale);
                self.log_stale("ack", stale);
                round.whole.clear();
            }),
            retried.map(|answers| {
                self.note_retried(&round.retries, &answers);
                round.retries.drain(..failures);
            }),
            buried.map(|answers| {
                self.note("bury", Fate::Dead, &answers);
                self.log_buried(&round.buried, &answers);
                round.buried.drain(..rejections);
            }),
            released.map(|answers| {
                self.note("release", Fate::Released, &answers);
                round.released.clear();
            }),
        ];
        results.into_iter().collect()
    }

    fn note(&self, verb: &'static str, fate: Fate, answers: &[Settled]) {
        self.log_stale(verb, self.meter.answered(fate, answers));
    }

    /// Stale is what a second delivery, a cancel, or a repeated call after a lost answer looks like.
    fn log_stale(&self, verb: &'static str, stale: usize) {
        if stale > 0 {
            tracing::warn!(queue = %self.queue.name(), verb, stale, "stale: the lease was lost or the id cancelled");
        }
    }

    fn note_retried(&self, retries: &[Retry], answers: &[Retried]) {
        for (Retry { lease, error, .. }, answer) in retries.iter().zip(answers) {
            let (queue, id) = (self.queue.name(), &lease.id);
            self.meter.settled(Fate::of(*answer), 1);
            match answer {
                Retried::Scheduled { at } => {
                    tracing::info!(%queue, %id, next_attempt_at = %at, error, "attempt failed");
                }
                Retried::Dead => tracing::error!(%queue, %id, error, "attempts spent; now in the dead set"),
                Retried::Superseded => tracing::info!(%queue, %id, error, "attempt failed; registered anew"),
                Retried::Stale => {
                    tracing::warn!(%queue, %id, error, "attempt failed, and its lease was lost");
                }
            }
        }
    }

    fn log_buried(&self, rejected: &[Rejected], answers: &[Settled]) {
        for (Rejected { id, reason, error, .. }, answer) in rejected.iter().zip(answers) {
            if *answer == Settled::Done {
                let id = printable(id);
                tracing::error!(queue = %self.queue.name(), %id, reason, error, "now in the dead set");
            }
        }
    }
}
