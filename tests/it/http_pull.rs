//! Work over HTTP: claim, and what follows it.

use std::time::{Duration, Instant};

use overdue::queue::State;
use serde_json::{Value, json};

use crate::support::{LIMIT, eventually, http::Site};

async fn put_due(site: &Site, id: &str) {
    site.put(id, json!({"delay": "0s", "payload": {"n": 1}})).await.is(201);
}

async fn claim(site: &Site, body: Value) -> Vec<Value> {
    site.post("/claim", body).await.is(200)["deliveries"].as_array().expect("deliveries").clone()
}

fn held(delivery: &Value) -> Value {
    json!({"id": delivery["id"], "token": delivery["token"]})
}

#[tokio::test]
async fn what_is_due_is_claimed_and_acked_once() {
    let site = Site::pull().await;
    for id in ["a", "b"] {
        put_due(&site, id).await;
    }
    let answer = site.post("/claim", json!({"limit": 10, "lease": "30s"})).await.is(200);
    let deliveries = answer["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.len(), 2);
    assert_eq!((&deliveries[0]["attempt"], &deliveries[0]["payload"]), (&json!(1), &json!({"n": 1})));
    assert!(answer["expires_at"].is_string());
    assert!(claim(&site, json!({})).await.is_empty());

    let both: Vec<Value> = deliveries.iter().map(held).collect();
    let extended = site.post("/extend", json!({"lease": "60s", "deliveries": both})).await.is(200);
    assert_eq!(extended["results"][1]["result"], "done");
    let wrong = json!({"id": "a", "token": 1});
    let acked = site.post("/ack", json!({"deliveries": [both[0], wrong, both[1]]})).await.is(200);
    let results: Vec<&Value> =
        acked["results"].as_array().unwrap().iter().map(|one| &one["result"]).collect();
    assert_eq!(results, ["done", "stale", "done"]);
    let again = site.post("/ack", json!({"deliveries": both})).await.is(200);
    assert_eq!(again["results"][0]["result"], "stale");
    assert_eq!(site.rig.keys().await, ["meta"]);
    site.serve.stop().await;
}

#[tokio::test]
async fn failures_are_tried_again_until_the_attempts_are_spent() {
    let more = "max_attempts = 2\nbackoff = { initial = \"1ms\", max = \"1ms\" }";
    let site = Site::new("pull", more).await;
    put_due(&site, "a").await;
    let delivery = claim(&site, json!({"wait": "30s"})).await.remove(0);
    let failed = json!({"id": "a", "token": delivery["token"], "error": "no luck"});
    let retried = site.post("/retry", json!({"deliveries": [failed]})).await.is(200);
    assert_eq!(retried["results"][0]["result"], "scheduled");
    assert!(retried["results"][0]["next_attempt_at"].is_string());

    let delivery = claim(&site, json!({"wait": "30s"})).await.remove(0);
    assert_eq!(delivery["attempt"], 2);
    let failed = json!({"id": "a", "token": delivery["token"], "error": "no luck", "delay": "1h"});
    let retried = site.post("/retry", json!({"deliveries": [failed]})).await.is(200);
    assert_eq!(retried["results"], json!([{"id": "a", "result": "dead"}]));
    let shown = site.get("/deadlines/a").await.is(200);
    assert_eq!((&shown["reason"], &shown["error"]), (&json!("attempts_spent"), &json!("no luck")));

    put_due(&site, "b").await;
    let delivery = claim(&site, json!({"wait": "30s"})).await.remove(0);
    let hopeless = json!({"id": "b", "token": delivery["token"], "error": "never"});
    let buried = site.post("/bury", json!({"deliveries": [hopeless]})).await.is(200);
    assert_eq!(buried["results"][0]["result"], "done");
    let dead = site.get("/dead?reason=rejected").await.is(200);
    assert_eq!((&dead["deadlines"][0]["id"], dead["deadlines"].as_array().unwrap().len()), (&json!("b"), 1));

    let ids = json!({"ids": ["a", "b", "c"]});
    let verdicts = [
        json!({"id": "a", "result": "done"}),
        json!({"id": "b", "result": "done"}),
        json!({"id": "c", "result": "not_dead"}),
    ];
    assert_eq!(site.post("/dead/retry", ids.clone()).await.is(200)["results"], json!(verdicts));
    assert_eq!(claim(&site, json!({"limit": 5, "wait": "30s"})).await.len(), 2);
    assert_eq!(site.post("/dead/delete", ids).await.is(200)["results"][0]["result"], "not_dead");
    site.serve.stop().await;
}

#[tokio::test]
async fn who_waits_is_answered_when_something_falls_due_and_in_turn() {
    let site = Site::new("pull", "lease = \"3h\"").await;
    let begun = Instant::now();
    assert!(claim(&site, json!({"wait": "50ms"})).await.is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(50));

    let wait = async || claim(&site, json!({"wait": "30s"})).await;
    let fire = async {
        for id in ["a", "b", "c"] {
            put_due(&site, id).await;
        }
    };
    // Each waiter gets one, whoever of them comes first.
    let (one, two, three, ()) = tokio::join!(wait(), wait(), wait(), fire);
    let mut ids: Vec<String> =
        [one, two, three].iter().map(|claimed| claimed[0]["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    assert_eq!(ids, ["a", "b", "c"]);
    site.serve.stop().await;
}

#[tokio::test]
async fn a_worker_that_leaves_takes_nothing_along() {
    let site = Site::new("pull", "lease = \"3h\"").await;
    let waiting = {
        let (caller, path) = (site.caller.clone(), site.path("/claim"));
        tokio::spawn(async move { caller.call("POST", &path, json!({"wait": "30s", "lease": "1h"})).await })
    };
    // It stands in line; the queue is asked about every 20 ms.
    tokio::time::timeout(LIMIT, site.post("/claim", json!({"wait": "30ms"}))).await.expect("an answer");
    waiting.abort();
    let _ = waiting.await;
    // Its place in line, its claim or its lease would keep the next worker from this.
    put_due(&site, "a").await;
    let next =
        eventually("the next worker gets it", async || claim(&site, json!({"wait": "1s"})).await.pop()).await;
    assert_eq!(next["id"], "a");
    site.serve.stop().await;
}

#[tokio::test]
async fn a_stop_ends_the_waiting_with_an_empty_answer() {
    let site = Site::pull().await;
    let waiting = {
        let (caller, path) = (site.caller.clone(), site.path("/claim"));
        tokio::spawn(async move { caller.call("POST", &path, json!({"wait": "30s"})).await })
    };
    site.post("/claim", json!({"wait": "30ms"})).await.is(200);
    site.serve.stop().await;
    assert_eq!(waiting.await.expect("no panic").is(200), json!({"deliveries": []}));
}

#[tokio::test]
async fn a_pull_queue_is_looked_after_though_nobody_pulls() {
    let site = Site::pull().await;
    site.rig.zadd("in-seconds", 1_767_225_600).await;
    eventually("it is set aside", async || {
        let shown = site.rig.shown("in-seconds").await?;
        (shown.state == State::Dead).then_some(())
    })
    .await;
    site.rig.zadd(b"\xff".to_vec(), 1_767_225_600_000_i64).await;
    eventually("what no worker can be told is set aside", async || {
        claim(&site, json!({})).await;
        (site.rig.members("leased").await.is_empty() && site.get("").await.is(200)["dead"] == 2).then_some(())
    })
    .await;
    site.serve.stop().await;
}

#[tokio::test]
async fn an_id_that_kills_its_workers_is_set_aside() {
    let site = Site::new("pull", "max_crashes = 2").await;
    put_due(&site, "a").await;
    let mut claims = 0;
    let shown = eventually("it is dead", async || {
        claims += claim(&site, json!({"lease": "100ms"})).await.len();
        site.rig.shown("a").await.filter(|shown| shown.state == State::Dead)
    })
    .await;
    assert_eq!((shown.reason.as_deref(), claims), (Some("max_crashes"), 3));
    site.serve.stop().await;
}

#[tokio::test]
async fn bounds_and_other_handlers_are_refused() {
    let site = Site::pull().await;
    for (body, field) in [
        (json!({"wait": "31s"}), "wait"),
        (json!({"lease": "25h"}), "lease"),
        (json!({"lease": "1ms"}), "lease"),
        (json!({"limit": 0}), "limit"),
        (json!({"limit": 1001}), "limit"),
        (json!({"limit": 1.5}), "limit"),
    ] {
        assert_eq!(site.post("/claim", body).await.problem(422, "invalid-value")["field"], field);
    }
    let paused = site.post("/pause", Value::Null).await.is(200);
    assert_eq!((&paused["paused"], &paused["changed"]), (&json!(true), &json!(true)));
    put_due(&site, "a").await;
    assert!(claim(&site, json!({"wait": "50ms"})).await.is_empty());
    site.post("/resume", Value::Null).await.is(200);
    assert_eq!(claim(&site, json!({"wait": "30s"})).await.len(), 1);
    site.serve.stop().await;

    let other = Site::new("log", "").await;
    for (verb, body) in [("claim", json!({})), ("ack", json!({"deliveries": [{"id": "a", "token": 1}]}))] {
        other.post(&format!("/{verb}"), body).await.problem(409, "not-a-pull-queue");
    }
    other.serve.stop().await;
}
