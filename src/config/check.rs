//! Raw to checked. What a single layer cannot tell is decided here: bounds, contradictions, closed sets.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use super::{
    Backoff, CircuitBreaker, CommandConfig, ConfigError, HANDLER_TIMEOUT, HandlerConfig, LogConfig,
    LogFormat, OrderConfig, QueueConfig, ServeConfig, WebhookConfig,
    origin::Origins,
    raw::{
        RawBackoff, RawCircuitBreaker, RawDurability, RawDuration, RawHandler, RawLog, RawOrder, RawQueue,
        RawServe,
    },
};
use crate::{
    duration,
    error::Invalid,
    types::{Durability, DurabilityLevel, QueueName},
};

const POLL_INTERVAL_BOUNDS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);
/// With less, what died in the evening would be gone before anybody looks.
const MIN_DEAD_RETENTION: Duration = Duration::from_secs(3600);
const MAX_LEASE: Duration = Duration::from_secs(24 * 3600);
/// With less, an order could be gone before those who paid it learn that it is paid.
const MIN_RETAIN: Duration = Duration::from_secs(60);
/// With fewer, an order could be gone before its submission is delivered again, and would be created a second time.
const MIN_RETAIN_LEASES: u32 = 10;
/// With fewer, one late poll is enough for a healthy process to lose its lease.
const MIN_LEASE_POLLS: u32 = 3;
/// `unpack` in the claiming script is bounded by it.
const MAX_BATCH_SIZE: i64 = 1000;
const MAX_CONCURRENCY: i64 = 10_000;
const MAX_RATE_LIMIT: i64 = 1_000_000;
/// As `Shards::MAX` of the queue.
const MAX_SHARDS: i64 = 64;
const MAX_REPLICAS: i64 = 100;
/// `EX_TEMPFAIL` of sysexits.h: whoever exits with it asks for another attempt.
const EX_TEMPFAIL: u8 = 75;

type Result<T> = std::result::Result<T, ConfigError>;

/// A section of the merged configuration: it knows the way to its keys, for messages.
pub(super) struct Section<'a> {
    pub(super) origins: &'a Origins,
    path: Vec<&'a str>,
}

impl<'a> Section<'a> {
    pub(super) fn new(origins: &'a Origins, path: impl Into<Vec<&'a str>>) -> Self {
        Self { origins, path: path.into() }
    }

    pub(super) fn below(&self, name: &'a str) -> Self {
        let mut path = self.path.clone();
        path.push(name);
        Self { origins: self.origins, path }
    }

    fn key(&'a self, name: &'a str) -> Vec<&'a str> {
        self.below(name).path
    }

    pub(super) fn bad(&self, name: &str, why: impl Display) -> ConfigError {
        self.origins.error(&self.key(name), &[], &why.to_string())
    }

    /// `name` cannot be what it is because of `other`, whichever of them the user has set.
    pub(super) fn clash(&self, name: &str, other: &str, why: impl Display) -> ConfigError {
        self.origins.error(&self.key(name), &[&self.key(other)], &why.to_string())
    }

    pub(super) fn number<T: TryFrom<i64>>(
        &self,
        name: &str,
        value: i64,
        bounds: RangeInclusive<i64>,
    ) -> Result<T> {
        let checked = if bounds.contains(&value) { T::try_from(value).ok() } else { None };
        checked.ok_or_else(|| {
            self.bad(name, format!("is {value}; it must be {} to {}", bounds.start(), bounds.end()))
        })
    }

    pub(super) fn timeout(&self, name: &str, value: Option<RawDuration>) -> Result<Duration> {
        let RawDuration(timeout) = set(value);
        if timeout.is_zero() {
            return Err(self.bad(name, "is zero; it must be at least 1ms"));
        }
        Ok(timeout)
    }

    pub(super) fn one_of<T: Clone>(&self, name: &str, value: &str, choices: &[(&str, T)]) -> Result<T> {
        let chosen = choices.iter().find(|(word, _)| *word == value);
        chosen.map(|(_, choice)| choice.clone()).ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            self.bad(name, format!("is `{}`; this version knows {}", value.escape_debug(), words.join(", ")))
        })
    }
}

/// The value of a key that the reference sets, which a test holds. No layer can unset a key.
pub(super) fn set<T>(value: Option<T>) -> T {
    value.expect("config/overdue.toml sets every key that has a default")
}

pub(super) fn log(raw: RawLog, section: &Section<'_>) -> Result<LogConfig> {
    let level = set(raw.level);
    // A lone word that is no level would be a module to the filter, and everything else would fall silent.
    let known = if level.bytes().all(|b| b.is_ascii_alphanumeric()) {
        !level.is_empty() && level.parse::<LevelFilter>().is_ok()
    } else {
        EnvFilter::builder().parse(&level).is_ok()
    };
    if !known {
        let why = "it must be off, error, warn, info, debug or trace, or like `warn,overdue=debug`";
        return Err(section.bad("level", format!("is `{}`; {why}", level.escape_debug())));
    }
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = section.one_of("format", &set(raw.format), &formats)?;
    Ok(LogConfig { level, format })
}

pub(super) fn serve(raw: RawServe, section: &Section<'_>) -> Result<ServeConfig> {
    Ok(ServeConfig { drain_timeout: section.timeout("drain_timeout", raw.drain_timeout)? })
}

pub(super) fn queue_name(name: &str, origins: &Origins) -> Result<QueueName> {
    QueueName::new(name)
        .and_then(|name| match name.as_companion() {
            None => Ok(name),
            Some(_) => Err(Invalid::new(
                "queue name",
                name,
                "is a companion of a queue of orders: configure that one",
            )),
        })
        .map_err(|invalid| origins.error(&["queue", name], &[], &format!("is no queue: {invalid}")))
}

pub(super) fn queue(raw: RawQueue, section: &Section<'_>) -> Result<QueueConfig> {
    let RawDuration(poll_interval) = set(raw.poll_interval);
    if !POLL_INTERVAL_BOUNDS.contains(&poll_interval) {
        let why = format!("is {}; it must be 1ms to 1h", duration::format(poll_interval));
        return Err(section.bad("poll_interval", why));
    }
    let lease = lease(raw.lease, poll_interval, section)?;
    let handler = handler(raw.handler, &section.below("handler"))?;
    let shards = section.number("shards", set(raw.shards), 1..=MAX_SHARDS)?;
    if shards > 1 && matches!(handler, HandlerConfig::Order { .. }) {
        let why =
            format!("is {shards}, but a queue of orders has one: all that happens to them is in one place");
        return Err(section.bad("shards", why));
    }
    Ok(QueueConfig {
        poll_interval,
        batch_size: section.number("batch_size", set(raw.batch_size), 1..=MAX_BATCH_SIZE)?,
        concurrency: section.number("concurrency", set(raw.concurrency), 1..=MAX_CONCURRENCY)?,
        lease,
        max_attempts: section.number("max_attempts", set(raw.max_attempts), 1..=i64::from(u32::MAX))?,
        max_crashes: section.number("max_crashes", set(raw.max_crashes), 1..=i64::from(u32::MAX))?,
        max_handler_time: section.timeout("max_handler_time", raw.max_handler_time)?,
        rate_limit: raw
            .rate_limit
            .map(|rate| section.number("rate_limit", rate, 1..=MAX_RATE_LIMIT))
            .transpose()?,
        backoff: backoff(raw.backoff, &section.below("backoff"))?,
        circuit_breaker: circuit_breaker(raw.circuit_breaker, &section.below("circuit_breaker"))?,
        dead_retention: raw.dead_retention.map(|raw| dead_retention(raw, section)).transpose()?,
        durability: durability(raw.durability, &section.below("durability"))?,
        order: order(raw.order, lease, &section.below("order"))?,
        shards,
        handler,
    })
}

fn durability(raw: RawDurability, section: &Section<'_>) -> Result<Durability> {
    let replicas =
        raw.replicas.map(|count| section.number("replicas", count, 0..=MAX_REPLICAS)).transpose()?;
    let level = section.one_of("level", &set(raw.level), &DurabilityLevel::ALL)?;
    if level == DurabilityLevel::Replicated && replicas == Some(0) {
        let why = "is 0, but `level = \"replicated\"` waits for at least one";
        return Err(section.clash("replicas", "level", why));
    }
    let timeout = section.timeout("timeout", raw.timeout)?;
    Ok(Durability { level, replicas: replicas.unwrap_or(0), timeout })
}

fn order(raw: RawOrder, lease: Duration, section: &Section<'_>) -> Result<OrderConfig> {
    let shortest = MIN_RETAIN.max(lease * MIN_RETAIN_LEASES);
    let retain = raw.retain.map(|RawDuration(retain)| {
        if retain >= shortest {
            return Ok(retain);
        }
        let (retain, shortest) = (duration::format(retain), duration::format(shortest));
        Err(section.bad(
            "retain",
            format!("is {retain}; it must be at least {shortest}, which is 1m and ten leases"),
        ))
    });
    Ok(OrderConfig {
        timeout: section.timeout("timeout", raw.timeout)?,
        retain: retain.transpose()?,
        intake_limit: section.number("intake_limit", set(raw.intake_limit), 1..=i64::from(u32::MAX))?,
        max_events: raw
            .max_events
            .map(|most| section.number("max_events", most, 1..=i64::MAX))
            .transpose()?,
    })
}

fn lease(raw: Option<RawDuration>, poll_interval: Duration, section: &Section<'_>) -> Result<Duration> {
    let RawDuration(lease) = set(raw);
    let shown = duration::format(lease);
    if lease > MAX_LEASE {
        return Err(section.bad("lease", format!("is {shown}; it must be at most 24h")));
    }
    if lease < poll_interval * MIN_LEASE_POLLS {
        let poll_interval = duration::format(poll_interval);
        let why = format!("({shown}) is shorter than three times `poll_interval` ({poll_interval})");
        return Err(section.clash("lease", "poll_interval", why));
    }
    Ok(lease)
}

fn dead_retention(raw: RawDuration, section: &Section<'_>) -> Result<Duration> {
    let RawDuration(retention) = raw;
    if retention < MIN_DEAD_RETENTION {
        let why = format!("is {}; it must be at least 1h", duration::format(retention));
        return Err(section.bad("dead_retention", why));
    }
    Ok(retention)
}

fn backoff(raw: RawBackoff, section: &Section<'_>) -> Result<Backoff> {
    let (RawDuration(initial), RawDuration(max)) = (set(raw.initial), set(raw.max));
    let (factor, jitter) = (set(raw.factor), set(raw.jitter));
    if max < initial {
        let (max, initial) = (duration::format(max), duration::format(initial));
        return Err(section.clash("max", "initial", format!("({max}) is below `initial` ({initial})")));
    }
    if !factor.is_finite() || factor < 1.0 {
        return Err(section.bad("factor", format!("is {factor}; it must be a number of at least 1")));
    }
    if !(0.0..=1.0).contains(&jitter) {
        return Err(section.bad("jitter", format!("is {jitter}; it must be 0 to 1")));
    }
    Ok(Backoff { initial, max, factor, jitter })
}

fn circuit_breaker(raw: RawCircuitBreaker, section: &Section<'_>) -> Result<CircuitBreaker> {
    Ok(CircuitBreaker {
        failures: section.number("failures", set(raw.failures), 0..=i64::from(u32::MAX))?,
        pause: section.timeout("pause", raw.pause)?,
    })
}

/// Each type takes its keys out of `raw`; what is left belongs to another one.
fn handler(mut raw: RawHandler, section: &Section<'_>) -> Result<HandlerConfig> {
    type Check = fn(&mut RawHandler, &Section<'_>) -> Result<HandlerConfig>;
    let types: [(&str, Check); 7] = [
        ("log", |_, _| Ok(HandlerConfig::Log)),
        ("webhook", |raw, section| Ok(HandlerConfig::Webhook(Box::new(WebhookConfig::check(raw, section)?)))),
        ("command", |raw, section| command(raw, section).map(HandlerConfig::Command)),
        ("stream", |raw, section| Ok(HandlerConfig::Stream { max_len: max_len(raw, section)? })),
        ("list", |raw, section| Ok(HandlerConfig::List { max_len: max_len(raw, section)? })),
        ("order", |raw, section| Ok(HandlerConfig::Order { notify: notify(raw, section)? })),
        ("pull", |_, _| Ok(HandlerConfig::Pull)),
    ];
    let Some(name) = raw.r#type.take() else {
        return Err(section.bad("type", "is missing: name what is to be done"));
    };
    let check = section.one_of("type", &name, &types)?;
    let handler = check(&mut raw, section)?;
    match raw.left_over() {
        Some(key) => Err(section.bad(key, format!("is no key of the handler type `{name}`: remove it"))),
        None => Ok(handler),
    }
}

fn notify(raw: &mut RawHandler, section: &Section<'_>) -> Result<Option<Box<HandlerConfig>>> {
    let Some(raw) = raw.notify.take() else { return Ok(None) };
    let section = section.below("notify");
    match handler(*raw, &section)? {
        told @ (HandlerConfig::Log | HandlerConfig::Webhook(_) | HandlerConfig::Command(_)) => {
            Ok(Some(Box::new(told)))
        }
        _ => Err(section.bad("type", "cannot tell of expired orders; use log, webhook or command")),
    }
}

fn max_len(raw: &mut RawHandler, section: &Section<'_>) -> Result<Option<u64>> {
    raw.max_len.take().map(|max_len| section.number("max_len", max_len, 1..=i64::MAX)).transpose()
}

fn command(raw: &mut RawHandler, section: &Section<'_>) -> Result<CommandConfig> {
    let command = raw.command.take().unwrap_or_default();
    if command.first().is_none_or(String::is_empty) {
        let why = r#"needs a program and its arguments, like ["/usr/local/bin/expire", "--now"]"#;
        return Err(section.clash("command", "type", why));
    }
    if command.iter().any(|word| word.contains('\0')) {
        return Err(section.bad("command", "holds a NUL character, which no argument can"));
    }
    let timeout = raw.timeout.take().unwrap_or(RawDuration(HANDLER_TIMEOUT));
    let codes = raw.dead_exit_codes.take().unwrap_or_default();
    let dead_exit_code = |code| {
        let code = section.number("dead_exit_codes", code, 1..=255)?;
        if code == EX_TEMPFAIL {
            return Err(
                section.bad("dead_exit_codes", "holds 75, which asks for another attempt (EX_TEMPFAIL)")
            );
        }
        Ok(code)
    };
    Ok(CommandConfig {
        command,
        timeout: section.timeout("timeout", Some(timeout))?,
        dead_exit_codes: codes.into_iter().map(dead_exit_code).collect::<Result<_>>()?,
    })
}
