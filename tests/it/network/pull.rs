//! Work over HTTP while the way to Redis fails: whoever calls gets a 503 and may say it again.

use std::{convert::Infallible, time::Duration};

use futures_util::{StreamExt as _, stream};
use overdue::queue::Registration;
use reqwest::Body;
use serde_json::{Value, json};

use super::Serving;
use crate::support::{
    PATIENT, T0, eventually,
    http::{Answer, Caller},
    process::field,
    proxy::{After, Fault},
    registration,
};

/// A queue for workers outside; leases outlast the test, unless a claim says otherwise.
struct Pull {
    serving: Serving,
    caller: Caller,
}

impl Pull {
    async fn new() -> Self {
        let serving = Serving::new(&PATIENT, "pull", "lease = \"1h\"").await;
        let line = serving.serve.says("serving").await;
        let caller = Caller::new(format!("http://{}", field(&line, "http").expect("it listens")));
        Self { serving, caller }
    }

    async fn post(&self, tail: &str, body: Value) -> Answer {
        self.caller.call("POST", &format!("/v1/queues/{}/{tail}", self.serving.rig.name()), body).await
    }

    async fn claim(&self, body: Value) -> Vec<Value> {
        let answer = self.post("claim", body).await.is(200);
        answer["deliveries"].as_array().expect("deliveries").clone()
    }

    /// The call is answered 503, and the fault has struck.
    async fn fails(&self, verb: &str, fault: Fault, tail: &str, body: Value) {
        let before = self.serving.proxy.struck().values().sum::<u64>();
        self.serving.proxy.faults().next(verb, fault);
        self.post(tail, body).await.problem(503, "redis-unavailable");
        assert_eq!(self.serving.proxy.struck().values().sum::<u64>(), before + 1);
    }

    async fn put(&self, ids: &[&str]) {
        let all: Vec<Registration> = ids.iter().map(|id| registration(id, T0, "p")).collect();
        self.serving.rig.schedule_all(&all).await;
    }
}

const LOST: Fault = Fault::LoseReply(After::Close);

#[tokio::test]
async fn a_claim_whose_answer_is_lost_comes_back_with_its_lease() {
    let pull = Pull::new().await;
    pull.put(&["a", "b"]).await;
    pull.fails("claim", LOST, "claim", json!({"limit": 10, "lease": "300ms"})).await;
    let mut got = Vec::new();
    eventually("both come back", async || {
        got.extend(pull.claim(json!({"limit": 10})).await);
        (got.len() == 2).then_some(())
    })
    .await;
    assert!(got.iter().all(|delivery| delivery["attempt"] == 2));
    pull.serving.serve.stop().await;
}

#[tokio::test]
async fn a_verdict_whose_answer_is_lost_counts_once_and_is_stale_the_second_time() {
    let pull = Pull::new().await;
    pull.put(&["ack", "retry", "bury"]).await;
    for delivery in pull.claim(json!({"limit": 10})).await {
        let verb = delivery["id"].as_str().unwrap();
        let mut body = json!({"deliveries": [{"id": verb, "token": delivery["token"]}]});
        if verb == "retry" {
            body["deliveries"][0]["delay"] = json!("1h");
        }
        pull.fails(verb, LOST, verb, body.clone()).await;
        let again = pull.post(verb, body).await.is(200);
        assert_eq!(again["results"][0]["result"], "stale", "{verb}");
    }
    let counts = pull.serving.rig.counts().await.unwrap();
    assert_eq!((counts.scheduled, counts.leased, counts.dead), (1, 0, 1));
    assert_eq!(pull.serving.rig.shown("retry").await.unwrap().failures, 1);
    pull.serving.serve.stop().await;
}

#[tokio::test]
async fn what_was_claimed_and_could_not_be_handed_out_is_given_back_and_accused_of_nothing() {
    let pull = Pull::new().await;
    pull.put(&["a", "b", "c"]).await;
    // Their first delivery is lost with its worker, so that they are watched from now on: each is noted as begun.
    pull.serving.rig.claim(10, Duration::from_millis(1)).await.unwrap();
    let all = json!({"limit": 10});
    // More often than `max_crashes`, which would set them aside as what kills its workers.
    for _ in 0..4 {
        eventually("they are due again", async || {
            let counts = pull.serving.rig.counts().await.unwrap();
            (counts.due == 3 || counts.lost_leases == 1).then_some(())
        })
        .await;
        pull.fails("begin", LOST, "claim", all.clone()).await;
    }
    let mut got = Vec::new();
    eventually("all are handed out at last", async || {
        got.extend(pull.claim(all.clone()).await);
        (got.len() == 3).then_some(())
    })
    .await;
    for name in ["a", "b", "c"] {
        let record: String = pull.serving.rig.on_key("HGET", "attempts", name).await;
        let record: Value = serde_json::from_str(&record).unwrap();
        assert_eq!((&record["kills"], &record["crashes"]), (&json!(0), &json!(1)), "{name}");
    }
    pull.serving.serve.stop().await;
}

/// A call whose script has to be loaded first would be overtaken by the next one.
#[tokio::test]
async fn the_last_line_of_an_id_in_a_batch_holds() {
    let pull = Pull::new().await;
    let body = stream::iter(["2095", "2096"]).then(async |year| {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok::<_, Infallible>(format!("{{\"id\":\"a\",\"due_at\":\"{year}-01-01T00:00:00Z\"}}\n"))
    });
    let faults = pull.serving.proxy.faults();
    let loaded = faults.passed("script");
    pull.serving.rig.admin(&["SCRIPT", "FLUSH"]).await;
    // The one of the scheduler that looks after the queue.
    eventually("a script is loaded", async || (faults.passed("script") > loaded).then_some(())).await;
    faults.next("script", Fault::Late(Duration::from_millis(500)));
    let path = format!("/v1/queues/{}/deadlines:batch", pull.serving.rig.name());
    let request = pull.caller.request("POST", &path).header("content-type", "application/x-ndjson");
    let answer = request.body(Body::wrap_stream(body)).send().await.expect("an answer");
    let answer = Answer::of(answer).await;
    let results: Vec<Value> =
        answer.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!([&results[0]["result"], &results[1]["result"]], ["created", "replaced"], "{}", answer.text);
    assert_eq!(results[1]["due_at"], "2096-01-01T00:00:00.000Z");
}
