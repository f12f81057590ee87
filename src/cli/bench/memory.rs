//! `memory`: bytes of Redis for each pending id, and the memory of `serve`.

use std::time::Duration;

use anyhow::ensure;
use redis::Value;
use tokio::time::sleep;

use super::{
    drain::until_empty,
    figure::{Figure, Unit},
    info::used_memory,
    lab::Lab,
    serve::Serve,
    workload::{Width, Workload},
};
use crate::types::Payload;

/// 100 bytes of JSON.
const PAYLOAD: &str =
    r#"{"amount":"100.00","currency":"EUR","customer":"c-0000000042","items":[{"sku":"A-1","quantity":12}]}"#;
/// How many looks settle a hash table in one call of the script below: a millisecond or so.
const LOOKS_PER_CALL: u64 = 5000;
/// How often memory is looked at until it rests, and how many times at most: on a Redis that others use it never does.
const LOOK_STEP: Duration = Duration::from_millis(20);
const MAX_LOOKS: usize = 50;
/// How long `serve` runs before its memory is read: some polls.
const SETTLING: Duration = Duration::from_secs(1);
const QUEUE: &str = "memory";

/// Looks for what is not there. KEYS 1 a ZSET or HASH; ARGV 1 the command 2 how often
const LOOK: &str = "
for _ = 1, ARGV[2] do
  redis.call(ARGV[1], KEYS[1], '')
end";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Overdue,
    Bare,
}

pub(super) async fn measure(lab: &Lab<'_>) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for pending in [lab.plan.backlog / 10, lab.plan.backlog] {
        for (case, payload) in [("id", None), ("id_and_payload", Some(PAYLOAD))] {
            for width in [Width::Short, Width::Long] {
                let what = format!("memory {case} bytes={} pending={pending}", width.bytes());
                let workload = Workload { width, ..lab.far(pending).await? };
                let mut bytes = [0.0; 2];
                for (place, way) in [Way::Overdue, Way::Bare].into_iter().enumerate() {
                    lab.show(&what, 0);
                    bytes[place] = once(lab, way, workload, payload).await?;
                }
                figures.push(
                    Figure::new("memory", case, Unit::BytesPerId, vec![bytes[0]])
                        .with("id_bytes", width.bytes() as u64)
                        .with("pending", pending)
                        .beside(
                            if payload.is_none() { "bare_zset" } else { "bare_zset_and_hash" },
                            vec![bytes[1]],
                        ),
                );
            }
        }
    }
    figures.extend(serve(lab).await?);
    Ok(figures)
}

/// Bytes for each id. Every run would tell the same, to a few hundred bytes in all.
async fn once(
    lab: &Lab<'_>,
    way: Way,
    workload: Workload,
    payload: Option<&'static str>,
) -> anyhow::Result<f64> {
    // Off the books: what Redis keeps of the scripts.
    lab.fill(&lab.rig.queue(QUEUE).await?, Workload { count: 1, ..workload }, None).await?;
    lab.rig.clear().await?;
    let before = resting_memory(lab).await?;
    match way {
        Way::Overdue => {
            let payload = payload.map(Payload::new).transpose()?;
            lab.fill(&lab.rig.queue(QUEUE).await?, workload, payload.as_ref()).await?;
        }
        Way::Bare => lab.rig.bare(move |bare| bare.fill(workload, payload)).await?,
    }
    settle(lab, workload.count).await?;
    let used = resting_memory(lab).await? - before;
    ensure!(used > 0.0, "Redis has no more memory in use than before");
    Ok(used / workload.count as f64)
}

/// The memory that Redis has in use once it does not change any more: buffers of connections that were closed go a little
/// later.
async fn resting_memory(lab: &Lab<'_>) -> anyhow::Result<f64> {
    let mut before = used_memory(lab.rig.redis()).await?;
    for _ in 0..MAX_LOOKS {
        sleep(LOOK_STEP).await;
        let now = used_memory(lab.rig.redis()).await?;
        if now.total_cmp(&before).is_eq() {
            break;
        }
        before = now;
    }
    Ok(before)
}

/// Lets hash tables that grow come to the end of it. They move one bucket with every look at them, and until then they
/// have two tables: at a million ids that is 4 % of the memory, and a table that was looked at more often while it was
/// filled, as the script `schedule` does, is further ahead.
async fn settle(lab: &Lab<'_>, count: u64) -> anyhow::Result<()> {
    let redis = lab.rig.redis();
    for key in lab.rig.keys().await? {
        let look = match redis.run(redis::cmd("TYPE").arg(&key)).await? {
            Value::SimpleString(of) if of == "zset" => "ZSCORE",
            Value::SimpleString(of) if of == "hash" => "HEXISTS",
            _ => continue,
        };
        for _ in 0..count.div_ceil(LOOKS_PER_CALL) {
            let mut command = redis::cmd("EVAL");
            redis.run(command.arg(LOOK).arg(1).arg(&key).arg(look).arg(LOOKS_PER_CALL)).await?;
        }
    }
    Ok(())
}

/// What `serve` itself takes, with much pending and after firing much.
async fn serve(lab: &Lab<'_>) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for pending in [lab.plan.backlog / 10, lab.plan.backlog] {
        lab.rig.clear().await?;
        lab.show(&format!("memory serve_rss pending={pending}"), 0);
        let queue = lab.rig.queue(QUEUE).await?;
        lab.fill(&queue, lab.far(pending).await?, None).await?;
        let serve = Serve::start(lab.rig, QUEUE).await?;
        sleep(SETTLING.min(lab.plan.span)).await;
        let rss = serve.rss_mib();
        serve.stop().await?;
        figures.extend(rss.map(|(now, _)| mebibytes("serve_rss", now).with("pending", pending)));
    }

    let ids = lab.plan.ids;
    lab.rig.clear().await?;
    lab.show(&format!("memory serve_rss_peak fired={ids}"), 0);
    let queue = lab.rig.queue(QUEUE).await?;
    lab.fill(&queue, lab.due(ids, lab.plan.seed).await?, None).await?;
    let serve = Serve::start(lab.rig, QUEUE).await?;
    until_empty(&queue, lab.bar).await?;
    let rss = serve.rss_mib();
    serve.stop().await?;
    figures.extend(rss.map(|(_, peak)| mebibytes("serve_rss_peak", peak).with("fired", ids)));
    Ok(figures)
}

fn mebibytes(case: &'static str, value: f64) -> Figure {
    Figure::new("memory", case, Unit::Mebibytes, vec![value])
}
