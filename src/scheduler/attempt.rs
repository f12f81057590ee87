//! Runs handlers: for one delivery, or for several one after the other in one task, as long as they are quick.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, poll};

use super::{
    Timing,
    keeper::Share,
    settler::{Settlement, Verdict},
};
use crate::{
    duration,
    fault::{self, Side},
    handler::{Outcome, SharedHandler},
    queue::{Delivery, Queue, Rejected, Settled},
};

/// A handler that comes to its end at once, and within this time, is quick. A task of its own costs about 1 µs.
const QUICK: Duration = Duration::from_micros(10);

/// A delivery and its share in the lease.
pub(super) struct Claimed {
    pub(super) delivery: Delivery,
    pub(super) lease: Share,
}

impl Claimed {
    /// True if a delivery of the id was lost before: it is noted when it begins, in case it is the cause.
    pub(super) fn is_watched(&self) -> bool {
        self.delivery.is_after_a_loss()
    }

    /// True if its process died while it was running. It runs alone among its like, so that the next death
    /// tells the cause from the bystanders.
    pub(super) fn is_suspect(&self) -> bool {
        self.delivery.kills > 0
    }

    /// Back to the queue, as it was not started.
    pub(super) fn release(self) -> Settlement {
        Settlement { verdict: Verdict::Release(self.delivery.lease()), lease: self.lease, timing: None }
    }
}

/// A delivery whose handler has begun.
pub(super) type Running = Pin<Box<dyn Future<Output = Settlement> + Send>>;

/// How a task ended.
#[derive(Default)]
pub(super) struct Ended {
    pub(super) settled: Vec<Settlement>,
    /// Of several, the one that did not end at once: it goes on in a task of its own, and keeps nobody waiting.
    pub(super) pending: Option<Running>,
    /// Of several, those that were not begun, since the one before them was not quick.
    pub(super) rest: Vec<Claimed>,
    /// True if all were quick.
    pub(super) was_quick: bool,
}

/// What running a handler takes along.
#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) queue: Arc<Queue>,
    pub(super) handler: SharedHandler,
    pub(super) max_handler_time: Duration,
}

impl Attempt {
    /// Runs the handler for one after the other, as long as each is done at once; for a single one to its end.
    pub(super) async fn run_several(self, several: Vec<Claimed>) -> Ended {
        let mut ended = Ended { settled: Vec::with_capacity(several.len()), ..Ended::default() };
        let mut several = several.into_iter();
        let mut begun = Instant::now();
        while let Some(claimed) = several.next() {
            // A process that was stopped meanwhile: another one may have it already. Giving it back is refused as stale then.
            if !claimed.lease.is_live_at(begun) {
                ended.settled.push(claimed.release());
                continue;
            }
            let mut running: Running = Box::pin(self.clone().run(claimed, begun));
            let Poll::Ready(settlement) = poll!(&mut running) else {
                ended.rest = several.collect();
                if ended.settled.is_empty() && ended.rest.is_empty() {
                    ended.settled.push(running.await);
                } else {
                    ended.pending = Some(running);
                }
                return ended;
            };
            let is_done = matches!(settlement.verdict, Verdict::Ack(_));
            let took = settlement.timing.map_or(QUICK, |timing| timing.took);
            ended.settled.push(settlement);
            if !is_done || took > QUICK {
                ended.rest = several.collect();
                return ended;
            }
            begun += took;
        }
        ended.was_quick = true;
        ended
    }

    async fn run(self, claimed: Claimed, mut begun: Instant) -> Settlement {
        if claimed.is_watched() {
            // Stale, or Redis is away: either way somebody else may have it by the time it would be done.
            let Ok(Settled::Done) = self.queue.begin(&claimed.delivery.lease()).await else {
                return claimed.release();
            };
            begun = Instant::now();
        }
        fault::point(Side::Before, "handler");
        let outcome = self.handle(&claimed.delivery).await;
        fault::point(Side::After, "handler");
        let timing = timing(&claimed.delivery, begun);
        #[cfg(feature = "otlp")]
        let span = super::span::Unfinished::of(&claimed.delivery);
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
        #[cfg(feature = "otlp")]
        if let Some(span) = span {
            super::span::delivered(span, timing, &verdict);
        }
        Settlement { verdict, lease: claimed.lease, timing: Some(timing) }
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

/// Of a handler that was begun at an instant and has just ended.
fn timing(delivery: &Delivery, begun: Instant) -> Timing {
    let lateness = (delivery.attempt == 1).then(|| delivery.lateness_at(begun));
    Timing { lateness, took: begun.elapsed() }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
