//! The configuration: what `config/overdue.toml`, a file, the environment and flags say, merged and checked.
//!
//! # Layout
//! - this file: the checked result, which is right by construction from [`Config::load`] on
//! - `load`: where the layers come from and how they are merged
//! - `raw`: what a layer may say, every key optional
//! - `check`: raw to checked; bounds and contradictions
//! - `origin`: which layer said it, for messages
//! - `http`: section `[http]`, and tokens, which are never shown
//! - `redis`: section `[redis]`; `redis_url`: a url, which never shows its password
//! - `webhook`: the keys of that handler; its url and secrets, which are never shown whole
//!
//! Defaults stand in [`REFERENCE`] and not in Rust, but for those of handler types that it does not choose.

mod check;
mod error;
#[cfg(test)]
mod fuzz;
mod http;
mod load;
mod origin;
mod raw;
mod redis;
mod redis_url;
#[cfg(test)]
mod tests;
mod webhook;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use serde::{Serialize, Serializer};

pub(crate) use self::load::is_setting;
pub use self::{
    error::ConfigError,
    http::{HttpConfig, Scope, TlsConfig, TokenConfig, TokenDigest},
    load::Sources,
    redis::{Password, RedisConfig, RedisTlsConfig},
    redis_url::RedisUrl,
    webhook::{Secret, WebhookConfig, WebhookUrl},
};
use crate::{
    duration,
    types::{Companion, Durability, QueueName},
};

/// The commented reference configuration, and the source of every default.
pub const REFERENCE: &str = include_str!("../../config/overdue.toml");

/// The default of a handler's `timeout`. The reference has it in a comment only, since its handler, which is the
/// template of all, is of a type that knows no timeout.
pub const HANDLER_TIMEOUT: Duration = Duration::from_secs(15);

/// The effective configuration. It serializes in the shape of the file, with secrets hidden.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// Section `[redis]`.
    pub redis: RedisConfig,
    /// Section `[http]`.
    pub http: HttpConfig,
    /// Section `[log]`.
    pub log: LogConfig,
    /// Section `[serve]`.
    pub serve: ServeConfig,
    /// The queues to serve, at least one: sections `[queue.NAME]`.
    #[serde(rename = "queue")]
    pub queues: BTreeMap<QueueName, QueueConfig>,
    /// The file that was read, if there was one.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// False if the user named no queue, so that `queues` holds just the reference's `orders`.
    #[serde(skip)]
    pub queues_configured: bool,
}

impl Config {
    /// The effective configuration as TOML with secrets hidden. Where there is no secret, it loads again to
    /// the same values.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("tables of text and numbers always have a TOML form")
    }
}

impl Default for Config {
    /// The reference configuration alone, whatever files lie about.
    fn default() -> Self {
        // Read once: it takes about a millisecond, and every default value comes through here.
        static REFERENCE_ALONE: LazyLock<Config> = LazyLock::new(|| {
            load::load(&Sources::default(), &[])
                .expect("a test holds that the reference configuration is valid")
        });
        REFERENCE_ALONE.clone()
    }
}

impl Default for ServeConfig {
    fn default() -> Self {
        Config::default().serve
    }
}

impl Default for OrderConfig {
    fn default() -> Self {
        QueueConfig::default().order
    }
}

impl Default for QueueConfig {
    fn default() -> Self {
        let orders = Config::default().queues.into_values().next();
        orders.expect("the reference configuration holds one queue")
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogConfig {
    /// Directives of a tracing `EnvFilter`: a level, or levels by module. They have been parsed once.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for collectors.
    Json,
}

/// The `serve` command.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServeConfig {
    /// How long running handlers may finish at shutdown, above 0.
    #[serde(serialize_with = "duration_as_text")]
    pub drain_timeout: Duration,
}

/// One queue. SIGHUP reloads all of it but the handler, and what says so.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueueConfig {
    /// Longest pause between two polls, 1 ms to 1 h.
    #[serde(serialize_with = "duration_as_text")]
    pub poll_interval: Duration,
    /// Ids that one claim takes at most, 1 to 1000.
    pub batch_size: usize,
    /// Deliveries in flight at once, 1 to 10000.
    pub concurrency: usize,
    /// How long a claimed id belongs to its process unless extended, three poll intervals to 24 h.
    #[serde(serialize_with = "duration_as_text")]
    pub lease: Duration,
    /// How many attempts may fail before the id is moved to the dead set, at least 1.
    pub max_attempts: u32,
    /// How many times the process of an id may die while it is known to run, before it is moved to the dead
    /// set, at least 1.
    pub max_crashes: u32,
    /// How long one attempt may take before it counts as failed, above 0.
    #[serde(serialize_with = "duration_as_text")]
    pub max_handler_time: Duration,
    /// Ids a second that all processes together take at most; `None` = no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<u32>,
    /// Over how many shards `serve` spreads the queue if it never was before, 1 to 64. SIGHUP does not reload it.
    pub shards: u16,
    /// The pause before the next attempt.
    pub backoff: Backoff,
    /// When to stop claiming because attempts only fail.
    pub circuit_breaker: CircuitBreaker,
    /// How long dead ids are kept, at least 1 h; `None` = until somebody removes them.
    #[serde(serialize_with = "optional_duration_as_text", skip_serializing_if = "Option::is_none")]
    pub dead_retention: Option<Duration>,
    /// What registrations, moves and cancels reach before they count as done. SIGHUP does not reload it.
    pub durability: Durability,
    /// For a queue of orders.
    pub order: OrderConfig,
    /// What happens to a deadline that fired.
    pub handler: HandlerConfig,
}

/// What holds for the orders of a queue. SIGHUP does not reload it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OrderConfig {
    /// By when an order must be paid that is created without a deadline, above 0.
    #[serde(serialize_with = "duration_as_text")]
    pub timeout: Duration,
    /// How long an order is kept once it is paid, cancelled or expired, at least 1 min and ten leases; `None` = for
    /// ever.
    #[serde(serialize_with = "optional_duration_as_text", skip_serializing_if = "Option::is_none")]
    pub retain: Option<Duration>,
    /// How many submitted orders may wait to be created, at least 1.
    pub intake_limit: u64,
    /// How many events are kept, about; `None` = all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_events: Option<u64>,
}

/// Stops claiming while a handler only fails, so that an endpoint that is down does not use up attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CircuitBreaker {
    /// How many attempts in a row, of whatever ids, must fail to open it; 0 = never.
    pub failures: u32,
    /// How long it stays open before one id is tried, above 0.
    #[serde(serialize_with = "duration_as_text")]
    pub pause: Duration,
}

/// Exponential backoff with jitter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backoff {
    /// The pause after the first failure.
    #[serde(serialize_with = "duration_as_text")]
    pub initial: Duration,
    /// The longest pause before jitter, at least `initial`.
    #[serde(serialize_with = "duration_as_text")]
    pub max: Duration,
    /// What the pause is multiplied with after each further failure; finite, at least 1.
    pub factor: f64,
    /// The largest share of the pause that is added or taken away at random, 0 to 1.
    pub jitter: f64,
}

impl Backoff {
    /// The pause after `failures` failures in a row (0 counts as 1). `random` is 0 to 1: at 0 the full jitter
    /// is taken away, at 1 it is added, which may exceed `max` by that share.
    #[must_use]
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        // The power overflows to infinity, and zero times infinity is no number: hence the first cap.
        let growth = self.factor.powf(f64::from(failures.saturating_sub(1))).min(f64::MAX);
        let pause_s = (self.initial.as_secs_f64() * growth).min(self.max.as_secs_f64());
        let spread = self.jitter * (2.0 * random.clamp(0.0, 1.0) - 1.0);
        Duration::try_from_secs_f64(pause_s * (1.0 + spread)).unwrap_or(self.max)
    }
}

/// What happens to a deadline that fired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum HandlerConfig {
    /// A line in the log.
    Log,
    /// A signed HTTP call.
    Webhook(Box<WebhookConfig>),
    /// An entry in the queue's stream `fired`, added by the script that claims.
    Stream {
        /// How many entries the stream keeps; `None` = all.
        #[serde(skip_serializing_if = "Option::is_none")]
        max_len: Option<u64>,
    },
    /// A JSON element in the queue's list `fired`, added by the script that claims.
    List {
        /// How many elements the list keeps; `None` = all.
        #[serde(skip_serializing_if = "Option::is_none")]
        max_len: Option<u64>,
    },
    /// A program that is run.
    Command(CommandConfig),
    /// The order of this id expires, inside one script.
    Order {
        /// Who is told of it afterwards: `Log`, `Webhook` or `Command`.
        #[serde(skip_serializing_if = "Option::is_none")]
        notify: Option<Box<HandlerConfig>>,
    },
    /// Workers come for it over HTTP.
    Pull,
}

impl HandlerConfig {
    /// Its `type`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Webhook(_) => "webhook",
            Self::Stream { .. } => "stream",
            Self::List { .. } => "list",
            Self::Command(_) => "command",
            Self::Order { .. } => "order",
            Self::Pull => "pull",
        }
    }

    /// What `serve` delivers for a queue with this handler: the queue, and its companions if it is one of orders.
    #[must_use]
    pub fn queues(&self, name: &QueueName) -> Vec<QueueName> {
        let mut names = vec![name.clone()];
        if let Self::Order { notify } = self {
            names.push(name.companion(Companion::Intake));
            names.extend(notify.as_ref().map(|_| name.companion(Companion::Notify)));
        }
        names
    }
}

/// A program that is run for each deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommandConfig {
    /// The program and its arguments: at least one word, the first not empty, none with a NUL character.
    pub command: Vec<String>,
    /// How long it may run, above 0.
    #[serde(serialize_with = "duration_as_text")]
    pub timeout: Duration,
    /// The exit codes that no further attempt can mend; neither 0 nor 75.
    pub dead_exit_codes: Vec<u8>,
}

fn duration_as_text<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&duration::format(*value))
}

fn optional_duration_as_text<S: Serializer>(
    value: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.map(duration::format).serialize(serializer)
}

fn path_as_text<S: Serializer>(value: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&value.display())
}
