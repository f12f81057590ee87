//! Runs a queue: polls it, hands what is due to the handler or the sink, and settles the outcomes.
//!
//! ```text
//!  poller --claims--> worker --outcomes--> settler --ack, retry, bury, release--> Redis
//!    ^                  |                     |
//!    +---- room --------+---------------------+        keeper: extends the leases of what is in flight
//! ```
//!
//! All four are tasks of one process that share one multiplexed connection, so acks and the next claim travel
//! together. Any number of processes can run the same queue: the scripts keep them apart.

mod breaker;
mod keeper;
mod load;
mod poller;
mod settings;
mod settler;
mod trimmer;
mod trouble;
mod worker;

use std::{sync::Arc, time::Duration};

pub(crate) use poller::{Source, Ticked, run as poll};
pub use settings::Settings;
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
pub struct Scheduler {
    queue: Queue,
    settings: watch::Receiver<Settings>,
    target: Target,
    drain_timeout: Duration,
}

/// Where what is due goes.
enum Target {
    /// To a handler in this process, under a lease.
    Handler(SharedHandler),
    /// To a place in Redis, inside the claiming script.
    Sink(Sink),
}

impl Scheduler {
    /// Delivers `queue` to `handler`.
    pub fn new(queue: Queue, settings: Settings, handler: impl Handler) -> Self {
        Self::watching(queue, fixed(settings), Arc::new(handler))
    }

    /// Delivers `queue` to its stream or list `fired`: claim, delivery and removal are one atomic step.
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
        Self { queue, settings, target: Target::Handler(handler), drain_timeout: default_drain_timeout() }
    }

    /// As [`Scheduler::to_sink`], with settings that may change while it runs.
    pub(crate) fn watching_to_sink(queue: Queue, settings: watch::Receiver<Settings>, sink: Sink) -> Self {
        Self { queue, settings, target: Target::Sink(sink), drain_timeout: default_drain_timeout() }
    }

    /// How long handlers that run may go on after the stop, before they are dropped and given back.
    #[must_use]
    pub fn drain_timeout(self, drain_timeout: Duration) -> Self {
        Self { drain_timeout, ..self }
    }

    /// Runs until `stop` is cancelled, through every error of Redis. Then claims nothing more, gives back
    /// what was not started, lets running handlers finish within the drain timeout, and settles all of it.
    pub async fn run(self, stop: CancellationToken) {
        match self.target {
            Target::Sink(sink) => {
                let source = poller::ToSink::new(self.queue.clone(), sink);
                poller::run(source, self.queue, self.settings, stop).await;
            }
            Target::Handler(handler) => {
                deliver(self.queue, self.settings, handler, self.drain_timeout, stop).await;
            }
        }
    }
}

fn default_drain_timeout() -> Duration {
    ServeConfig::default().drain_timeout
}

/// Settings that never change.
pub(crate) fn fixed(settings: Settings) -> watch::Receiver<Settings> {
    watch::Sender::new(settings.sound()).subscribe()
}

/// A few claims may wait for the worker to take them; `Load` bounds how many ids they hold.
const CLAIMS_AHEAD: usize = 4;

async fn deliver(
    queue: Queue,
    settings: watch::Receiver<Settings>,
    handler: SharedHandler,
    drain_timeout: Duration,
    stop: CancellationToken,
) {
    let leases = Arc::new(keeper::Leases::default());
    let breaker = Arc::new(breaker::Breaker::new(queue.name()));
    let (claims, claimed) = mpsc::channel(CLAIMS_AHEAD);
    // Never holds more than Load lets out.
    let (outcomes, settled) = mpsc::unbounded_channel();

    // Dropped, and so aborted, when this returns: it would extend leases without end.
    let mut keeper = JoinSet::new();
    keeper.spawn(keeper::run(queue.clone(), settings.clone(), Arc::clone(&leases)));

    let settler = settler::Settler::new(queue.clone(), settings.clone(), drain_timeout);
    let worker = worker::Worker {
        queue: queue.clone(),
        handler,
        settings: settings.clone(),
        breaker: Arc::clone(&breaker),
        suspect_runs: Arc::new(Semaphore::new(1)),
        outcomes,
        drain_timeout,
    };
    let source = poller::ToWorker { queue: queue.clone(), leases, breaker, claims, probing: false };
    // After the stop they end in this order, each when the one before it has dropped its end of their channel.
    let mut tasks = JoinSet::new();
    tasks.spawn(poller::run(source, queue, settings, stop.clone()));
    tasks.spawn(worker.run(claimed, stop.clone()));
    tasks.spawn(settler.run(settled, stop));
    while let Some(ended) = tasks.join_next().await {
        // Handlers' panics are caught, so this one is a bug of ours: passed on rather than run with a part.
        if let Err(cause) = ended {
            std::panic::resume_unwind(cause.into_panic());
        }
    }
}
