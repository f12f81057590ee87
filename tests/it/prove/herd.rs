//! The herd: everything is due in the same millisecond, with eight schedulers at it.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{
    clients::register,
    fleet::{Fleet, config, nothing_remains},
    history::now_us,
    run::{Run, Terms, scaled},
    sinks::read_stream,
};
use crate::support::{RedisServer, Rig, connect, eventually, id, process::Place};

/// How many schedulers there are.
const SCHEDULERS: usize = 8;
/// Scripts that took this long at least are counted, in µs: the slow log is what measures them.
const SLOW_US: &str = "1000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_of_ids_in_one_millisecond_is_fired_once_each_and_stops_nobody() {
    let mut run = Run::begin("a herd in one millisecond, stream");
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    rig.admin(&["CONFIG", "SET", "slowlog-log-slower-than", SLOW_US]).await;
    rig.admin(&["CONFIG", "SET", "slowlog-max-len", "100000"]).await;
    let count = scaled(20_000);
    // Far enough ahead that all of them are registered when it comes.
    let due_ms = now_us() / 1000 + 2000 + count as i64 / 20;
    let all: Vec<_> = (0..count).map(|n| (id(&format!("order-{n}")), due_ms)).collect();
    for bulk in all.chunks(10_000) {
        register(&rig, &run.history, bulk).await;
    }
    let place = Place::new(&config(&server, &rig, "handler = { type = \"stream\" }\n", ""));
    let fleet = Fleet::start(&place, SCHEDULERS);
    // On a slow machine they are due before all is ready: then that is when the herd starts.
    let start_us = now_us().max(due_ms * 1000);
    rig.admin(&["SLOWLOG", "RESET"]).await;

    let stop = CancellationToken::new();
    let bystander = tokio::spawn(ping(server.url(), stop.clone()));
    eventually("all are fired", async || {
        (rig.counts().await.expect("Redis is well").scheduled == 0).then_some(())
    })
    .await;
    run.measure_ms("fired_within_ms", Duration::from_micros((now_us() - start_us).unsigned_abs()));
    stop.cancel();
    let mut pings_us = bystander.await.expect("no panic");
    pings_us.sort_unstable();
    let at = |share: f64| pings_us[((pings_us.len() - 1) as f64 * share) as usize];
    run.measure("ping_p50_us", at(0.5));
    run.measure("ping_p99_us", at(0.99));
    run.measure("ping_max_us", at(1.0));
    run.measure("longest_script_us", longest_script_us(&rig).await);

    fleet.drain(&rig).await;
    read_stream(&rig, &run.history).await;
    nothing_remains(&rig).await;
    run.history.struck("a herd");
    run.finish(Terms::struck_by(["a herd"]));
}

/// Another client, who only wants an answer: how long each took, in µs.
async fn ping(url: String, stop: CancellationToken) -> Vec<u64> {
    let mut connection = connect(&url).await.expect("the server listens");
    let mut times_us = Vec::new();
    while !stop.is_cancelled() {
        let begun = Instant::now();
        redis::cmd("PING").query_async::<()>(&mut connection).await.expect("an answer");
        times_us.push(begun.elapsed().as_micros() as u64);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    times_us
}

/// The slowest script that the slow log has, in µs; 0 if none took a millisecond.
async fn longest_script_us(rig: &Rig) -> u64 {
    let entries: Vec<redis::Value> = rig.send(redis::cmd("SLOWLOG").arg("GET").arg(-1)).await;
    let parsed = entries.into_iter().map(|entry| {
        let (_, _, took_us, words): (u64, u64, u64, Vec<Vec<u8>>) = match entry {
            redis::Value::Array(mut parts) => {
                parts.truncate(4);
                redis::from_redis_value(redis::Value::Array(parts)).expect("an entry of the slow log")
            }
            other => panic!("no entry of the slow log: {other:?}"),
        };
        (words, took_us)
    });
    parsed
        .filter(|(words, _)| words[0].eq_ignore_ascii_case(b"evalsha"))
        .map(|(_, took_us)| took_us)
        .max()
        .unwrap_or(0)
}
