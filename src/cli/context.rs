//! What the commands share: the configuration, the way to Redis, and the exit codes.

use std::process::ExitCode;

use anyhow::bail;

use super::{Global, lock::CannotRun, output::Output};
use crate::{
    app,
    config::{Config, ConfigError, HandlerConfig, Sources},
    error::{Error, Invalid, TroubleKind},
    handler::webhook::SetupError,
    http::SetupError as HttpSetupError,
    queue::Queue,
    redis::Redis,
    types::{Durability, QueueName},
};

/// Built once from the global flags.
pub(super) struct Context {
    pub(super) config: Config,
    /// What the configuration was loaded from, to load it again.
    pub(super) sources: Sources,
    pub(super) output: Output,
}

/// An id or queue that does not exist: exit code 3.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotFound(pub(super) String);

impl Context {
    pub(super) fn load(global: Global) -> Result<Self, ConfigError> {
        let sources = Sources::from_env(global.config, global.redis_url);
        let config = Config::load(&sources)?;
        Ok(Self { config, sources, output: Output::new(global.output) })
    }

    /// The Redis of the configuration, or the private one of a running `serve`. Answers within seconds.
    pub(super) async fn redis(&self) -> anyhow::Result<Redis> {
        let config = &self.config.redis;
        if let Some(redis) = app::find_redis(config)? {
            match redis.ping().await {
                Ok(()) => return Ok(redis),
                // A socket without a server is what a private Redis that was killed leaves behind.
                Err(Error::Redis(trouble))
                    if !config.names_servers() && trouble.kind == TroubleKind::Unreachable => {}
                Err(cause) => return Err(cause.into()),
            }
        }
        bail!(
            "no Redis: none of `redis.url`, `redis.sentinels` and `redis.cluster` is set, and no `overdue serve` runs on {}; start one, or pass --redis-url",
            config.data_dir.display()
        )
    }

    /// Says so if no `serve` with this configuration would deliver the queue: it may be a typing error.
    pub(super) fn warn_if_not_served(&self, name: &QueueName) {
        if self.config.queues_configured && !self.config.queues.contains_key(name) {
            eprintln!("note: queue `{name}` is not in this configuration; another `serve` has to deliver it");
        }
    }

    /// Demands a queue of orders: what another handler delivers would leave its order behind, neither paid nor expired.
    /// `advice` says what to do instead.
    pub(super) fn check_orders(&self, name: &QueueName, advice: &str) -> Result<(), Invalid> {
        if name.as_companion().is_some() {
            return Err(Invalid::new("queue", name, "is a companion of a queue of orders; name that one"));
        }
        match self.config.queues.get(name).map(|queue| &queue.handler) {
            Some(HandlerConfig::Order { .. }) => Ok(()),
            Some(handler) if self.config.queues_configured => {
                let handler = handler.word();
                let why = format!("has the handler `{handler}`, which would not expire orders: {advice}");
                Err(Invalid::new("queue", name, why))
            }
            _ => {
                eprintln!(
                    "note: this configuration has no queue `{name}` with the handler `order`; another `serve` must have it"
                );
                Ok(())
            }
        }
    }

    /// True for what this configuration knows as a queue of orders.
    pub(super) fn is_of_orders(&self, name: &QueueName) -> bool {
        let config = self.config.queues.get(name);
        config.is_some_and(|queue| matches!(queue.handler, HandlerConfig::Order { .. }))
    }

    /// Says so if a verb on deadlines is used on a queue of orders, whose orders it would leave behind.
    pub(super) fn warn_if_of_orders(&self, name: &QueueName) {
        if self.is_of_orders(name) {
            eprintln!(
                "note: `{name}` is a queue of orders: without its deadline an order never expires; see `overdue order cancel`"
            );
        }
    }

    pub(super) async fn queue(&self, name: &QueueName) -> anyhow::Result<Queue> {
        let queue = Queue::new(self.redis().await?, &self.config.redis.prefix, name.clone());
        let config = self.config.queues.get(&name.root());
        Ok(queue.durable(config.map_or(Durability::MEMORY, |config| config.durability)))
    }

    /// A queue that must exist: be configured, or have keys in Redis.
    pub(super) async fn existing_queue(&self, name: &QueueName) -> anyhow::Result<Queue> {
        let queue = self.queue(name).await?;
        if !self.config.queues.contains_key(name) && !queue.exists().await? {
            let pattern = queue.key_pattern();
            return Err(NotFound(format!(
                "no queue `{name}`: it is not in the configuration, and Redis has no key {pattern}"
            ))
            .into());
        }
        Ok(queue)
    }
}

/// 1 failed, 2 wrong usage or configuration, 3 no such id or queue, 126 and 127 a command that `lock` cannot run.
/// (0 is done; clap exits with 2 by itself.)
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let usage = error.is::<ConfigError>()
        || error.is::<Invalid>()
        || error.is::<SetupError>()
        || matches!(error.downcast_ref(), Some(HttpSetupError::File { .. }))
        || matches!(error.downcast_ref::<Error>(), Some(Error::Invalid(_)));
    if let Some(cannot) = error.downcast_ref::<CannotRun>() {
        return ExitCode::from(cannot.code());
    }
    ExitCode::from(match error {
        _ if error.is::<NotFound>() => 3,
        _ if usage => 2,
        _ => 1,
    })
}
