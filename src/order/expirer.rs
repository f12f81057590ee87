//! Expires what is due, on time whatever becomes of those who are told of it.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Orders,
    lifecycle::{ExpireOptions, MAX_ORDERS_PER_CALL},
};
use crate::{
    error::Result,
    scheduler::{self, Pulse, Settings, Source, Ticked},
};

/// How often to look for what is beyond its retention.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);
/// How far ahead a call names the next ids, at most: what is due later is named by a later call.
const MAX_HORIZON: Duration = Duration::from_secs(1);

/// Expires orders until it is told to stop: status, event and deadline change in one script.
pub struct Expirer {
    orders: Orders,
    notify: bool,
    max_events: Option<u64>,
    upcoming: Vec<Vec<u8>>,
    trimmed: Option<Instant>,
    pulse: Pulse,
}

impl Expirer {
    /// Expires `orders`.
    #[must_use]
    pub fn new(orders: Orders) -> Self {
        Self {
            orders,
            notify: false,
            max_events: None,
            upcoming: Vec::new(),
            trimmed: None,
            pulse: Pulse::default(),
        }
    }

    /// Whether each expired order is to be put into the queue that [`Notify`](super::Notify) is the handler of.
    #[must_use]
    pub fn notify(self, notify: bool) -> Self {
        Self { notify, ..self }
    }

    /// How many events are kept at most, older ones going first, read or not; none keeps all.
    #[must_use]
    pub fn max_events(self, max_events: Option<u64>) -> Self {
        Self { max_events, ..self }
    }

    /// Shows whether it polls with success, while it runs.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Runs until `stop` is cancelled, through every error of Redis.
    pub async fn run(self, settings: Settings, stop: CancellationToken) {
        self.watching(scheduler::fixed(settings), stop).await;
    }

    /// The same with settings that may change while it runs.
    pub(crate) async fn watching(self, settings: watch::Receiver<Settings>, stop: CancellationToken) {
        let (queue, pulse) = (self.orders.queue().clone(), self.pulse());
        scheduler::poll(self, queue, settings, pulse, stop).await;
    }

    /// At most once a minute, and with every tick as long as there is more than one call removes.
    async fn trim(&mut self) -> Result<()> {
        let keeps_all = self.orders.retain.is_none() && self.max_events.is_none();
        if keeps_all || self.trimmed.is_some_and(|trimmed| trimmed.elapsed() < TRIM_INTERVAL) {
            return Ok(());
        }
        let more = self.orders.trim(self.max_events).await?;
        self.trimmed = (!more).then(Instant::now);
        Ok(())
    }
}

impl Source for Expirer {
    async fn room(&mut self, settings: &Settings) -> usize {
        settings.batch_size.min(MAX_ORDERS_PER_CALL)
    }

    async fn tick(&mut self, limit: usize, settings: &Settings) -> Result<Ticked> {
        self.trim().await?;
        let options = ExpireOptions {
            limit,
            horizon: (settings.poll_interval * 2).min(MAX_HORIZON),
            rate_limit: settings.rate_limit,
            notify: self.notify,
        };
        let expired = self.orders.expire(&self.upcoming, &options).await?;
        let queue = self.orders.queue().name();
        if let Some(earliest) = expired.earliest {
            let lateness_ms = expired.now.since(earliest).as_millis() as u64;
            tracing::debug!(%queue, count = expired.expired, lateness_ms, "orders expired");
        }
        if expired.dropped > 0 {
            tracing::debug!(%queue, count = expired.dropped, "deadlines of settled orders dropped");
        }
        if expired.buried > 0 {
            tracing::warn!(%queue, moved = expired.buried, "ids without an order are now in the dead set");
        }
        self.upcoming = expired.upcoming;
        let (more, next, impossible) = (expired.more, expired.next, expired.impossible);
        let taken = expired.expired as usize;
        let (now, canary, earliest) = (expired.now, expired.canary, expired.earliest);
        let handed_over = expired.expired;
        Ok(Ticked { now, taken, more, next, impossible, canary, handed_over, earliest })
    }
}
