//! `register`: how fast ids are registered, in Rust and over HTTP.

use std::{
    slice,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redis::{Pipeline, aio::MultiplexedConnection};
use tokio::task::JoinSet;

use super::{
    bare::{Bare, zadd, zadd_all},
    figure::{Figure, Unit},
    lab::{Lab, Round},
    register_http::Http,
    workload::Workload,
};
use crate::queue::{Expected, MAX_IDS_PER_CALL, Mode, Queue, Registration};

/// Calls under way at once on one connection, and ids in one call: as many as the engine takes together.
const AT_ONCE: usize = MAX_IDS_PER_CALL;
/// Deadlines are spread over the next day, so that they come in no order.
const SPAN: Duration = Duration::from_secs(24 * 3600);

/// In what portions a caller registers, and how it waits for the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One id at a time, over so many connections.
    Single(usize),
    /// One id in a call, many calls under way.
    Pipelined,
    /// Many ids in a call.
    Bulk,
    HttpSingle(usize),
    HttpBatch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Overdue,
    /// `ZADD` of one id, in the same shape.
    Zadd,
    /// A pipeline of `ZADD` of one id each.
    ZaddPipeline,
    /// `ZADD` of many ids.
    ZaddVariadic,
}

impl Shape {
    const ALL: [Self; 7] = [
        Self::Single(1),
        Self::Single(64),
        Self::Pipelined,
        Self::Bulk,
        Self::HttpSingle(1),
        Self::HttpSingle(64),
        Self::HttpBatch,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Single(_) => "rust_single",
            Self::Pipelined => "rust_pipelined",
            Self::Bulk => "rust_bulk",
            Self::HttpSingle(_) => "http_single",
            Self::HttpBatch => "http_batch",
        }
    }

    fn connections(self) -> usize {
        match self {
            Self::Single(connections) | Self::HttpSingle(connections) => connections,
            Self::Pipelined | Self::Bulk | Self::HttpBatch => 1,
        }
    }

    /// Whoever waits for each answer gets fewer ids, so that no shape takes minutes.
    fn share(self, ids: u64) -> u64 {
        match self {
            Self::Single(1) => ids / 50,
            Self::Single(_) => ids / 10,
            Self::Pipelined => ids / 5,
            Self::Bulk => ids,
            Self::HttpSingle(1) => ids / 100,
            Self::HttpSingle(_) => ids / 20,
            Self::HttpBatch => ids / 10,
        }
    }

    fn ways(self) -> &'static [(&'static str, Way)] {
        match self {
            Self::Single(_) | Self::Pipelined | Self::HttpSingle(_) => {
                &[("overdue", Way::Overdue), ("bare_zadd", Way::Zadd)]
            }
            Self::Bulk => &[
                ("overdue", Way::Overdue),
                ("bare_zadd_pipeline", Way::ZaddPipeline),
                ("bare_zadd_variadic", Way::ZaddVariadic),
            ],
            Self::HttpBatch => &[("overdue", Way::Overdue), ("bare_zadd_pipeline", Way::ZaddPipeline)],
        }
    }
}

pub(super) async fn measure(lab: &Lab<'_>) -> anyhow::Result<Vec<Figure>> {
    let http = Http::start(lab.rig.queue("register").await?).await?;
    let mut figures = Vec::new();
    for shape in Shape::ALL {
        let (word, connections) = (shape.word(), shape.connections());
        let what = format!("register {word} connections={connections}");
        let mut rates = lab
            .rounds(&what, shape.ways(), async |(_, way), round| once(lab, &http, shape, way, round).await)
            .await?
            .into_iter();
        let figure = Figure::new("register", word, Unit::IdsPerSecond, rates.next().unwrap_or_default())
            .with("connections", connections as u64)
            .with("ids", shape.share(lab.plan.ids));
        let beside = shape.ways()[1..].iter().zip(rates);
        figures.push(beside.fold(figure, |figure, ((name, _), rates)| figure.beside(name, rates)));
    }
    Ok(figures)
}

/// Ids in a second.
async fn once(lab: &Lab<'_>, http: &Http, shape: Shape, way: Way, round: Round) -> anyhow::Result<f64> {
    lab.rig.clear().await?;
    let count = round.share(shape.share(lab.plan.ids));
    let workload = Workload::new(count, lab.now().await?, SPAN, round.seed);
    let (took, registered) = match way {
        Way::Overdue => {
            let took = overdue(lab, http, shape, workload).await?;
            let queue = lab.rig.queue("register").await?;
            (took, queue.counts().await?.scheduled)
        }
        Way::Zadd | Way::ZaddPipeline | Way::ZaddVariadic => {
            let took = bare(lab, shape, way, workload).await?;
            (took, lab.rig.bare(Bare::scheduled).await?)
        }
    };
    ensure!(registered == count, "{registered} of {count} ids were registered");
    Ok(count as f64 / took.as_secs_f64())
}

async fn overdue(lab: &Lab<'_>, http: &Http, shape: Shape, workload: Workload) -> anyhow::Result<Duration> {
    if matches!(shape, Shape::HttpSingle(_) | Shape::HttpBatch) {
        let entries: Vec<_> = workload.entries().collect();
        return match shape {
            Shape::HttpBatch => http.batch(&entries).await,
            _ => http.single(entries, shape.connections()).await,
        };
    }
    let all: Vec<Registration> = workload.registrations(None).collect();
    let queue = lab.rig.queue("register").await?;
    let begun = Instant::now();
    match shape {
        Shape::Single(connections) => {
            let mut queues = Vec::new();
            for _ in 0..connections {
                queues.push(Arc::new(lab.rig.queue("register").await?));
            }
            let call = |queue: Arc<Queue>, one| async move { schedule(&queue, &[one]).await };
            return each_alone(all, queues, call).await;
        }
        Shape::Pipelined => {
            let calls = all.iter().map(|one| schedule(&queue, slice::from_ref(one)));
            stream::iter(calls).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        }
        Shape::Bulk | Shape::HttpSingle(_) | Shape::HttpBatch => {
            for some in all.chunks(AT_ONCE) {
                schedule(&queue, some).await?;
            }
        }
    }
    Ok(begun.elapsed())
}

async fn schedule(queue: &Queue, some: &[Registration]) -> anyhow::Result<()> {
    queue.schedule(some, Mode::Replace, Expected::Anything).await?;
    Ok(())
}

async fn bare(lab: &Lab<'_>, shape: Shape, way: Way, workload: Workload) -> anyhow::Result<Duration> {
    let all: Vec<(String, i64)> = workload.entries().collect();
    let mut connection = lab.rig.connect().await?;
    let begun = Instant::now();
    match (way, shape) {
        (Way::Zadd, Shape::Pipelined) => {
            let calls = all.iter().map(|one| send(connection.clone(), one));
            stream::iter(calls).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        }
        (Way::Zadd, _) => {
            let mut connections = Vec::new();
            for _ in 0..shape.connections() {
                connections.push(lab.rig.connect().await?);
            }
            let call = |connection, one| async move { send(connection, &one).await };
            return each_alone(all, connections, call).await;
        }
        (Way::ZaddVariadic, _) => {
            for some in all.chunks(AT_ONCE) {
                zadd_all(some).exec_async(&mut connection).await?;
            }
        }
        (Way::ZaddPipeline | Way::Overdue, _) => {
            for some in all.chunks(AT_ONCE) {
                let mut pipeline = Pipeline::with_capacity(some.len());
                some.iter().for_each(|one| {
                    pipeline.add_command(zadd(one));
                });
                pipeline.exec_async(&mut connection).await?;
            }
        }
    }
    Ok(begun.elapsed())
}

async fn send(mut connection: MultiplexedConnection, one: &(String, i64)) -> anyhow::Result<()> {
    Ok(zadd(one).exec_async(&mut connection).await?)
}

/// Gives each client its share of the items, which it takes one after the other; answers how long all of it took.
pub(super) async fn each_alone<C, T, F>(
    items: Vec<T>,
    clients: Vec<C>,
    call: impl Fn(C, T) -> F + Copy + Send + 'static,
) -> anyhow::Result<Duration>
where
    C: Clone + Send + 'static,
    T: Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let mut shares: Vec<Vec<T>> = clients.iter().map(|_| Vec::new()).collect();
    let places = shares.len();
    for (number, item) in items.into_iter().enumerate() {
        shares[number % places].push(item);
    }
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for (client, share) in clients.into_iter().zip(shares) {
        tasks.spawn(async move {
            for item in share {
                call(client.clone(), item).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a client panicked")??;
    }
    Ok(begun.elapsed())
}
