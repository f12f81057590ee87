//! `fire`: how fast a backlog that is due is worked off, by handler and batch size.

use std::time::{Duration, Instant};

use anyhow::ensure;
use axum::{Router, serve::ListenerExt as _};
use clap::ValueEnum;
use http::StatusCode;
use serde::Serialize;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    bare::{Bare, BareSink},
    drain::{Nothing, Schedulers, until_empty},
    figure::{Figure, Unit},
    lab::{Lab, Round},
    workload::Workload,
};
use crate::{
    config::{Secret, WebhookConfig, WebhookUrl},
    handler::{
        Handler,
        webhook::{Clients, Webhook},
    },
    order::{Created, Expirer, Fields, NewOrder, Orders},
    queue::{Queue, Sink, SinkKind},
    scheduler::{Scheduler, Settings},
};

/// Orders that one call creates.
const ORDERS_PER_CALL: usize = 100;
/// Any key would do: what counts is that calls are signed, as they should be.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What becomes of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A handler in this process that does nothing
    InProcess,
    /// An entry of a stream
    Stream,
    /// An element of a list
    List,
    /// An order that expires
    Order,
    /// A signed call to a receiver in this process
    Webhook,
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Overdue,
    BareLeases,
    Bare(BareSink),
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::InProcess => "in_process",
            Self::Stream => "stream",
            Self::List => "list",
            Self::Order => "order",
            Self::Webhook => "webhook",
        }
    }

    /// Those that are slower get fewer ids, so that none takes minutes.
    pub(super) fn share(self, ids: u64) -> u64 {
        match self {
            Self::InProcess | Self::Stream | Self::List => ids,
            Self::Order => ids / 5,
            Self::Webhook => ids / 20,
        }
    }

    /// overdue, and what it stands beside, with its name.
    pub(super) fn ways(self) -> Vec<(&'static str, Way)> {
        let bare: &[_] = match self {
            Self::InProcess => &[("bare_loop", Way::BareLeases)],
            Self::Stream => {
                &[("bare_loop", Way::Bare(BareSink::Stream)), ("bare_ids", Way::Bare(BareSink::StreamOfIds))]
            }
            Self::List => &[("bare_ids", Way::Bare(BareSink::ListOfIds))],
            Self::Order | Self::Webhook => &[],
        };
        [&[("overdue", Way::Overdue)], bare].concat()
    }
}

pub(super) async fn measure(lab: &Lab<'_>) -> anyhow::Result<Vec<Figure>> {
    let receiver = Receiver::start().await?;
    let mut figures = Vec::new();
    for &kind in &lab.plan.handlers {
        for &batch_size in &lab.plan.batch_sizes {
            let run = Run { lab, kind, batch_size: batch_size as usize, receiver: &receiver };
            let ways = kind.ways();
            let what = format!("fire {} batch_size={batch_size}", kind.word());
            let mut rates = lab
                .rounds(&what, &ways, async |(_, way), round| run.once(way, round).await)
                .await?
                .into_iter();
            let own = rates.next().unwrap_or_default();
            let figure = Figure::new("fire", kind.word(), Unit::IdsPerSecond, own);
            let figure = figure.with("batch_size", batch_size).with("ids", kind.share(lab.plan.ids));
            figures.push(
                ways[1..]
                    .iter()
                    .zip(rates)
                    .fold(figure, |figure, ((name, _), rates)| figure.beside(name, rates)),
            );
        }
    }
    Ok(figures)
}

/// One kind of handler with one batch size.
struct Run<'a> {
    lab: &'a Lab<'a>,
    kind: Kind,
    batch_size: usize,
    receiver: &'a Receiver,
}

impl Run<'_> {
    /// Ids in a second.
    async fn once(&self, way: Way, round: Round) -> anyhow::Result<f64> {
        self.lab.rig.clear().await?;
        let count = round.share(self.kind.share(self.lab.plan.ids));
        let workload = self.lab.due(count, round.seed).await?;
        let took = match way {
            Way::Overdue => self.overdue(workload).await?,
            Way::BareLeases | Way::Bare(_) => self.bare(way, workload).await?,
        };
        Ok(count as f64 / took.as_secs_f64())
    }

    async fn bare(&self, way: Way, workload: Workload) -> anyhow::Result<Duration> {
        let batch_size = self.batch_size;
        let work = move |bare: &mut Bare| {
            bare.fill(workload, None)?;
            let (count, took) = match way {
                Way::Bare(sink) => bare.sink_loop(sink, batch_size)?,
                Way::BareLeases | Way::Overdue => bare.lease_loop(batch_size)?,
            };
            ensure!(count == workload.count, "the bare loop took {count} of {} ids", workload.count);
            Ok(took)
        };
        self.lab.rig.bare(work).await
    }

    async fn overdue(&self, workload: Workload) -> anyhow::Result<Duration> {
        let queue = self.lab.rig.queue("fire").await?;
        let settings = Settings { batch_size: self.batch_size, ..self.lab.settings() };
        if self.kind == Kind::Order {
            return self.orders(Orders::new(queue), workload, settings).await;
        }
        self.lab.fill(&queue, workload, None).await?;
        match self.kind {
            Kind::Stream => self.sink(queue, settings, SinkKind::Stream).await,
            Kind::List => self.sink(queue, settings, SinkKind::List).await,
            Kind::Webhook => self.handler(queue, settings, self.receiver.webhook()?, workload.count).await,
            Kind::InProcess | Kind::Order => self.handler(queue, settings, Nothing, workload.count).await,
        }
    }

    async fn handler(
        &self,
        queue: Queue,
        settings: Settings,
        handler: impl Handler,
        count: u64,
    ) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let schedulers = Schedulers::start(vec![queue], &settings, handler, count);
        Ok(schedulers.finish(self.lab.bar).await? - begun)
    }

    async fn sink(&self, queue: Queue, settings: Settings, kind: SinkKind) -> anyhow::Result<Duration> {
        let scheduler = Scheduler::to_sink(queue.clone(), settings, Sink { kind, max_len: None });
        self.until_empty(&queue, |stop| scheduler.run(stop)).await
    }

    async fn orders(
        &self,
        orders: Orders,
        workload: Workload,
        settings: Settings,
    ) -> anyhow::Result<Duration> {
        self.lab.bar.set_length(workload.count);
        let fields = Fields::new([("amount", "100.00")])?;
        let new: Vec<NewOrder> = workload
            .registrations(None)
            .map(|registration| NewOrder {
                id: registration.id,
                due: registration.due,
                fields: fields.clone(),
            })
            .collect();
        for some in new.chunks(ORDERS_PER_CALL) {
            let created = orders.create(some).await?;
            ensure!(
                created.iter().all(|created| matches!(created, Created::Created(_))),
                "an order was there already"
            );
            self.lab.bar.inc(some.len() as u64);
        }
        let queue = orders.queue().clone();
        self.until_empty(&queue, |stop| Expirer::new(orders).run(settings, stop)).await
    }

    /// Runs what empties the queue by itself, and answers how long that took.
    async fn until_empty<R: Future<Output = ()> + Send + 'static>(
        &self,
        queue: &Queue,
        run: impl FnOnce(CancellationToken) -> R,
    ) -> anyhow::Result<Duration> {
        // Looking at the queue goes over a connection of its own.
        let looking = self.lab.rig.queue(queue.name().as_str()).await?;
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let begun = Instant::now();
        tasks.spawn(run(stop.clone()));
        until_empty(&looking, self.lab.bar).await?;
        let took = begun.elapsed();
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        Ok(took)
    }
}

/// Takes webhooks and answers 204. It ends when this is dropped.
struct Receiver {
    url: String,
    _task: JoinSet<()>,
}

impl Receiver {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/expired", listener.local_addr()?);
        let listener = listener.tap_io(|stream| {
            // Without it an answer may wait for the ack of the one before.
            let _ = stream.set_nodelay(true);
        });
        let router: Router = Router::new().fallback(async || StatusCode::NO_CONTENT);
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Ends only by being dropped.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, _task: task })
    }

    fn webhook(&self) -> anyhow::Result<Webhook> {
        let mut config = WebhookConfig::new(WebhookUrl::new(&self.url)?);
        config.secret.push(Secret::new(SECRET)?);
        Ok(Webhook::new(config, &mut Clients::default())?)
    }
}
