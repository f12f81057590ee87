//! The poll loop: do all that is due, learn when to look again, sleep until then.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Settings,
    keeper::Leases,
    load::Load,
    trimmer::Trimmer,
    trouble::Trouble,
    worker::{Claimed, Work},
};
use crate::{
    error::Result,
    queue::{Queue, Rejected},
    types::{DueAt, ServerTime},
};

/// What one tick learned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticked {
    /// The instant of the claim, by the clock of Redis.
    now: ServerTime,
    /// How much of what it was allowed to.
    taken: Taken,
    /// The earliest deadline that is still pending.
    next: Option<DueAt>,
    /// How many entries have an impossible score.
    impossible: u64,
}

/// How much a tick took.
#[derive(Debug, Clone, Copy)]
enum Taken {
    None,
    Some,
    /// As much as it was allowed to: more may be due.
    All,
}

impl Taken {
    fn new(count: usize, limit: usize) -> Self {
        match count {
            0 => Self::None,
            _ if count < limit => Self::Some,
            _ => Self::All,
        }
    }
}

/// Where the poller takes from and gives to: a handler's worker, or an in-Redis sink.
pub(super) trait Source: Send {
    /// Waits until there is room, and answers for how many ids. Dropping the future loses nothing.
    fn room(&self, settings: &Settings) -> impl Future<Output = usize> + Send;

    /// Takes at most `limit` due ids.
    fn tick(&mut self, limit: usize, settings: &Settings) -> impl Future<Output = Result<Ticked>> + Send;
}

/// Polls until `stop` is cancelled; outlives every error.
pub(super) async fn run(
    mut source: impl Source,
    queue: Queue,
    mut settings: watch::Receiver<Settings>,
    stop: CancellationToken,
) {
    let mut trouble = Trouble::new(queue.name(), "poll");
    let mut trimmer = Trimmer::default();
    loop {
        let current = settings.borrow_and_update().clone();
        let limit = tokio::select! {
            () = stop.cancelled() => return,
            limit = source.room(&current) => limit,
        };
        let pause = match poll(&mut source, limit, &current, &queue, &mut trimmer).await {
            Ok(pause) => {
                trouble.recovered();
                pause
            }
            Err(error) => trouble.failed(&error),
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            Ok(()) = settings.changed() => {}
        }
    }
}

/// One tick, and how long to sleep after it.
async fn poll(
    source: &mut impl Source,
    limit: usize,
    settings: &Settings,
    queue: &Queue,
    trimmer: &mut Trimmer,
) -> Result<Duration> {
    // Before the tick: behind it, it would delay the deadline that the pause is for.
    trimmer.trim(queue, settings).await?;
    let sent = Instant::now();
    let ticked = source.tick(limit, settings).await?;
    // Redis read its clock about half a round trip ago.
    let age = sent.elapsed() / 2;
    if ticked.impossible > 0 {
        let moved = queue.reject().await?;
        // None, if they wait for earlier deliveries of the same ids to end.
        if moved > 0 {
            let queue = queue.name();
            tracing::warn!(%queue, moved, "entries with an impossible score are now in the dead set");
        }
    }
    Ok(pause(&ticked, settings.poll_interval).saturating_sub(age))
}

/// Promise P8: sleep until the earliest pending deadline, at most one poll interval. A tick that left due ids
/// although it took some (its payloads were large) is followed at once; one that could take none of them,
/// because their earlier deliveries are still under way, is not.
fn pause(ticked: &Ticked, poll_interval: Duration) -> Duration {
    let until_next = ticked.next.map_or(poll_interval, |next| ticked.now.until(next));
    match ticked.taken {
        Taken::All => Duration::ZERO,
        Taken::Some if until_next.is_zero() => Duration::ZERO,
        Taken::None if until_next.is_zero() => poll_interval,
        Taken::Some | Taken::None => until_next.min(poll_interval),
    }
}

/// Takes due ids under a lease and passes them to the worker.
pub(super) struct ToWorker {
    queue: Queue,
    load: Arc<Load>,
    leases: Arc<Leases>,
    claims: mpsc::Sender<Vec<Work>>,
}

impl ToWorker {
    pub(super) fn new(
        queue: Queue,
        load: Arc<Load>,
        leases: Arc<Leases>,
        claims: mpsc::Sender<Vec<Work>>,
    ) -> Self {
        Self { queue, load, leases, claims }
    }
}

impl Source for ToWorker {
    async fn room(&self, settings: &Settings) -> usize {
        self.load.room(settings).await
    }

    async fn tick(&mut self, limit: usize, settings: &Settings) -> Result<Ticked> {
        let sent = Instant::now();
        let claim = self.queue.claim(limit, settings.lease).await?;
        let taken = claim.deliveries.len() + claim.unreadable.len();
        let ticked = Ticked {
            now: claim.now,
            taken: Taken::new(taken, limit),
            next: claim.next,
            impossible: claim.impossible,
        };
        let Some(token) = claim.token else { return Ok(ticked) };

        let lease = self.leases.hold(token, taken, sent + settings.lease);
        self.load.add(taken);
        let deliveries = claim
            .deliveries
            .into_iter()
            .map(|delivery| Work::Deliver(Claimed { delivery, lease: lease.clone() }));
        let unreadable = claim.unreadable.into_iter().map(|entry| {
            let rejected = Rejected { id: entry.id, token, reason: entry.reason, error: entry.error };
            Work::Bury(rejected, lease.clone())
        });
        let work = deliveries.chain(unreadable).collect();
        // Fails only when the worker panicked: the lease brings the ids back.
        let _ = self.claims.send(work).await;
        Ok(ticked)
    }
}

/// Hands due ids to the stream `fired`.
pub(super) struct ToStream {
    queue: Queue,
}

impl ToStream {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue }
    }
}

impl Source for ToStream {
    async fn room(&self, settings: &Settings) -> usize {
        settings.batch_size
    }

    async fn tick(&mut self, limit: usize, _: &Settings) -> Result<Ticked> {
        let fired = self.queue.fire_stream(limit).await?;
        if let Some(earliest) = fired.earliest {
            let lateness_ms = fired.now.since(earliest).as_millis() as u64;
            tracing::debug!(queue = %self.queue.name(), count = fired.count, lateness_ms, "fired to the stream");
        }
        Ok(Ticked {
            now: fired.now,
            taken: Taken::new(fired.count, limit),
            next: fired.next,
            impossible: fired.impossible,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL_INTERVAL: Duration = Duration::from_millis(100);

    fn pause_ms(next_in_ms: Option<i64>, taken: Taken) -> u64 {
        let now_ms = 1_767_225_600_000;
        let next = next_in_ms.map(|ms| DueAt::from_ms(now_ms + ms).unwrap());
        let ticked = Ticked { now: ServerTime::from_ms(now_ms), taken, next, impossible: 0 };
        pause(&ticked, POLL_INTERVAL).as_millis() as u64
    }

    #[test]
    fn sleeps_until_the_earliest_deadline_and_at_most_one_poll_interval() {
        for taken in [Taken::None, Taken::Some] {
            assert_eq!(pause_ms(Some(30), taken), 30);
            assert_eq!(pause_ms(Some(300), taken), 100);
            assert_eq!(pause_ms(None, taken), 100);
        }
    }

    #[test]
    fn a_tick_that_left_due_ids_is_followed_at_once() {
        assert_eq!(pause_ms(Some(300), Taken::All), 0);
        assert_eq!(pause_ms(Some(-5), Taken::Some), 0);
    }

    #[test]
    fn a_due_id_that_cannot_be_claimed_yet_makes_no_busy_loop() {
        assert_eq!(pause_ms(Some(-5), Taken::None), 100);
    }
}
