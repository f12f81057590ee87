//! `idle`: what a `serve` with nothing to do costs.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{
    figure::{Figure, Unit},
    info::Info,
    lab::{Lab, Round},
    serve::Serve,
};

const QUEUE: &str = "idle";
/// How often Redis has read from a client: while it is idle, once for each command that it was sent.
const REQUESTS: &str = "total_reads_processed";
/// How long `serve` runs before it is looked at.
const SETTLING: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    WithServe,
    RedisAlone,
}

struct Idle {
    requests_per_second: f64,
    calls_per_second: f64,
    redis_cpu_percent: f64,
    /// None for Redis alone, and where there is no `/proc`.
    serve_cpu_percent: Option<f64>,
}

pub(super) async fn measure(lab: &Lab<'_>) -> anyhow::Result<Vec<Figure>> {
    lab.rig.clear().await?;
    let pending = lab.plan.backlog;
    lab.show(&format!("idle: {pending} ids far ahead"), 0);
    lab.fill(&lab.rig.queue(QUEUE).await?, lab.far(pending).await?, None).await?;

    let ways = [Way::WithServe, Way::RedisAlone];
    let measured = lab.rounds("idle", &ways, async |way, round| once(lab, way, round).await).await?;
    let values =
        |way: usize, value: &dyn Fn(&Idle) -> f64| measured[way].iter().map(value).collect::<Vec<f64>>();
    let figure = |case, unit, values| {
        Figure::new("idle", case, unit, values).with("pending", pending).with("queues", 1)
    };
    let cpu = |idle: &Idle| idle.redis_cpu_percent;
    let mut figures = vec![
        figure("requests", Unit::CallsPerSecond, values(0, &|idle| idle.requests_per_second)),
        figure("script_calls", Unit::CallsPerSecond, values(0, &|idle| idle.calls_per_second)),
        figure("redis_cpu", Unit::PercentOfACore, values(0, &cpu)).beside("redis_alone", values(1, &cpu)),
    ];
    if measured[0].iter().all(|idle| idle.serve_cpu_percent.is_some()) {
        let cpu = values(0, &|idle| idle.serve_cpu_percent.unwrap_or_default());
        figures.push(figure("serve_cpu", Unit::PercentOfACore, cpu));
    }
    Ok(figures)
}

async fn once(lab: &Lab<'_>, way: Way, round: Round) -> anyhow::Result<Idle> {
    let serve = match way {
        Way::WithServe => Some(Serve::start(lab.rig, QUEUE).await?),
        Way::RedisAlone => None,
    };
    sleep(round.span(SETTLING.min(lab.plan.span))).await;
    let serve_cpu_s = || serve.as_ref().and_then(Serve::cpu_s);
    let (begun, before, own_before) =
        (Instant::now(), Info::read(lab.rig.redis(), "all").await?, serve_cpu_s());
    sleep(round.span(lab.plan.span)).await;
    let (after, own_after) = (Info::read(lab.rig.redis(), "all").await?, serve_cpu_s());
    let seconds = begun.elapsed().as_secs_f64();
    if let Some(serve) = serve {
        serve.stop().await?;
    }
    // What arrived from clients, whatever it was; the second INFO is ours.
    let requests = after.number(REQUESTS)? - before.number(REQUESTS)? - 1.0;
    let cpu_percent = |after: f64, before: f64| (after - before) / seconds * 100.0;
    Ok(Idle {
        requests_per_second: requests / seconds,
        calls_per_second: after.script_calls().since(before.script_calls()).calls / seconds,
        redis_cpu_percent: cpu_percent(after.cpu_s()?, before.cpu_s()?),
        serve_cpu_percent: own_after.zip(own_before).map(|(after, before)| cpu_percent(after, before)),
    })
}
