//! Runs a queue: polls it, hands what is due to the handler or the sink, and settles the outcomes.
//!
//! ```text
//!  poller --claims--> worker --outcomes--> settler --ack, retry, bury, release--> Redis
//!    ^                  |                     |
//!    +---- room --------+---------------------+        keeper: extends the leases of what is in flight
//! ```
//!
//! All four are tasks of one process, for each shard of the queue, that share one multiplexed connection, so acks and the next claim travel
//! together. Any number of processes can run the same queue: the scripts keep them apart.

mod alarm;
mod attempt;
mod breaker;
mod canary;
mod gather;
mod keeper;
mod load;
mod meter;
mod pace;
mod poller;
mod pulse;
mod settings;
mod settler;
mod shards;
#[cfg(feature = "otlp")]
mod span;
mod tasks;
mod trimmer;
mod trouble;
mod worker;

use std::{sync::Arc, time::Duration};

pub(crate) use meter::Timing;
pub use meter::{Fate, Histogram, Meter, Minute, Rate, Totals};
pub(crate) use poller::{Source, Ticked, run as poll};
pub use pulse::{Losses, Pulse};
pub use settings::Settings;
use shards::Shard;
#[cfg(feature = "otlp")]
pub(crate) use span::start as start_spans;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::ServeConfig,
    handler::{Handler, SharedHandler},
    queue::{Queue, Sink},
};

/// Delivers one queue until it is told to stop.
///
/// ```no_run
/// use overdue::{handler::{Outcome, handler_fn}, queue::Queue, scheduler::{Scheduler, Settings}};
/// use tokio_util::sync::CancellationToken;
///
/// # async fn example(queue: Queue) {
/// let stop = CancellationToken::new();
/// let handler = handler_fn(|delivery| async move {
///     println!("{} is {:?} late", delivery.id, delivery.lateness());
///     Outcome::Done
/// });
/// let scheduler = Scheduler::new(queue, Settings::default(), handler);
/// let pulse = scheduler.pulse();
/// let running = tokio::spawn(scheduler.run(stop.clone()));
/// println!("{} ids a second", pulse.meter().now().fired_per_second);
/// stop.cancel();
/// running.await.unwrap();
/// # }
/// ```
pub struct Scheduler {
    queue: Queue,
    settings: watch::Receiver<Settings>,
    target: Target,
    drain_timeout: Duration,
    pulse: Pulse,
}

/// Where what is due goes.
#[derive(Clone)]
enum Target {
    /// To a handler in this process, under a lease.
    Handler(SharedHandler),
    /// To a place in Redis, inside the claiming script.
    Sink(Sink),
    /// To nobody here: workers outside claim it.
    Pull,
}

impl Scheduler {
    /// Delivers `queue` to `handler`.
    pub fn new(queue: Queue, settings: Settings, handler: impl Handler) -> Self {
        Self::watching(queue, fixed(settings), Arc::new(handler))
    }

    /// Delivers `queue` to its stream or list `fired`: claim, delivery and removal are one atomic step.
    ///
    /// ```no_run
    /// use overdue::{queue::{Queue, Sink, SinkKind}, scheduler::{Scheduler, Settings}};
    ///
    /// # fn example(queue: Queue) -> Scheduler {
    /// Scheduler::to_sink(queue, Settings::default(), Sink { kind: SinkKind::Stream, max_len: None })
    /// # }
    /// ```
    #[must_use]
    pub fn to_sink(queue: Queue, settings: Settings, sink: Sink) -> Self {
        Self::watching_to_sink(queue, fixed(settings), sink)
    }

    /// As [`Scheduler::new`], with settings that may change while it runs.
    pub(crate) fn watching(
        queue: Queue,
        settings: watch::Receiver<Settings>,
        handler: SharedHandler,
    ) -> Self {
        Self::with(queue, settings, Target::Handler(handler))
    }

    /// As [`Scheduler::to_sink`], with settings that may change while it runs.
    pub(crate) fn watching_to_sink(queue: Queue, settings: watch::Receiver<Settings>, sink: Sink) -> Self {
        Self::with(queue, settings, Target::Sink(sink))
    }

    /// Delivers nothing, for a queue that workers outside claim from; does what else a queue needs: sets aside what
    /// can never fire, and keeps the dead set within its retention.
    pub(crate) fn watching_for_pull(queue: Queue, settings: watch::Receiver<Settings>) -> Self {
        Self::with(queue, settings, Target::Pull)
    }

    fn with(queue: Queue, settings: watch::Receiver<Settings>, target: Target) -> Self {
        let drain_timeout = ServeConfig::default().drain_timeout;
        Self { queue, settings, target, drain_timeout, pulse: Pulse::default() }
    }

    /// How long handlers that run may go on after the stop, before they are dropped and given back.
    #[must_use]
    pub fn drain_timeout(self, drain_timeout: Duration) -> Self {
        Self { drain_timeout, ..self }
    }

    /// Shows whether it polls with success, while it runs.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Runs until `stop` is cancelled, through every error of Redis. Then claims nothing more, gives back
    /// what was not started, lets running handlers finish within the drain timeout, and settles all of it.
    pub async fn run(self, stop: CancellationToken) {
        let Self { queue, settings, target, drain_timeout, pulse } = self;
        shards::run(queue, settings, pulse, stop, |shard| target.clone().deliver(shard, drain_timeout)).await;
    }
}

impl Target {
    async fn deliver(self, shard: Shard, drain_timeout: Duration) {
        match self {
            Self::Sink(sink) => shard.poll(poller::ToSink::new(shard.queue.clone(), sink)).await,
            Self::Pull => shard.poll(poller::ToNobody::new(shard.queue.clone())).await,
            Self::Handler(handler) => deliver(shard, handler, drain_timeout).await,
        }
    }
}

impl Shard {
    fn poll(&self, source: impl Source) -> impl Future<Output = ()> + Send {
        let Self { queue, settings, pulse, stop } = self;
        poller::run(source, queue.clone(), settings.clone(), pulse.clone(), stop.clone())
    }
}

/// Settings that never change.
pub(crate) fn fixed(settings: Settings) -> watch::Receiver<Settings> {
    watch::Sender::new(settings.sound()).subscribe()
}

/// A few claims may wait for the worker to take them; `Load` bounds how many ids they hold.
const CLAIMS_AHEAD: usize = 4;

async fn deliver(shard: Shard, handler: SharedHandler, drain_timeout: Duration) {
    let Shard { queue, settings, pulse, stop } = shard;
    let leases = Arc::new(keeper::Leases::default());
    let breaker = Arc::new(breaker::Breaker::new(queue.name()));
    let (claims, claimed) = mpsc::channel(CLAIMS_AHEAD);
    // Never holds more than Load lets out.
    let (outcomes, settled) = mpsc::unbounded_channel();

    // Dropped, and so aborted, when this returns: it would extend leases without end.
    let mut keeper = JoinSet::new();
    keeper.spawn(keeper::run(queue.clone(), settings.clone(), Arc::clone(&leases), pulse.meter().clone()));

    let meter = pulse.meter().clone();
    let settler = settler::Settler::new(queue.clone(), settings.clone(), drain_timeout, meter.clone());
    let worker = worker::Worker {
        queue: Arc::new(queue.clone()),
        handler,
        settings: settings.clone(),
        breaker: Arc::clone(&breaker),
        suspect_runs: Arc::new(Semaphore::new(1)),
        outcomes,
        drain_timeout,
        meter: meter.clone(),
    };
    let source = poller::ToWorker { queue: queue.clone(), leases, breaker, claims, meter, probing: false };
    // After the stop they end in this order, each when the one before it has dropped its end of their channel.
    let mut tasks = JoinSet::new();
    tasks.spawn(poller::run(source, queue, settings, pulse, stop.clone()));
    tasks.spawn(worker.run(claimed, stop.clone()));
    tasks.spawn(settler.run(settled, stop));
    while let Some(ended) = tasks.join_next().await {
        shards::pass_on(ended);
    }
}
