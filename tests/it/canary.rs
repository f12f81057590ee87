//! The rules of the canary, at the level of the scripts: when it is written, and that nothing but a loss sets it back.

use overdue::{
    ServerTime,
    order::Orders,
    queue::{Canary, Queue, Sighting, Sink, SinkKind},
};

use crate::support::{LEASE, NOTHING, RedisServer, Rig, STREAM, T0};

/// The scripts that keep the canary: each is what some poller calls.
const VERBS: [&str; 5] = ["claim", "fire_stream", "fire_list", "watch", "order_expire"];
const HOUR_MS: i64 = 3_600_000;

async fn poll(queue: &Queue, verb: &str) {
    let polled = match verb {
        "claim" => queue.claim(10, LEASE).await.map(drop),
        "fire_stream" => queue.fire(STREAM, 10, None).await.map(drop),
        "fire_list" => queue.fire(Sink { kind: SinkKind::List, max_len: None }, 10, None).await.map(drop),
        "watch" => queue.watch().await.map(drop),
        _ => Orders::new(queue.clone()).expire_due(false).await.map(drop),
    };
    polled.unwrap_or_else(|error| panic!("{verb}: {error}"));
}

async fn stored(rig: &Rig) -> String {
    rig.on_key("HGET", "meta", "canary").await
}

fn canary(count: u64, at_ms: i64) -> Canary {
    Canary { born_us: T0 as u64 * 1000, count, at: ServerTime::from_ms(at_ms) }
}

#[tokio::test]
async fn every_poll_keeps_it_and_writes_once_a_second_at_most() {
    for verb in VERBS {
        let rig = Rig::new().await;
        let after = async |at_ms: i64| {
            poll(&rig.when(at_ms), verb).await;
            stored(&rig).await.split_once(' ').expect("three numbers").1.to_owned()
        };
        assert_eq!(after(T0).await, format!("1 {T0}"), "{verb}: a fresh queue has one after its first poll");
        assert_eq!(after(T0 + 999).await, format!("1 {T0}"), "{verb}");
        assert_eq!(after(T0 + 1000).await, format!("2 {}", T0 + 1000), "{verb}");
        for tick in 0..100 {
            after(T0 + 1000 + tick * 100).await;
        }
        assert_eq!(after(T0 + 11_000).await, format!("12 {}", T0 + 11_000), "{verb}");
        assert_eq!(rig.keys().await, ["meta"], "{verb}");
        assert!(rig.exists().await.unwrap(), "{verb}: what was polled is known");
        assert_eq!(stored(&rig).await.split(' ').next().unwrap(), format!("{T0}000"), "{verb}: born once");
    }
}

#[tokio::test]
async fn its_count_grows_whatever_the_clock_does() {
    for verb in VERBS {
        let rig = Rig::new().await;
        let mut last = 0;
        for at_ms in [T0, T0 + HOUR_MS, T0 + 1, T0 + 999, T0 + 1001, T0 - HOUR_MS, T0 - HOUR_MS + 1000, T0] {
            poll(&rig.when(at_ms), verb).await;
            let Sighting { found, left } = rig.when(at_ms).watch().await.unwrap().canary;
            assert_eq!(found, Some(left), "{verb}: it was written once");
            assert_eq!(left.born_us, T0 as u64 * 1000, "{verb}");
            // Only between + 1 and + 999 is it neither a second old nor in the future.
            assert_eq!(left.count, if at_ms == T0 + 999 { last } else { last + 1 }, "{verb} {at_ms}");
            last = left.count;
        }
    }
}

#[tokio::test]
async fn a_claim_that_takes_something_writes_it_at_once() {
    for verb in ["claim", "fire_stream", "fire_list", "order_expire"] {
        let rig = Rig::new().await;
        poll(&rig.when(T0), verb).await;
        rig.zadd("a", T0).await;
        poll(&rig.when(T0 + 1), verb).await;
        assert_eq!(stored(&rig).await, format!("{T0}000 2 {}", T0 + 1), "{verb}");
        poll(&rig.when(T0 + 2), verb).await;
        assert_eq!(stored(&rig).await, format!("{T0}000 2 {}", T0 + 1), "{verb}: nothing was due");
    }
}

#[tokio::test]
async fn a_poll_tells_what_it_found_and_what_it_left() {
    let rig = Rig::new().await;
    let first = rig.claim_at(T0, 1).await.canary;
    assert_eq!(first, Sighting { found: None, left: canary(1, T0) });
    let fired = rig.when(T0 + 1).fire(STREAM, 1, None).await.unwrap().canary;
    assert_eq!(fired, Sighting { found: Some(first.left), left: first.left });
    let later = rig.when(T0 + 1000).watch().await.unwrap().canary;
    assert_eq!(later, Sighting { found: Some(first.left), left: canary(2, T0 + 1000) });
}

#[tokio::test]
async fn one_that_somebody_damaged_is_born_anew() {
    for damaged in
        ["", "1", "1 2", "x y z", "1 2 3 4", "1 9999999999999999 3", "1 2 9999999999999999", "-1 2 3"]
    {
        let rig = Rig::new().await;
        let _: i64 = rig.on_key("HSET", "meta", ("canary", damaged)).await;
        poll(&rig.when(T0), "claim").await;
        assert_eq!(stored(&rig).await, format!("{T0}000 1 {T0}"), "{damaged:?}");
    }
    // What looks like one is taken for one: its count is what matters.
    let rig = Rig::new().await;
    let _: i64 = rig.on_key("HSET", "meta", ("canary", "1 999999999999998 3")).await;
    let Sighting { found, left } = rig.claim_at(T0, 1).await.canary;
    assert_eq!(
        (found.unwrap().count, left.count, left.born_us),
        (999_999_999_999_998, 999_999_999_999_999, 1)
    );
}

#[tokio::test]
async fn it_is_kept_while_the_queue_is_paused_and_when_redis_is_full() {
    let server = RedisServer::start();
    for verb in VERBS {
        let rig = Rig::on(&server).await;
        rig.zadd("a", T0).await;
        rig.pause(true).await.unwrap();
        rig.admin(&["CONFIG", "SET", "maxmemory", "1"]).await;
        for second in 0..3 {
            poll(&rig.when(T0 + second * 1000), verb).await;
        }
        assert_eq!(stored(&rig).await, format!("{T0}000 3 {}", T0 + 2000), "{verb}");
        assert_eq!(rig.members("scheduled").await, ["a"], "{verb}: it is paused");
        rig.admin(&["CONFIG", "SET", "maxmemory", "0"]).await;
    }
}

#[tokio::test]
async fn an_idle_poll_writes_nothing_within_the_second() {
    let server = RedisServer::start();
    let changes = async |rig: &Rig| -> u64 {
        let info: String = rig.send(redis::cmd("INFO").arg("persistence")).await;
        let line = info.lines().find_map(|line| line.strip_prefix("rdb_changes_since_last_save:"));
        line.expect("Redis counts changes").parse().expect("a number")
    };
    for verb in VERBS {
        let rig = Rig::on(&server).await;
        poll(&rig.when(T0), verb).await;
        let before = changes(&rig).await;
        for ms in 1..100 {
            poll(&rig.when(T0 + ms), verb).await;
        }
        assert_eq!(changes(&rig).await, before, "{verb}");
        poll(&rig.when(T0 + 1000), verb).await;
        assert_eq!(changes(&rig).await, before + 1, "{verb}");
        let meta: Vec<String> = rig.on_key("HKEYS", "meta", NOTHING).await;
        assert_eq!(meta, ["canary", "schema"], "{verb}");
    }
}
