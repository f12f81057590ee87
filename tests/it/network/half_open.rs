//! Connections that fall silent without a word, as behind a pulled cable or a NAT that forgot them: how soon that is
//! noticed with the timeouts of the reference configuration, and how soon work goes on. The figures are printed;
//! what is asserted leaves room for a busy machine.

use std::time::{Duration, Instant};

use overdue::{
    lock::{Lock, LockOptions, Release},
    queue::{Due, Expected, Mode, Registration},
    redis::{Redis, Timeouts},
};
use serde_json::json;

use super::Serving;
use crate::support::{
    LIMIT, RedisServer, Rig, eventually,
    http::Caller,
    id,
    process::field,
    proxy::{Door, Proxy},
};

/// "A half-open connection is noticed within ten seconds": three times that for a machine that does other things too.
const NOTICED: Duration = Duration::from_secs(30);

/// Registers an id that is due at once, past the proxy.
async fn put_now(rig: &Rig, name: &str) {
    let now = Registration { id: id(name), due: Due::In(Duration::ZERO), payload: None };
    rig.schedule(&[now], Mode::Replace, Expected::Anything).await.expect("scheduled");
}

fn report(what: &str, begun: Instant) {
    let took = begun.elapsed();
    eprintln!("{what}: {took:.2?}");
    assert!(took < NOTICED, "{what}: {took:?}");
}

/// A `serve` with the default timeouts, that has polled.
async fn serving(handler: &str, more: &str) -> Serving {
    let serving = Serving::new(&Timeouts::default(), handler, more).await;
    put_now(&serving.rig, "first").await;
    serving
}

#[tokio::test]
async fn an_idle_scheduler_notices_and_goes_on() {
    let serving = serving("log", "").await;
    serving.handles("first").await;
    let begun = Instant::now();
    serving.proxy.faults().half_open(Door::Open);
    put_now(&serving.rig, "a").await;
    serving.handles("a").await;
    report("half-open while idle, until the next id is handled", begun);
    assert!(serving.proxy.faults().count("half_open") >= 1);
    serving.serve.stop().await;
}

#[tokio::test]
async fn work_goes_on_soon_after_new_connections_work_again() {
    for (door, sign) in [(Door::Hang, "hang"), (Door::Refuse, "refuse")] {
        let serving = serving("log", "").await;
        serving.handles("first").await;
        let faults = serving.proxy.faults();
        faults.half_open(door);
        put_now(&serving.rig, "a").await;
        eventually("it tries to connect", async || (faults.count(sign) >= 3).then_some(())).await;
        let begun = Instant::now();
        faults.heal();
        serving.handles("a").await;
        report(&format!("new connections {sign}, until an id is handled after they work again"), begun);
        serving.serve.stop().await;
    }
}

/// The one handler at a time writes the file `begun`, and runs until the file `done` is there.
const UNTIL_DONE: &str = r#"
concurrency = 1
handler.command = ["sh", "-c", "touch begun; until [ -e done ]; do sleep 0.02; done"]
handler.timeout = "10m"
"#;

#[tokio::test]
async fn leases_are_extended_over_a_new_connection_though_nobody_else_uses_the_old_one() {
    // The only handler is busy, so nothing is polled, and no outcome is there to be sent.
    let serving = serving("command", UNTIL_DONE).await;
    let faults = serving.proxy.faults();
    let extended = async |count: u64| {
        let what = format!("{count} extensions");
        eventually(&what, async || (faults.passed("extend") >= count).then_some(())).await;
    };
    extended(1).await;
    let begun = Instant::now();
    faults.half_open(Door::Open);
    extended(2).await;
    report("half-open while a lease is extended, until the next extension", begun);
    serving.place.write("done", "");
    serving.nothing_is_left().await;
    serving.serve.stop().await;
}

#[tokio::test]
async fn an_outcome_that_went_into_the_silence_is_sent_again() {
    let serving = serving("command", UNTIL_DONE).await;
    let faults = serving.proxy.faults();
    // Not only leased: the answer to the claim may still be on its way then, and would be lost as well.
    eventually("it is handled", async || serving.place.path("begun").exists().then_some(())).await;
    let begun = Instant::now();
    faults.half_open(Door::Open);
    serving.place.write("done", "");
    serving.nothing_is_left().await;
    report("half-open while a handler runs, until its outcome is in Redis", begun);
    assert!(faults.count("swallow:ack") >= 1);
    serving.serve.stop().await;
}

#[tokio::test]
async fn a_worker_that_waits_over_http_has_the_next_id_soon() {
    let serving = Serving::new(&Timeouts::default(), "pull", "").await;
    let line = serving.serve.says("serving").await;
    let caller = Caller::new(format!("http://{}", field(&line, "http").expect("it listens")));
    let path = format!("/v1/queues/{}/claim", serving.rig.name());
    let claim = async || caller.call("POST", &path, json!({"wait": "30s"})).await;
    let waiting = async {
        let mut refused = 0;
        loop {
            let answer = claim().await;
            match answer.status {
                200 if answer.text.contains("\"a\"") => break refused,
                200 => {}
                _ => refused += usize::from(answer.problem(503, "redis-unavailable").is_object()),
            }
        }
    };
    let breaks = async {
        eventually("it polls for the worker", async || {
            (serving.proxy.faults().passed("claim") > 1).then_some(())
        })
        .await;
        let begun = Instant::now();
        serving.proxy.faults().half_open(Door::Open);
        put_now(&serving.rig, "a").await;
        begun
    };
    let (refused, begun) = tokio::join!(waiting, breaks);
    report("half-open while a worker waits, until it has the next id", begun);
    assert!(refused <= 2, "the worker was sent away {refused} times");
    serving.serve.stop().await;
}

#[tokio::test]
async fn a_stop_comes_to_its_end_in_the_silence() {
    let serving = serving("log", "").await;
    serving.handles("first").await;
    serving.proxy.faults().half_open(Door::Hang);
    serving.serve.stop().await;
}

#[tokio::test]
async fn a_lock_is_kept_over_a_new_connection() {
    let proxy = Proxy::start(RedisServer::shared());
    // No answer within the limits of the handle, so only those of the lock can help it.
    let redis = Redis::open(&proxy.url(), Timeouts { connect: LIMIT, response: LIMIT }).unwrap();
    let options = LockOptions { ttl: Duration::from_secs(15), wait: Duration::ZERO };
    let lock = Lock::new(redis, "overdue", "half-open".parse().unwrap(), options).unwrap();
    let held = lock.acquire().await.unwrap();
    proxy.faults().half_open(Door::Open);
    let begun = Instant::now();
    tokio::select! {
        loss = held.lost() => panic!("{loss}"),
        () = eventually("it is extended", async || (proxy.faults().passed("lock_extend") > 0).then_some(())) => {}
    }
    report("half-open while a lock of 15 s is held, until its next extension", begun);
    assert_eq!(held.release().await.unwrap(), Release::Released);
}
