//! `scale`: how speed changes with schedulers, with queues, and with what is pending.

use std::time::Instant;

use anyhow::ensure;

use super::{
    drain::{Nothing, Schedulers},
    figure::{Figure, Unit},
    lab::{Lab, Round},
    rig::PREFIX,
    workload::Workload,
};
use crate::{
    queue::{Expected, MAX_IDS_PER_CALL, Mode, Queue, Registration},
    types::Id,
};

const SCHEDULERS: [u64; 3] = [1, 2, 4];
const QUEUES: [u64; 3] = [1, 10, 100];
/// With how much of the backlog pending the cost of an id is taken.
const SHARES_PENDING: [u64; 3] = [100, 10, 1];
/// The share of `--ids` that is registered, cancelled and fired for it.
const SHARE_OF_IDS: u64 = 10;
/// What the numbers of such ids begin with: beyond those that are pending, in all queues.
const FIRST: u64 = 200_000_000;

pub(super) async fn measure(lab: &Lab<'_>) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let rates =
        lab.rounds("scale schedulers", &SCHEDULERS, async |count, round| schedulers(lab, count, round).await);
    figures.extend(growing(
        ["scale", "schedulers", "schedulers"],
        Unit::IdsPerSecond,
        &SCHEDULERS,
        &rates.await?,
    ));
    let rates = lab.rounds("scale queues", &QUEUES, async |count, round| queues(lab, count, round).await);
    figures.extend(growing(["scale", "queues", "queues"], Unit::IdsPerSecond, &QUEUES, &rates.await?));
    figures.extend(pending(lab).await?);
    Ok(figures)
}

/// A figure for each size, beside that of the smallest.
pub(super) fn growing(
    [measure, case, setting]: [&'static str; 3],
    unit: Unit,
    sizes: &[u64],
    values: &[Vec<f64>],
) -> Vec<Figure> {
    let figures = sizes.iter().zip(values).enumerate().map(|(place, (size, runs))| {
        let figure = Figure::new(measure, case, unit, runs.clone()).with(setting, *size);
        if place == 0 { figure } else { figure.beside("smallest", values[0].clone()) }
    });
    figures.collect()
}

/// Ids in a second, of one queue that several schedulers work off.
async fn schedulers(lab: &Lab<'_>, schedulers: u64, round: Round) -> anyhow::Result<f64> {
    lab.rig.clear().await?;
    let count = round.share(lab.plan.ids);
    let mut queues = Vec::new();
    for _ in 0..schedulers {
        queues.push(lab.rig.queue("scale").await?);
    }
    lab.fill(&queues[0], lab.due(count, round.seed).await?, None).await?;
    drained(lab, queues, count).await
}

/// Ids in a second, spread over several queues, which share a connection as in `serve`.
async fn queues(lab: &Lab<'_>, queues: u64, round: Round) -> anyhow::Result<f64> {
    lab.rig.clear().await?;
    let each = round.share(lab.plan.ids).div_ceil(queues);
    let first = lab.rig.queue("scale").await?;
    let mut all = Vec::new();
    for number in 0..queues {
        let name = format!("scale-{number}").parse()?;
        let queue = Queue::new(first.redis().clone(), PREFIX, name);
        lab.fill(&queue, lab.due(each, round.seed + number).await?, None).await?;
        all.push(queue);
    }
    drained(lab, all, each * queues).await
}

async fn drained(lab: &Lab<'_>, queues: Vec<Queue>, count: u64) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let schedulers = Schedulers::start(queues, &lab.settings(), Nothing, count);
    let ended = schedulers.finish(lab.bar).await?;
    Ok(count as f64 / (ended - begun).as_secs_f64())
}

/// What an id costs while others are pending, in a queue for each size: so all sizes are there at once, and a run can
/// go from one to the next.
async fn pending(lab: &Lab<'_>) -> anyhow::Result<Vec<Figure>> {
    lab.rig.clear().await?;
    let sizes = SHARES_PENDING.map(|share| (lab.plan.backlog / share).max(1));
    for size in sizes {
        lab.show(&format!("scale: {size} ids far ahead"), 0);
        lab.fill(&lab.rig.queue(&name(size)).await?, lab.far(size).await?, None).await?;
    }
    let costs = lab.rounds("scale pending", &sizes, async |size, round| cost(lab, size, round).await).await?;
    let of = |place: usize| -> Vec<Vec<f64>> {
        costs.iter().map(|runs| runs.iter().map(|cost| cost[place]).collect()).collect()
    };
    let cases = ["register", "cancel", "fire"].into_iter().enumerate();
    Ok(cases
        .flat_map(|(place, case)| {
            growing(["scale", case, "pending"], Unit::MicrosecondsPerId, &sizes, &of(place))
        })
        .collect())
}

fn name(size: u64) -> String {
    format!("scale-{size}")
}

/// µs for each id to register, to cancel and to fire.
async fn cost(lab: &Lab<'_>, size: u64, round: Round) -> anyhow::Result<[f64; 3]> {
    let queue = lab.rig.queue(&name(size)).await?;
    let count = round.share(lab.plan.ids / SHARE_OF_IDS);
    let us_each = |begun: Instant| begun.elapsed().as_secs_f64() * 1e6 / count as f64;

    // Among those that are pending, at random.
    let among = Workload { first: FIRST, count, seed: round.seed, ..lab.far(count).await? };
    let registrations: Vec<Registration> = among.registrations(None).collect();
    let begun = Instant::now();
    for some in registrations.chunks(MAX_IDS_PER_CALL) {
        queue.schedule(some, Mode::Replace, Expected::Anything).await?;
    }
    let register = us_each(begun);

    let ids: Vec<Id> = registrations.into_iter().map(|registration| registration.id).collect();
    let begun = Instant::now();
    for some in ids.chunks(MAX_IDS_PER_CALL) {
        queue.cancel(some).await?;
    }
    let cancel = us_each(begun);

    lab.fill(&queue, lab.due(count, round.seed).await?, None).await?;
    let begun = Instant::now();
    let schedulers = Schedulers::start(vec![queue.clone()], &lab.settings(), Nothing, count);
    let fire = (schedulers.finish(lab.bar).await? - begun).as_secs_f64() * 1e6 / count as f64;
    let left = queue.counts().await?.scheduled;
    ensure!(left == size, "the engine disagrees: {left} ids are pending that were {size}");
    Ok([register, cancel, fire])
}
