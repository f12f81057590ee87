//! What of a queue's configuration the scheduler goes by.

use std::time::Duration;

use crate::{
    config::{Backoff, CircuitBreaker, QueueConfig},
    queue::MAX_IDS_PER_CALL,
};

/// The tunable part of a queue: all of it can change while the scheduler runs.
///
/// ```
/// use overdue::scheduler::Settings;
/// use std::time::Duration;
///
/// let settings = Settings { poll_interval: Duration::from_secs(1), concurrency: 8, ..Settings::default() };
/// assert_eq!(settings.batch_size, 500);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The longest time between two polls.
    pub poll_interval: Duration,
    /// How many ids one claim takes at most; 1 to 1000.
    pub batch_size: usize,
    /// How many handlers run at once.
    pub concurrency: usize,
    /// How long a claim is held without being extended.
    pub lease: Duration,
    /// How many attempts may fail before the id is dead.
    pub max_attempts: u32,
    /// How many times the process of an id may die while it is known to run, before the id is dead.
    pub max_crashes: u32,
    /// How long one attempt may take before it counts as failed.
    pub max_handler_time: Duration,
    /// How many ids a second all processes together take at most.
    pub rate_limit: Option<u32>,
    /// How long a failed id waits.
    pub backoff: Backoff,
    /// When to stop claiming because attempts only fail.
    pub circuit_breaker: CircuitBreaker,
    /// How long dead ids are kept, at least an hour; `None` = until somebody removes them.
    pub dead_retention: Option<Duration>,
}

impl From<&QueueConfig> for Settings {
    fn from(config: &QueueConfig) -> Self {
        Self {
            poll_interval: config.poll_interval,
            batch_size: config.batch_size,
            concurrency: config.concurrency,
            lease: config.lease,
            max_attempts: config.max_attempts,
            max_crashes: config.max_crashes,
            max_handler_time: config.max_handler_time,
            rate_limit: config.rate_limit,
            backoff: config.backoff.clone(),
            circuit_breaker: config.circuit_breaker.clone(),
            dead_retention: config.dead_retention,
        }
    }
}

impl Settings {
    /// What a program passes in may be anything; the bounds of the configuration hold for it as well.
    pub(super) fn sound(self) -> Self {
        let poll_interval = self.poll_interval.max(Duration::from_millis(1));
        Self {
            poll_interval,
            batch_size: self.batch_size.clamp(1, MAX_IDS_PER_CALL),
            concurrency: self.concurrency.max(1),
            lease: self.lease.max(3 * poll_interval),
            max_attempts: self.max_attempts.max(1),
            max_crashes: self.max_crashes.max(1),
            rate_limit: self.rate_limit.map(|rate| rate.max(1)),
            ..self
        }
    }

    /// What each of so many shards gets of it.
    pub(super) fn shared_by(&self, shards: u16) -> Self {
        Self {
            concurrency: (self.concurrency / usize::from(shards)).max(1),
            rate_limit: self.rate_limit.map(|rate| (rate / u32::from(shards)).max(1)),
            ..self.clone()
        }
    }
}

impl Default for Settings {
    /// The values of the reference configuration, `config/overdue.toml`.
    fn default() -> Self {
        Self::from(&QueueConfig::default())
    }
}
