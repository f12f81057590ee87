//! The poll loop: do all that is due, learn when to look again, sleep until then.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Pulse, Settings, alarm::Alarm, breaker::Breaker, canary::Watcher, keeper::Leases, meter::Meter,
    pace::Pace, trimmer::Trimmer, trouble::Trouble, worker::Work,
};
use crate::{
    error::Result,
    queue::{ClaimOptions, Fired, Queue, Sighting, Sink, Watched},
    types::{DueAt, QueueName, ServerTime},
};

/// What one tick learned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticked {
    /// The instant of the claim, by the clock of Redis.
    pub(crate) now: ServerTime,
    /// How many ids were taken.
    pub(crate) taken: usize,
    /// True if more is due that can be taken at once.
    pub(crate) more: bool,
    /// When to look again.
    pub(crate) next: Option<DueAt>,
    /// How many entries have an impossible score.
    pub(crate) impossible: u64,
    /// What became of the canary.
    pub(crate) canary: Sighting,
    /// How many ids were handed over in the same step, as sinks and orders do it.
    pub(crate) handed_over: u64,
    /// The earliest deadline among these.
    pub(crate) earliest: Option<DueAt>,
}

/// Who took so many at once does not go by each deadline: claims of a few ids each would cost more than they bring. At 50,000
/// deadlines a second p99 of the lateness was 27 ms without this.
const MANY: usize = 16;
/// How long to wait then at least.
const GATHER: Duration = Duration::from_millis(1);

/// While there is no room nothing is polled, but data can be lost: the canary is looked at this often.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Where the poller takes from and gives to: a handler's worker, an in-Redis sink, or orders.
pub(crate) trait Source: Send {
    /// Waits until there is room, and answers for how many ids. Dropping the future loses nothing.
    fn room(&mut self, settings: &Settings) -> impl Future<Output = usize> + Send;

    /// Takes at most `limit` due ids.
    fn tick(&mut self, limit: usize, settings: &Settings) -> impl Future<Output = Result<Ticked>> + Send;
}

/// Polls until `stop` is cancelled; outlives every error.
pub(crate) async fn run(
    mut source: impl Source,
    queue: Queue,
    mut settings: watch::Receiver<Settings>,
    pulse: Pulse,
    stop: CancellationToken,
) {
    let mut trouble = Trouble::new(queue.name(), "poll", pulse.meter());
    let mut poll = Poll::new(queue.name(), pulse.clone());
    let alarm = Alarm::new();
    loop {
        let current = settings.borrow_and_update().clone();
        pulse.turn();
        pulse.busy(true);
        let limit = tokio::select! {
            () = stop.cancelled() => return,
            limit = source.room(&current) => limit,
            // The room is another one then.
            Ok(()) = settings.changed() => continue,
            () = tokio::time::sleep(WATCH_INTERVAL.max(current.poll_interval)) => {
                let begun = Instant::now();
                match poll.watch(&queue).await {
                    Ok(()) => trouble.recovered(),
                    Err(error) => drop(trouble.failed(&error, begun)),
                }
                continue;
            }
        };
        pulse.busy(false);
        let begun = Instant::now();
        let pause = match poll.once(&mut source, limit, &current, &queue).await {
            Ok(pause) => {
                pulse.beat();
                trouble.recovered();
                pause
            }
            Err(error) => trouble.failed(&error, begun),
        };
        if pause.is_zero() {
            // Even a sleep of no length waits for the next millisecond of the timer: a quarter of the ids a second.
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = alarm.sleep(pause) => {}
            Ok(()) = settings.changed() => {}
        }
    }
}

/// What polls remember of those before them.
struct Poll {
    meter: Meter,
    watcher: Watcher,
    trimmer: Trimmer,
    pace: Pace,
}

impl Poll {
    fn new(queue: &QueueName, pulse: Pulse) -> Self {
        let meter = pulse.meter().clone();
        Self {
            meter,
            watcher: Watcher::new(queue, pulse),
            trimmer: Trimmer::default(),
            pace: Pace::default(),
        }
    }

    /// One tick, and how long to sleep after it.
    async fn once(
        &mut self,
        source: &mut impl Source,
        limit: usize,
        settings: &Settings,
        queue: &Queue,
    ) -> Result<Duration> {
        // Before the tick: behind it, it would delay the deadline that the pause is for.
        self.trimmer.trim(queue, settings).await?;
        let sent = Instant::now();
        let ticked = source.tick(self.pace.limit(limit), settings).await?;
        let took = sent.elapsed();
        self.pace.note(took, ticked.taken);
        self.watcher.note(ticked.now, ticked.canary);
        self.meter.polled(took, ticked.now);
        let lateness = ticked.earliest.map(|earliest| ticked.now.since(earliest));
        self.meter.handed_over(ticked.handed_over, lateness);
        // Redis read its clock about half a round trip ago.
        let age = took / 2;
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

    /// Only looks whether the data is still there.
    async fn watch(&mut self, queue: &Queue) -> Result<()> {
        let sent = Instant::now();
        let Watched { now, canary, .. } = queue.watch().await?;
        self.watcher.note(now, canary);
        self.meter.polled(sent.elapsed(), now);
        Ok(())
    }
}

/// Promise P8: sleep until the next deadline, at most one poll interval. Due ids that could not be taken,
/// because their earlier deliveries are still under way, do not count: they wait for the next poll.
fn pause(ticked: &Ticked, poll_interval: Duration) -> Duration {
    if ticked.more {
        return Duration::ZERO;
    }
    let pause = ticked.next.map_or(poll_interval, |next| ticked.now.until(next).min(poll_interval));
    if ticked.taken >= MANY { pause.max(GATHER.min(poll_interval)) } else { pause }
}

/// Takes due ids under a lease and passes them to the worker.
pub(super) struct ToWorker {
    pub(super) queue: Queue,
    pub(super) leases: Arc<Leases>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) claims: mpsc::Sender<Work>,
    pub(super) meter: Meter,
    /// True if the next tick is to take one id, to see whether the handler is up again.
    pub(super) probing: bool,
}

impl Source for ToWorker {
    async fn room(&mut self, settings: &Settings) -> usize {
        let room = self.leases.load().room(settings).await;
        // Last, because it begins a probe: nothing is awaited, and so cancelled, between here and the tick.
        self.probing = self.breaker.pass().await;
        if self.probing { 1 } else { room }
    }

    async fn tick(&mut self, limit: usize, settings: &Settings) -> Result<Ticked> {
        let sent = Instant::now();
        let options = ClaimOptions {
            limit,
            lease: settings.lease,
            rate_limit: settings.rate_limit,
            max_crashes: Some(settings.max_crashes),
        };
        let claimed = self.queue.claim_with(options).await;
        let claim = claimed.inspect_err(|_| self.end_probe())?;
        let taken = claim.deliveries.len() + claim.unreadable.len();
        let (now, more, next) = (claim.now, claim.more, claim.next);
        let (impossible, canary) = (claim.impossible, claim.canary);
        let ticked = Ticked { now, taken, more, next, impossible, canary, handed_over: 0, earliest: None };
        self.meter.claimed(&claim.deliveries);
        if claim.deliveries.is_empty() {
            self.end_probe();
        }
        let Some(token) = claim.token else { return Ok(ticked) };

        let share = self.leases.hold(token, taken, sent + settings.lease);
        // Fails only when the worker panicked: the lease brings the ids back.
        let _ = self
            .claims
            .send(Work { deliveries: claim.deliveries, unreadable: claim.unreadable, share })
            .await;
        Ok(ticked)
    }
}

impl ToWorker {
    /// Nothing was taken that could tell whether the handler is up.
    fn end_probe(&self) {
        if self.probing {
            self.breaker.probe_found_nothing();
        }
    }
}

/// Hands due ids to a place in Redis.
pub(super) struct ToSink {
    queue: Queue,
    sink: Sink,
}

impl ToSink {
    pub(super) fn new(queue: Queue, sink: Sink) -> Self {
        Self { queue, sink }
    }
}

impl Source for ToSink {
    async fn room(&mut self, settings: &Settings) -> usize {
        settings.batch_size
    }

    async fn tick(&mut self, limit: usize, settings: &Settings) -> Result<Ticked> {
        let fired = self.queue.fire(self.sink, limit, settings.rate_limit).await?;
        if let Some(earliest) = fired.earliest {
            let lateness_ms = fired.now.since(earliest).as_millis() as u64;
            tracing::debug!(queue = %self.queue.name(), count = fired.count, lateness_ms, "fired");
        }
        let Fired { now, count, more, next, impossible, canary, earliest } = fired;
        Ok(Ticked { now, taken: count, more, next, impossible, canary, handed_over: count as u64, earliest })
    }
}

/// Takes nothing: workers outside do. It only looks how many entries are impossible, and whether data was lost.
pub(super) struct ToNobody(Queue);

impl ToNobody {
    pub(super) fn new(queue: Queue) -> Self {
        Self(queue)
    }
}

impl Source for ToNobody {
    async fn room(&mut self, _settings: &Settings) -> usize {
        0
    }

    async fn tick(&mut self, _limit: usize, _settings: &Settings) -> Result<Ticked> {
        let Watched { now, impossible, canary } = self.0.watch().await?;
        let (taken, handed_over) = (0, 0);
        Ok(Ticked { now, taken, more: false, next: None, impossible, canary, handed_over, earliest: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::queue::Canary;

    const POLL_INTERVAL: Duration = Duration::from_millis(100);

    fn pause_ms(next_in_ms: Option<i64>, taken: usize, more: bool) -> u64 {
        let now_ms = 1_767_225_600_000;
        let next = next_in_ms.map(|ms| DueAt::from_ms(now_ms + ms).unwrap());
        let now = ServerTime::from_ms(now_ms);
        let canary = Sighting { found: None, left: Canary { born_us: 1, count: 1, at: now } };
        let (impossible, handed_over) = (0, 0);
        let ticked = Ticked { now, taken, more, next, impossible, canary, handed_over, earliest: None };
        pause(&ticked, POLL_INTERVAL).as_millis() as u64
    }

    #[test]
    fn sleeps_until_the_next_deadline_and_at_most_one_poll_interval() {
        assert_eq!(pause_ms(Some(30), 1, false), 30);
        assert_eq!(pause_ms(Some(300), 1, false), 100);
        assert_eq!(pause_ms(None, 1, false), 100);
    }

    #[test]
    fn a_tick_that_left_due_ids_is_followed_at_once() {
        assert_eq!(pause_ms(Some(300), 500, true), 0);
    }

    #[test]
    fn where_many_are_due_each_millisecond_they_are_gathered() {
        assert_eq!(pause_ms(Some(0), MANY - 1, false), 0);
        assert_eq!(pause_ms(Some(0), MANY, false), 1);
        assert_eq!(pause_ms(Some(30), MANY, false), 30);
    }
}
