//! What of a queue's configuration the scheduler goes by.

use std::time::Duration;

use crate::config::{Backoff, QueueConfig};

/// The tunable part of a queue: all of it can change while the scheduler runs.
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
    /// How long a failed id waits.
    pub backoff: Backoff,
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
            backoff: config.backoff.clone(),
            dead_retention: config.dead_retention,
        }
    }
}

impl Default for Settings {
    /// The values of the reference configuration, `config/overdue.toml`.
    fn default() -> Self {
        Self::from(&QueueConfig::default())
    }
}
