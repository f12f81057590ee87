//! What `serve` runs for each queue, by its handler.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{HandlerConfig, QueueConfig},
    handler::{
        Command, Log, SharedHandler, Webhook,
        webhook::{Clients, SetupError},
    },
    http::Served,
    order::{Expirer, Intake, Notify, Orders},
    queue::{Queue, Sink, SinkKind},
    scheduler::{Scheduler, Settings},
    types::{Companion, QueueName},
};

/// The webhooks of the queues, by the queue that each is the handler of: for one of orders, its companion.
pub(super) type Webhooks = BTreeMap<QueueName, Arc<Webhook>>;

/// The webhooks of the configuration, which share their connections where they can.
///
/// # Errors
/// If a file that one of them names is missing, or not what it should be.
pub(super) fn webhooks(queues: &BTreeMap<QueueName, QueueConfig>) -> Result<Webhooks, SetupError> {
    let mut clients = Clients::default();
    let mut webhooks = BTreeMap::new();
    for (name, queue) in queues {
        let (name, handler) = match &queue.handler {
            HandlerConfig::Order { notify: Some(handler) } => (name.companion(Companion::Notify), &**handler),
            handler => (name.clone(), handler),
        };
        if let HandlerConfig::Webhook(webhook) = handler {
            webhooks.insert(name, Arc::new(Webhook::new((**webhook).clone(), &mut clients)?));
        }
    }
    Ok(webhooks)
}

/// Starts what queues need.
pub(super) struct Starter<'a> {
    pub(super) webhooks: &'a Webhooks,
    pub(super) tasks: &'a mut JoinSet<()>,
    pub(super) drain_timeout: Duration,
    pub(super) stop: &'a CancellationToken,
}

impl Starter<'_> {
    /// Starts a queue, and its companions if it is one of orders; answers what HTTP needs to know of each.
    pub(super) fn start(
        &mut self,
        queue: Queue,
        settings: &watch::Receiver<Settings>,
        config: &QueueConfig,
    ) -> Vec<Served> {
        let sink = |kind, max_len: Option<u64>| Sink { kind, max_len };
        let scheduler = match &config.handler {
            HandlerConfig::Stream { max_len } => {
                Scheduler::watching_to_sink(queue.clone(), settings.clone(), sink(SinkKind::Stream, *max_len))
            }
            HandlerConfig::List { max_len } => {
                Scheduler::watching_to_sink(queue.clone(), settings.clone(), sink(SinkKind::List, *max_len))
            }
            HandlerConfig::Pull => Scheduler::watching_for_pull(queue.clone(), settings.clone()),
            HandlerConfig::Order { notify } => {
                return self.start_orders(queue, settings, config, notify.as_deref());
            }
            handler @ (HandlerConfig::Log | HandlerConfig::Command(_) | HandlerConfig::Webhook(_)) => {
                let Some(handler) = self.handler(handler, queue.name()) else { return Vec::new() };
                Scheduler::watching(queue.clone(), settings.clone(), handler)
            }
        };
        vec![self.run(scheduler, queue, settings, config.handler.word())]
    }

    fn start_orders(
        &mut self,
        queue: Queue,
        settings: &watch::Receiver<Settings>,
        config: &QueueConfig,
        notify: Option<&HandlerConfig>,
    ) -> Vec<Served> {
        let told = Notify::queue(&queue);
        let orders = Orders::with(queue.clone(), &config.order);
        let intake = Intake::new(orders.clone());
        let expirer =
            Expirer::new(orders.clone()).notify(notify.is_some()).max_events(config.order.max_events);
        let word = config.handler.word();
        let mut served = vec![
            Served::new(queue, settings.clone(), word, expirer.pulse()).of_orders(orders.clone()),
            Served::new(orders.intake().clone(), settings.clone(), word, intake.pulse()),
        ];
        self.tasks.spawn(expirer.watching(settings.clone(), self.stop.clone()));
        self.tasks.spawn(intake.watching(settings.clone(), self.stop.clone()));
        if let Some((handler, word)) =
            notify.and_then(|config| Some((self.handler(config, told.name())?, config.word())))
        {
            let handler = Arc::new(Notify::shared(handler));
            let scheduler = Scheduler::watching(told.clone(), settings.clone(), handler);
            served.push(self.run(scheduler, told, settings, word));
        }
        served
    }

    fn run(
        &mut self,
        scheduler: Scheduler,
        queue: Queue,
        settings: &watch::Receiver<Settings>,
        word: &'static str,
    ) -> Served {
        let served = Served::new(queue, settings.clone(), word, scheduler.pulse());
        self.tasks.spawn(scheduler.drain_timeout(self.drain_timeout).run(self.stop.clone()));
        served
    }

    /// The handler of a queue that runs in this process; none for those that run elsewhere.
    fn handler(&self, config: &HandlerConfig, queue: &QueueName) -> Option<SharedHandler> {
        match config {
            HandlerConfig::Log => Some(Arc::new(Log)),
            HandlerConfig::Command(command) => Some(Arc::new(Command::new(command.clone()))),
            HandlerConfig::Webhook(_) => {
                let webhook: SharedHandler = self.webhooks.get(queue)?.clone();
                Some(webhook)
            }
            HandlerConfig::Stream { .. }
            | HandlerConfig::List { .. }
            | HandlerConfig::Order { .. }
            | HandlerConfig::Pull => None,
        }
    }
}
