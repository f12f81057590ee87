//! The composition root: what `serve` starts, and in what order it stops. Only this module sees the whole
//! configuration.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

mod examination;
mod queues;
mod service;
mod spread;
#[cfg(feature = "otlp")]
mod traces;

use queues::Starter;

use crate::{
    config::{Config, HandlerConfig, HttpConfig, OrderConfig, QueueConfig, RedisConfig, Sources},
    doctor::Finding,
    error,
    handler::{Webhook, webhook::SetupError},
    http::{Served, Server, SetupError as HttpSetupError},
    queue::Queue,
    redis::{
        Redis, Timeouts,
        embedded::{self, Embedded, EmbeddedSettings, Stopped},
    },
    scheduler::Settings,
    types::QueueName,
};

/// The Redis that the configuration names, or the private one that a running `serve` keeps under `data_dir`.
///
/// # Errors
/// If the url cannot be used.
pub fn find_redis(config: &RedisConfig) -> error::Result<Option<Redis>> {
    if let Some(redis) = Redis::configured(config)? {
        return Ok(Some(redis));
    }
    let url = embedded::find(&config.data_dir);
    url.map(|url| Redis::open(&url, Timeouts::from(config))).transpose()
}

/// Delivers all configured queues until SIGTERM or SIGINT; then drains and stops what it started.
///
/// # Errors
/// If the private Redis cannot be started or the url not be used. A Redis that is away is no error: serve
/// waits for it and says so.
pub async fn serve(config: Config, sources: Sources) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    #[cfg(feature = "otlp")]
    let traces = traces::Traces::start()?;
    let webhooks = webhooks(&config)?;
    let (redis, embedded) = tokio::select! {
        redis = redis_to_serve(&config.redis) => redis?,
        name = signals.next_stop() => {
            tracing::info!(signal = name, "stopped before Redis was ready");
            return Ok(());
        }
    };
    let stop = CancellationToken::new();
    let mut running = Running::new(config.serve.drain_timeout);
    let served = running.start_queues(&config, &redis, &webhooks, &stop);
    let _watchdog = service::watch_over(&served, &config.redis, &stop);
    let http = match listen(&config.http, &redis, served, &stop).await {
        Ok(http) => http,
        Err(cause) => {
            stop.cancel();
            wind_down(&mut running, embedded).await?;
            return Err(cause.into());
        }
    };
    let mut refusal = examination::begin(&redis, &config.redis, &stop);
    log_start(&config, embedded.as_ref(), &webhooks, http.as_ref());
    if let Some(http) = http {
        running.start_http(http);
    }
    service::ready();

    let mut refused = None;
    loop {
        let asked = tokio::select! {
            asked = signals.next() => asked,
            () = running.failed() => break,
            Ok(finding) = &mut refusal => {
                refused = Some(finding);
                break;
            }
        };
        match asked {
            Asked::Reload => {
                service::reloading();
                reload(&config, &sources, &running);
                service::ready();
            }
            Asked::Stop(name) => {
                tracing::info!(signal = name, "stopping; a second signal stops at once");
                break;
            }
        }
    }
    service::stopping();
    stop.cancel();
    tokio::select! {
        ended = wind_down(&mut running, embedded) => ended?,
        name = signals.next_stop() => {
            tracing::warn!(signal = name, "stopped at once; leases bring back what was in flight");
            std::process::exit(1);
        }
    }
    #[cfg(feature = "otlp")]
    if let Some(traces) = traces {
        traces.stop().await;
    }
    tracing::info!("stopped");
    anyhow::ensure!(!running.panicked, "a part of it panicked; see the log");
    if let Some(Finding { server, check, found, consequence, remedy, .. }) = refused {
        anyhow::bail!("nobody should serve on {server}: {check} is {found}: {consequence}. {remedy}");
    }
    Ok(())
}

async fn wind_down(running: &mut Running, embedded: Option<Embedded>) -> anyhow::Result<()> {
    running.ended().await;
    if let Some(embedded) = embedded {
        match embedded.stop().await? {
            Stopped::Shutdown => tracing::info!("private redis-server stopped"),
            Stopped::LeftToOthers => tracing::info!("private redis-server left to the other serve"),
        }
    }
    Ok(())
}

/// The webhooks of the configuration, which share their connections where they can.
///
/// # Errors
/// If a file that one of them names is missing, or not what it should be.
pub fn webhooks(config: &Config) -> Result<BTreeMap<QueueName, Arc<Webhook>>, SetupError> {
    queues::webhooks(&config.queues)
}

async fn redis_to_serve(config: &RedisConfig) -> anyhow::Result<(Redis, Option<Embedded>)> {
    if let Some(redis) = Redis::configured(config)? {
        return Ok((redis, None));
    }
    let settings = EmbeddedSettings { data_dir: config.data_dir.clone(), port: config.port };
    let embedded = Embedded::start(settings).await?;
    Ok((Redis::open(embedded.url(), Timeouts::from(config))?, Some(embedded)))
}

/// Listens for HTTP. Several processes may serve the same queues on one machine, so the default address may be taken:
/// the first of them has it.
async fn listen(
    config: &HttpConfig,
    redis: &Redis,
    queues: Vec<Served>,
    stop: &CancellationToken,
) -> Result<Option<Server>, HttpSetupError> {
    match Server::bind(config, redis.clone(), queues, stop.clone()).await {
        Err(HttpSetupError::Listen { address, cause }) if config.listen == HttpConfig::default().listen => {
            tracing::warn!(%address, %cause, "no HTTP: the default address cannot be had; set `http.listen`");
            Ok(None)
        }
        bound => bound,
    }
}

fn log_start(
    config: &Config,
    embedded: Option<&Embedded>,
    webhooks: &BTreeMap<QueueName, Arc<Webhook>>,
    http: Option<&Server>,
) {
    let queues = config.queues.keys().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let redis = embedded.map_or_else(|| config.redis.place(), |embedded| embedded.url().to_owned());
    let http = http.map_or_else(|| "none".to_owned(), |http| http.address().to_string());
    let joined = embedded.is_some_and(Embedded::joined);
    let file = config.file.as_ref().map_or_else(|| "none".to_owned(), |file| file.display().to_string());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %queues, %redis, %http, joined, config = file, "serving");
    for (name, queue) in &config.queues {
        if let HandlerConfig::Stream { max_len: Some(max_len) }
        | HandlerConfig::List { max_len: Some(max_len) } = queue.handler
        {
            tracing::warn!(
                queue = %name,
                max_len,
                "handler.max_len is set: beyond it the oldest expiries are removed, read or not"
            );
        }
    }
    if !config.queues_configured {
        tracing::warn!("no [queue.…] is configured: serving `orders` with the `log` handler");
    }
    for (queue, _) in webhooks.iter().filter(|(_, webhook)| !webhook.is_signed()) {
        tracing::warn!(%queue, "webhooks are not signed: set `secret` or `secret_file`, so that the receiver can tell them from anybody's calls");
    }
}

/// The schedulers and the HTTP server, and the ends through which the settings of queues change.
struct Running {
    settings: BTreeMap<QueueName, watch::Sender<Settings>>,
    tasks: JoinSet<()>,
    panicked: bool,
    drain_timeout: Duration,
}

impl Running {
    fn new(drain_timeout: Duration) -> Self {
        Self { settings: BTreeMap::new(), tasks: JoinSet::new(), panicked: false, drain_timeout }
    }

    /// Starts what each queue needs, and answers what HTTP needs to know of them.
    fn start_queues(
        &mut self,
        config: &Config,
        redis: &Redis,
        webhooks: &BTreeMap<QueueName, Arc<Webhook>>,
        stop: &CancellationToken,
    ) -> Vec<Served> {
        let mut served = Vec::new();
        let (tasks, drain_timeout) = (&mut self.tasks, self.drain_timeout);
        let mut starter = Starter { webhooks, tasks, drain_timeout, stop };
        for (name, queue_config) in &config.queues {
            let queue = Queue::new(redis.clone(), &config.redis.prefix, name.clone());
            let queue = queue.durable(queue_config.durability);
            if queue_config.shards > 1 {
                starter.tasks.spawn(spread::spread(queue.clone(), queue_config.shards, stop.clone()));
            }
            let (sender, settings) = watch::channel(Settings::from(queue_config));
            served.extend(starter.start(queue, &settings, queue_config));
            self.settings.insert(name.clone(), sender);
        }
        served
    }

    fn start_http(&mut self, http: Server) {
        self.tasks.spawn(http.run(self.drain_timeout));
    }

    /// Returns only if a part ended though nobody asked it to: then the process has to go and be
    /// restarted, rather than serve some of its queues.
    async fn failed(&mut self) {
        match self.tasks.join_next().await {
            Some(ended) => self.note(ended),
            None => std::future::pending().await,
        }
    }

    async fn ended(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            self.note(ended);
        }
    }

    fn note(&mut self, ended: Result<(), JoinError>) {
        if let Err(cause) = ended {
            self.panicked = true;
            tracing::error!(%cause, "a scheduler or the HTTP server panicked");
        }
    }
}

/// Takes over what can change while running; a file that is wrong changes nothing.
fn reload(started: &Config, sources: &Sources, running: &Running) {
    let new = match Config::load(sources) {
        Ok(new) => new,
        Err(cause) => {
            tracing::error!(%cause, "configuration not reloaded; the one in force stays");
            return;
        }
    };
    for (name, sender) in &running.settings {
        let Some(queue) = new.queues.get(name) else { continue };
        let settings = Settings::from(queue);
        let changed = sender.send_if_modified(|held| {
            let changed = *held != settings;
            *held = settings;
            changed
        });
        if changed {
            tracing::info!(queue = %name, "settings changed");
        }
    }
    if needs_restart(started, &new) {
        tracing::warn!(
            "the configuration differs from that of the start in parts that need a restart to take effect"
        );
    }
    tracing::info!("configuration reloaded");
}

/// True if the two differ in more than what [`Settings`] holds.
fn needs_restart(old: &Config, new: &Config) -> bool {
    let handlers = |config: &Config| -> BTreeMap<QueueName, (HandlerConfig, OrderConfig, u16)> {
        let of = |queue: &QueueConfig| (queue.handler.clone(), queue.order.clone(), queue.shards);
        config.queues.iter().map(|(name, queue)| (name.clone(), of(queue))).collect()
    };
    old.redis != new.redis
        || old.http != new.http
        || old.log != new.log
        || old.serve != new.serve
        || handlers(old) != handlers(new)
}

/// What a signal asks for.
enum Asked {
    Stop(&'static str),
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    async fn next_stop(&mut self) -> &'static str {
        loop {
            if let Asked::Stop(name) = self.next().await {
                return name;
            }
        }
    }
}
