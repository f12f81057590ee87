//! `storm`: all ids due in the same millisecond, and what another client of Redis feels meanwhile.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures_util::TryFutureExt as _;
use redis::Value;

use super::{
    ahead,
    bare::Bare,
    clock::Clock,
    drain::Schedulers,
    figure::{Figure, Unit},
    info::ScriptCalls,
    lab::{Lab, Round},
    latency::{Latencies, Percentiles},
    lateness::Noting,
};
use crate::{redis::Redis, types::DueAt};

/// How often the other client calls, and for how long before the storm.
const PING_STEP: Duration = Duration::from_millis(1);
const QUIET: Duration = Duration::from_secs(1);
/// The slow log takes what is longer than this: all batches, and no PING.
const SLOW_US: u64 = 50;
/// As many batches of 500 as 10 million ids are, claim and ack.
const SLOW_ENTRIES: u64 = 50_000;
/// The defaults of Redis.
const USUAL_SLOW_US: u64 = 10_000;
const USUAL_SLOW_ENTRIES: u64 = 128;

/// What one storm shows.
struct Storm {
    per_second: f64,
    drained_ms: f64,
    lateness: Percentiles,
    ping: Percentiles,
    quiet: Percentiles,
    script_mean_ms: f64,
    /// None where the slow log is not ours to set.
    script_longest_ms: Option<f64>,
}

pub(super) async fn measure(lab: &Lab<'_>) -> anyhow::Result<Vec<Figure>> {
    let storms = lab.rounds("storm", &[()], async |(), round| once(lab, round).await).await?.remove(0);
    let values = |value: &dyn Fn(&Storm) -> f64| storms.iter().map(value).collect::<Vec<f64>>();
    let figure = |case, unit, value: &dyn Fn(&Storm) -> f64| {
        Figure::new("storm", case, unit, values(value)).with("ids", lab.plan.ids)
    };
    let mut figures = vec![
        figure("rate", Unit::IdsPerSecond, &|storm| storm.per_second),
        figure("drained", Unit::Milliseconds, &|storm| storm.drained_ms),
    ];
    let names = ["lateness_p50", "lateness_p99", "lateness_p99.9", "lateness_max"];
    for (place, case) in names.into_iter().enumerate() {
        figures.push(figure(case, Unit::Milliseconds, &|storm| storm.lateness.0[place]));
    }
    let names = ["ping_p50", "ping_p99", "ping_p99.9", "ping_max"];
    for (place, case) in names.into_iter().enumerate() {
        let quiet = values(&|storm| storm.quiet.0[place]);
        let figure = figure(case, Unit::Milliseconds, &|storm| storm.ping.0[place]);
        figures.push(figure.beside("quiet", quiet));
    }
    figures.push(figure("script_mean", Unit::Milliseconds, &|storm| storm.script_mean_ms));
    if storms.iter().all(|storm| storm.script_longest_ms.is_some()) {
        let longest = |storm: &Storm| storm.script_longest_ms.unwrap_or_default();
        figures.push(figure("script_longest", Unit::Milliseconds, &longest));
    }
    Ok(figures)
}

async fn once(lab: &Lab<'_>, round: Round) -> anyhow::Result<Storm> {
    lab.rig.clear().await?;
    let queue = lab.rig.queue("storm").await?;
    let count = round.share(lab.plan.ids);
    let quiet_for = round.span(QUIET.min(lab.plan.span));
    let due_at = ahead::fill(lab, &queue, count, Duration::ZERO, round.seed, quiet_for).await?;

    let redis = lab.rig.redis();
    let clock = Clock::of(redis).await?;
    let slow_log = if lab.rig.is_private() { Some(SlowLog::begin(redis).await?) } else { None };
    let before = ScriptCalls::so_far(redis).await?;
    let [lateness, ping, quiet] = [(); 3].map(|()| Arc::new(Latencies::new()));
    let handler = Noting { clock, latencies: Arc::clone(&lateness) };
    let schedulers = Schedulers::start(vec![queue], &lab.settings(), handler, count);
    let (in_storm, in_quiet) = (Arc::clone(&ping), Arc::clone(&quiet));
    let pinged = lab.rig.bare(move |bare| ping_until_stopped(bare, clock, due_at, &in_quiet, &in_storm));
    // The other client calls until the storm is over.
    let drained_at = tokio::select! {
        ended = schedulers.finish(lab.bar) => ended?,
        failed = pinged.and_then(|()| std::future::pending()) => failed?,
    };

    let calls = ScriptCalls::so_far(redis).await?.since(before);
    let drained_ms = clock.us_since(due_at, drained_at) as f64 / 1000.0;
    Ok(Storm {
        per_second: count as f64 / drained_ms * 1000.0,
        drained_ms,
        lateness: lateness.percentiles(),
        ping: ping.percentiles(),
        quiet: quiet.percentiles(),
        script_mean_ms: calls.us / calls.calls / 1000.0,
        script_longest_ms: match slow_log {
            Some(slow_log) => Some(slow_log.longest_script_ms().await?),
            None => None,
        },
    })
}

/// Calls at fixed times, and counts each call from the time at which it should have been made: one that had to wait
/// for the one before counts that, too.
fn ping_until_stopped(
    bare: &mut Bare,
    clock: Clock,
    due_at: DueAt,
    quiet: &Latencies,
    storm: &Latencies,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    for step in 0.. {
        if bare.is_stopped() {
            break;
        }
        let at = begun + PING_STEP * step;
        thread::sleep(at.saturating_duration_since(Instant::now()));
        bare.ping()?;
        let answered = Instant::now();
        let latencies = if clock.us_since(due_at, answered) < 0 { quiet } else { storm };
        latencies.note(answered.saturating_duration_since(at).as_micros() as i64);
    }
    Ok(())
}

/// Redis' own log of long calls, set up to hold every batch.
struct SlowLog<'a>(&'a Redis);

impl<'a> SlowLog<'a> {
    async fn begin(redis: &'a Redis) -> anyhow::Result<Self> {
        redis.run(redis::cmd("SLOWLOG").arg("RESET")).await?;
        let log = Self(redis);
        log.keep(SLOW_US, SLOW_ENTRIES).await?;
        Ok(log)
    }

    async fn longest_script_ms(self) -> anyhow::Result<f64> {
        let entries = self.0.run(redis::cmd("SLOWLOG").arg("GET").arg(SLOW_ENTRIES)).await?;
        // Its entries are memory of Redis, which is measured later.
        self.keep(USUAL_SLOW_US, USUAL_SLOW_ENTRIES).await?;
        self.0.run(redis::cmd("SLOWLOG").arg("RESET")).await?;
        let Value::Array(entries) = entries else { return Ok(0.0) };
        Ok(entries.iter().filter_map(script_us).max().unwrap_or(0) as f64 / 1000.0)
    }

    /// What is longer than this, and how many at most.
    async fn keep(&self, slower_than_us: u64, entries: u64) -> anyhow::Result<()> {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("slowlog-log-slower-than").arg(slower_than_us);
        self.0.run(command.arg("slowlog-max-len").arg(entries)).await?;
        Ok(())
    }
}

/// How long an entry of the slow log took, if it is of a script: number, time, µs, words, …
fn script_us(entry: &Value) -> Option<i64> {
    let Value::Array(fields) = entry else { return None };
    let [_, _, Value::Int(us), Value::Array(words), ..] = &fields[..] else { return None };
    let is_script = matches!(words.first(), Some(Value::BulkString(word)) if word == b"EVALSHA");
    is_script.then_some(*us)
}
