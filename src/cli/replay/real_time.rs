//! The replay in compressed real time: through a running scheduler, by the clock of Redis.

use std::{collections::HashSet, future::ready, time::Duration};

use anyhow::Context as _;
use indicatif::ProgressBar;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    orders::Order,
    tally::Tally,
    timeline::{Event, Kind, timeline},
};
use crate::{
    cli::interrupt::unless_interrupted,
    duration,
    error::Invalid,
    handler::{Outcome, handler_fn},
    queue::{Due, Queue, Registration},
    scheduler::{Scheduler, Settings},
    types::{DueAt, Id},
};

/// How long to wait for a deadline that has passed. Longer than a lease: a delivery that was lost comes back.
const PATIENCE: Duration = Duration::from_secs(30);

/// Plays all orders on the queue, which is empty, `speed` times faster than they happened.
pub(super) async fn play(
    queue: &Queue,
    orders: &[Order],
    speed: f64,
    bar: &ProgressBar,
) -> anyhow::Result<Tally> {
    let events = timeline(orders);
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(Tally::default()) };
    let first_due = orders[first.order].due_at;
    let last_due = orders.iter().map(|order| order.due_at).max().unwrap_or(first_due);
    let clock = Clock::start(queue, first.at, speed).await?;
    announce(&clock, last_due.max(last.at))?;
    let settings = settings(clock.since_first(first_due));
    bar.set_length(events.len() as u64);

    let (sender, fired) = unbounded_channel();
    let handler = handler_fn(move |delivery| {
        let lateness = delivery.lateness();
        // Fails only once the replay is over.
        let _ = sender.send((delivery.id, lateness));
        ready(Outcome::Done)
    });
    let stop = CancellationToken::new();
    let scheduler = tokio::spawn(Scheduler::new(queue.clone(), settings, handler).run(stop.clone()));
    let player = Player {
        queue,
        orders,
        events: &events,
        patient_until: clock.instant(last_due) + PATIENCE,
        clock,
        fired,
        known: HashSet::new(),
        tally: Tally::default(),
    };
    let played = unless_interrupted(player.play(bar)).await;
    // Stopped before the keys are removed, so that nothing is written after that.
    stop.cancel();
    scheduler.await.context("the scheduler panicked")?;
    played
}

/// The defaults, but never fewer than two polls in a timeout: a deadline that is registered a poll ahead fires
/// on time, and outside of a replay every timeout is far longer than a poll.
fn settings(timeout: Duration) -> Settings {
    let defaults = Settings::default();
    let poll_interval = defaults.poll_interval.min(timeout / 2).max(Duration::from_millis(1));
    Settings { poll_interval, ..defaults }
}

fn announce(clock: &Clock, last: DueAt) -> Result<(), Invalid> {
    let takes = clock.since_first(last);
    if takes > duration::MAX {
        return Err(Invalid::new("speed", clock.speed, "is too slow: the replay would take over 100 years"));
    }
    let happened = Duration::from_millis(u64::try_from(last.as_ms() - clock.first.as_ms()).unwrap_or(0));
    eprintln!("overdue: replaying {} in {}", rounded(happened), rounded(takes));
    Ok(())
}

/// For people: to whole seconds, unless it is short.
fn rounded(length: Duration) -> String {
    let whole = Duration::from_secs(length.as_secs_f64().round() as u64);
    duration::format(if length < Duration::from_secs(10) { length } else { whole })
}

/// Turns instants of the past into those of the replay.
struct Clock {
    first: DueAt,
    speed: f64,
    started: Instant,
    /// The start by the clock of Redis, rounded up and asked for after `started`: so a deadline is never
    /// ahead of a payment at the same instant.
    started_ms: i64,
}

impl Clock {
    async fn start(queue: &Queue, first: DueAt, speed: f64) -> anyhow::Result<Self> {
        let started = Instant::now();
        let started_ms = queue.redis().time().await?.as_ms() + 1;
        Ok(Self { first, speed, started, started_ms })
    }

    /// The time from the first event, compressed.
    fn since_first(&self, at: DueAt) -> Duration {
        let past_ms = (at.as_ms() - self.first.as_ms()) as f64;
        Duration::try_from_secs_f64(past_ms / 1000.0 / self.speed).unwrap_or(Duration::MAX)
    }

    /// By this machine's clock.
    fn instant(&self, at: DueAt) -> Instant {
        self.started + self.since_first(at)
    }

    /// By the clock of Redis, which decides when a deadline fires.
    fn deadline(&self, at: DueAt) -> Result<DueAt, Invalid> {
        let since_ms = self.since_first(at).as_secs_f64() * 1000.0;
        DueAt::from_ms(self.started_ms + since_ms.ceil() as i64)
    }
}

struct Player<'a> {
    queue: &'a Queue,
    orders: &'a [Order],
    /// What is still to happen.
    events: &'a [Event],
    clock: Clock,
    patient_until: Instant,
    fired: UnboundedReceiver<(Id, Duration)>,
    /// What fired already: at least once is more than once when a lease runs out.
    known: HashSet<Id>,
    tally: Tally,
}

impl Player<'_> {
    /// Ends when every order has expired or was paid in time; later payments change nothing.
    async fn play(mut self, bar: &ProgressBar) -> anyhow::Result<Tally> {
        while self.tally.settled() < self.orders.len() {
            let next = self.events.first().map(|event| self.clock.instant(event.at));
            tokio::select! {
                biased;
                Some((id, lateness)) = self.fired.recv() => self.note(id, lateness),
                () = sleep_until(next.unwrap_or(self.patient_until)) => {
                    if next.is_none() {
                        break; // and the check of the tally says what is missing
                    }
                    bar.inc(self.step().await? as u64);
                }
            }
        }
        Ok(self.tally)
    }

    fn note(&mut self, id: Id, lateness: Duration) {
        self.patient_until = self.patient_until.max(Instant::now() + PATIENCE);
        if self.known.insert(id.clone()) {
            self.tally.expired.push(id);
            self.tally.latenesses.push(lateness);
        }
    }

    /// Registers and cancels what it is time for; answers how many events these were.
    async fn step(&mut self) -> anyhow::Result<usize> {
        let now = Instant::now();
        let count = self.events.iter().take_while(|event| self.clock.instant(event.at) <= now).count();
        let (step, later) = self.events.split_at(count);
        self.events = later;
        // First all registrations, so that two calls are enough: an order is never paid before that.
        let (created, paid): (Vec<&Event>, Vec<&Event>) =
            step.iter().partition(|event| event.kind == Kind::Created);
        let mut registrations = Vec::with_capacity(created.len());
        for order in created.iter().map(|event| &self.orders[event.order]) {
            let due = Due::At(self.clock.deadline(order.due_at)?);
            registrations.push(Registration { id: order.id.clone(), due, payload: None });
        }
        let ids: Vec<Id> = paid.iter().map(|event| self.orders[event.order].id.clone()).collect();
        self.tally.register(self.queue, &registrations).await?;
        self.tally.cancel(self.queue, &ids).await?;
        Ok(count)
    }
}
