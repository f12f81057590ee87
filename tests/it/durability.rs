//! What a write has to reach before it counts as done.

use std::time::Duration;

use overdue::{
    error::Error,
    queue::{Expected, Mode, Queue},
    redis::{Redis, Timeouts},
    types::{Durability, DurabilityLevel},
};
use serde_json::json;

use crate::support::{
    LIMIT, RedisServer, Rig, eventually, group::Node, http::Site, id, many, process::Place, queue_of, version,
};

fn durable(queue: &Queue, level: DurabilityLevel, replicas: u32, timeout: Duration) -> Queue {
    queue.durable(Durability { level, replicas, timeout })
}

/// A master with a replica that is in sync.
async fn pair() -> (Node, Node) {
    let master = Node::start(&[]);
    let replica = Node::start(&["--replicaof", "127.0.0.1", &master.port().to_string()]);
    eventually("the replica is in sync", async || {
        (replica.info("replication", "master_link_status").await == "up").then_some(())
    })
    .await;
    (master, replica)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicated_means_that_replicas_have_it_and_an_error_that_they_may_not() {
    let (master, replica) = pair().await;
    let queue =
        queue_of(Redis::open(&master.url(), Timeouts { connect: LIMIT, response: LIMIT }).expect("a url"));
    let careful = durable(&queue, DurabilityLevel::Replicated, 0, LIMIT);
    careful.schedule(&many(100), Mode::Replace, Expected::Anything).await.expect("replicated");
    let key = format!("overdue:{{{}}}:scheduled", queue.name());
    assert_eq!(replica.ask::<u64>(&["ZCARD", &key]).await, 100);
    careful.cancel(&[id("n0")]).await.expect("replicated");
    assert_eq!(replica.ask::<u64>(&["ZCARD", &key]).await, 99);

    // Two are wanted, and one is there.
    let short = Duration::from_millis(50);
    let two = durable(&queue, DurabilityLevel::Replicated, 2, short);
    let error = two.cancel(&[id("n1")]).await.expect_err("there is one replica only");
    assert!(matches!(&error, Error::NotDurable { level: "replicated", .. }), "{error}");
    assert!(error.to_string().contains("1 of 2 replicas"), "{error}");
    assert!(queue.show(&id("n1")).await.expect("shown").is_none(), "it was written all the same");

    // While writes wait for a replica that does not answer, others do not.
    replica.signal("STOP");
    let waiting = (0..10).map(|n| {
        let careful = careful.clone();
        tokio::spawn(async move { careful.cancel(&[id(&format!("n{}", 10 + n))]).await })
    });
    let waiting: Vec<_> = waiting.collect();
    eventually("all are written", async || {
        (queue.counts().await.expect("nobody waits for the others").scheduled == 88).then_some(())
    })
    .await;
    assert!(waiting.iter().all(|call| !call.is_finished()));
    replica.signal("CONT");
    for call in waiting {
        call.await.expect("no panic").expect("the replica has it now");
    }
}

#[tokio::test]
async fn fsynced_takes_an_aof_and_redis_7_2_and_writes_nothing_without() {
    let server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let rig = Rig::on(&server).await;
    let careful = durable(&rig, DurabilityLevel::Fsynced, 0, LIMIT);
    let answer = careful.schedule(&many(3), Mode::Replace, Expected::Anything).await;
    if version() >= (7, 2) {
        answer.expect("it is on disk");
        let plain = Rig::on(RedisServer::shared()).await;
        let careful = durable(&plain, DurabilityLevel::Fsynced, 0, LIMIT);
        let error = careful.schedule(&many(3), Mode::Replace, Expected::Anything).await.expect_err("no AOF");
        assert!(error.to_string().contains("appendonly"), "{error}");
        assert_eq!(plain.counts().await.expect("counted").scheduled, 0);
    } else {
        let error = answer.expect_err("this Redis does not know WAITAOF").to_string();
        assert!(error.contains("WAITAOF") || error.contains("waitaof"), "{error}");
        assert_eq!(rig.counts().await.expect("counted").scheduled, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_http_and_a_command_ask_for_a_level_and_are_told_which_was_reached() {
    let durability = "durability = { level = \"memory\", timeout = \"50ms\" }\n";
    let site = Site::on(RedisServer::shared(), "pull", durability, "").await;
    assert_eq!(site.put("a", json!({"delay": "1h"})).await.is(201)["durability"], "memory");
    let refused = site.put("b", json!({"delay": "1h", "durability": "replicated"})).await;
    let why = refused.problem(503, "not-durable")["detail"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("0 of 1 replicas") && why.contains("may still exist"), "{why}");
    site.get("/deadlines/b").await.is(200);

    let level = [("overdue-durability", "replicated")];
    let tail = site.path("/deadlines/b");
    site.caller.call_with("DELETE", &tail, json!(null), &level).await.problem(503, "not-durable");
    site.get("/deadlines/b").await.problem(404, "deadline-not-found");
    let unknown = [("overdue-durability", "carved-in-stone")];
    site.caller.call_with("DELETE", &tail, json!(null), &unknown).await.problem(422, "invalid-value");

    let (master, replica) = pair().await;
    let config = format!(
        "[redis]\nurl = \"{}\"\n[queue.orders]\ndurability = {{ level = \"replicated\", replicas = 1, timeout = \"50s\" }}\n",
        master.url()
    );
    let place = Place::new(&config);
    let told = place.run(&["schedule", "orders", "a", "--in", "1h", "-o", "json"]).json();
    assert_eq!(told["durability"], "replicated");
    assert!(replica.ask::<Option<f64>>(&["ZSCORE", "overdue:{orders}:scheduled", "a"]).await.is_some());
    let told = place.run(&["cancel", "orders", "a", "--durability", "memory", "-o", "json"]).json();
    assert_eq!(told[0]["durability"], "memory");
    drop(replica);
    let short = [("OVERDUE_QUEUE__ORDERS__DURABILITY__TIMEOUT", "50ms")];
    let ran = place.run_with(&["schedule", "orders", "b", "--in", "1h"], std::process::Stdio::null(), &short);
    ran.fails(1, &["not replicated within 50ms", "may still exist"]);
}
