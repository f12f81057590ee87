//! `shards`: what one queue gains from several slots, on a cluster of three servers that is started for it.

use std::{collections::HashSet, time::Instant};

use anyhow::ensure;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    cluster::Cluster,
    drain::{Nothing, Schedulers},
    figure::{Figure, Unit},
    lab::{Lab, Round},
    rig::PREFIX,
    scale::growing,
};
use crate::queue::{Expected, MAX_IDS_PER_CALL, Mode, Queue, Registration};

const SHARDS: [u64; 3] = [1, 2, 4];
/// Calls under way at once while ids are registered.
const CALLS: usize = 4;

/// Of one way of using Redis: ids in a second, and for each id the µs of a core that all nodes used, and the busiest one.
type Costs = [f64; 3];

pub(super) async fn measure(lab: &Lab<'_>) -> anyhow::Result<Vec<Figure>> {
    let cluster = Cluster::start().await?;
    let mut queues = Vec::new();
    for shards in SHARDS {
        queues.push(spread(&cluster, shards as u16).await?);
    }
    let sizes: Vec<usize> = (0..SHARDS.len()).collect();
    let runs = lab
        .rounds("shards", &sizes, async |size, round| once(lab, &cluster, &queues[size], round).await)
        .await?;
    let of = |way: usize, cost: usize| -> Vec<Vec<f64>> {
        runs.iter().map(|runs| runs.iter().map(|run| run[way][cost]).collect()).collect()
    };
    let cases = [
        ["register", "register_redis_cpu", "register_busiest_node"],
        ["fire", "fire_redis_cpu", "fire_busiest_node"],
    ];
    let units = [Unit::IdsPerSecond, Unit::MicrosecondsPerId, Unit::MicrosecondsPerId];
    let mut figures = Vec::new();
    for (way, cases) in cases.into_iter().enumerate() {
        for (cost, case) in cases.into_iter().enumerate() {
            figures.extend(growing(["shards", case, "shards"], units[cost], &SHARDS, &of(way, cost)));
        }
    }
    Ok(figures)
}

/// A queue whose shards are on as many nodes as can be. The slots of a name are as chance has it.
async fn spread(cluster: &Cluster, shards: u16) -> anyhow::Result<Queue> {
    let redis = cluster.redis()?;
    let mut names = (0..).map(|number| format!("shards-{shards}-{number}"));
    let queue = loop {
        let name = names.next().unwrap_or_default();
        let queue = Queue::new(redis.clone(), PREFIX, name.parse()?);
        let nodes = (0..shards).map(|shard| Cluster::node_of(queue.shard(shard).slot()));
        if nodes.collect::<HashSet<_>>().len() == usize::from(shards.min(3)) {
            break queue;
        }
    };
    queue.reshard(shards, |_| {}).await?;
    Ok(queue)
}

/// Of registering, and of firing.
async fn once(lab: &Lab<'_>, cluster: &Cluster, queue: &Queue, round: Round) -> anyhow::Result<[Costs; 2]> {
    let count = round.share(lab.plan.ids);
    let all: Vec<Registration> = lab.due(count, round.seed).await?.registrations(None).collect();
    let (cpu, begun) = (cluster.cpu_s().await?, Instant::now());
    stream::iter(all.chunks(MAX_IDS_PER_CALL))
        .map(|some| queue.schedule(some, Mode::Replace, Expected::Anything))
        .buffer_unordered(CALLS)
        .try_for_each(async |_| Ok(()))
        .await?;
    let register = costs(cluster, &cpu, begun, Instant::now(), count).await?;
    let registered = queue.counts().await?.scheduled;
    ensure!(registered == count, "{registered} of {count} ids were registered");

    let (cpu, begun) = (cluster.cpu_s().await?, Instant::now());
    let schedulers = Schedulers::start(vec![queue.clone()], &lab.settings(), Nothing, count);
    let ended = schedulers.finish(lab.bar).await?;
    Ok([register, costs(cluster, &cpu, begun, ended, count).await?])
}

async fn costs(
    cluster: &Cluster,
    before: &[f64],
    begun: Instant,
    ended: Instant,
    count: u64,
) -> anyhow::Result<Costs> {
    let used: Vec<f64> =
        cluster.cpu_s().await?.iter().zip(before).map(|(after, before)| after - before).collect();
    let us_each = |seconds: f64| seconds * 1e6 / count as f64;
    let busiest = used.iter().copied().fold(0.0, f64::max);
    Ok([count as f64 / (ended - begun).as_secs_f64(), us_each(used.iter().sum()), us_each(busiest)])
}
