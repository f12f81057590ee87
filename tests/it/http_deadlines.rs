//! `/v1/queues/{queue}/deadlines`: each verb, and that all levels of the contract see the same state.

use serde_json::{Value, json};

use crate::support::{T0, at_ms, http::Site};

/// The year 9998.
const FAR: i64 = 253_370_764_800_000;

#[tokio::test]
async fn a_deadline_is_registered_looked_up_moved_and_cancelled() {
    let site = Site::pull().await;
    let put = site
        .put("order%2F42", json!({"due_at": FAR, "payload": {"n": 12_345_678_901_234_567_890_u64}}))
        .await;
    let created = put.is(201);
    assert_eq!(created["id"], "order/42");
    assert_eq!((&created["result"], &created["state"]), (&json!("created"), &json!("scheduled")));
    assert_eq!(created["due_at"], at_ms(FAR).to_string());
    assert_eq!(put.header("etag"), format!("\"{FAR}\""));

    let got = site.get("/deadlines/order%2F42").await;
    assert_eq!(got.header("etag"), put.header("etag"));
    assert!(got.text.contains(r#""payload":{"n":12345678901234567890}"#), "{}", got.text);
    assert_eq!(got.is(200)["attempt"], 0);

    let moved = site.call("PATCH", "/deadlines/order%2F42", json!({"extend_by": "1h30m"})).await.is(200);
    assert_eq!(moved["due_at"], at_ms(FAR + 5_400_000).to_string());
    assert_eq!(moved["previous_due_at"], at_ms(FAR).to_string());
    let again = site.put("order%2F42", json!({"due_at": at_ms(FAR).to_string()})).await.is(200);
    assert_eq!(again["result"], "replaced");
    let kept = site.put("order%2F42", json!({"delay": "1h", "mode": "latest"})).await.is(200);
    assert_eq!((&kept["result"], &kept["due_at"]), (&json!("kept"), &json!(at_ms(FAR).to_string())));

    let gone = site.call("DELETE", "/deadlines/order%2F42", Value::Null).await.is(200);
    assert_eq!((&gone["result"], &gone["due_at"]), (&json!("cancelled"), &json!(at_ms(FAR).to_string())));
    for method in ["GET", "DELETE"] {
        site.call(method, "/deadlines/order%2F42", Value::Null).await.problem(404, "deadline-not-found");
    }
    for (method, tail, body) in [
        ("PATCH", "", json!({"delay": "1s"})),
        ("POST", "/fire", Value::Null),
        ("POST", "/retry", Value::Null),
    ] {
        let answer = site.call(method, &format!("/deadlines/order%2F42{tail}"), body).await;
        answer.problem(404, "deadline-not-found");
    }
    assert!(site.rig.keys().await.iter().all(|key| key == "meta"), "{:?}", site.rig.keys().await);
    site.serve.stop().await;
}

#[tokio::test]
async fn conditions_hold_or_nothing_is_changed() {
    let site = Site::pull().await;
    let path = site.path("/deadlines/a");
    let with = async |method, body, name, value: &str| {
        site.caller.call_with(method, &path, body, &[(name, value)]).await
    };
    let due = json!({"due_at": FAR});
    let (old, new) = (format!("\"{FAR}\""), format!("\"{}\"", FAR + 1));
    with("PUT", due.clone(), "if-match", &old).await.problem(412, "precondition-failed");
    with("PUT", due.clone(), "if-none-match", "*").await.is(201);
    let refused = with("PUT", json!({"due_at": FAR + 1}), "if-none-match", "*").await;
    assert_eq!(refused.header("etag"), old);
    refused.problem(412, "precondition-failed");
    with("PUT", json!({"due_at": FAR + 1}), "if-match", &old).await.is(200);
    with("PATCH", json!({"due_at": FAR}), "if-match", &old).await.problem(412, "precondition-failed");
    let moved = with("PATCH", json!({"extend_by": "1ms"}), "if-match", &new).await.is(200);
    assert_eq!(moved["due_at"], at_ms(FAR + 2).to_string());
    with("PATCH", json!({"extend_by": "1ms"}), "if-match", &new).await.problem(412, "precondition-failed");
    with("PUT", due.clone(), "if-match", "FAR").await.problem(412, "precondition-failed");
    with("PUT", due.clone(), "if-none-match", &old).await.problem(412, "precondition-failed");
    with("DELETE", Value::Null, "if-match", &new).await.problem(400, "malformed-request");
    assert_eq!(site.get("/deadlines/a").await.header("etag"), format!("\"{}\"", FAR + 2));

    // What is leased or dead is there as well.
    site.rig.buried("dead", "").await;
    let dead = site.path("/deadlines/dead");
    let answer = site.caller.call_with("PUT", &dead, due, &[("if-none-match", "*")]).await;
    answer.problem(412, "precondition-failed");
    assert_eq!(site.rig.shown("dead").await.map(|shown| shown.state), Some(overdue::queue::State::Dead));
    site.serve.stop().await;
}

#[tokio::test]
async fn what_is_leased_or_dead_says_so() {
    let site = Site::pull().await;
    site.rig.buried("dead", "").await;
    site.put("leased", json!({"delay": "0s"})).await.is(201);
    let token = &site.post("/claim", json!({})).await.is(200)["deliveries"][0]["token"];

    let shown = site.get("/deadlines/leased").await;
    assert_eq!(shown.header("etag"), "");
    let shown = shown.is(200);
    assert_eq!((&shown["state"], &shown["lease"]["token"]), (&json!("leased"), token));
    site.call("PATCH", "/deadlines/leased", json!({"extend_by": "1s"})).await.problem(409, "in-flight");
    site.post("/deadlines/leased/fire", Value::Null).await.problem(409, "in-flight");
    site.post("/deadlines/leased/retry", Value::Null).await.problem(409, "not-dead");
    let cancelled = site.call("DELETE", "/deadlines/leased", Value::Null).await.is(202);
    assert_eq!((&cancelled["result"], &cancelled["token"]), (&json!("in_flight"), token));

    let shown = site.get("/deadlines/dead").await.is(200);
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("dead"), &json!("rejected")));
    for (method, tail, body) in
        [("DELETE", "", Value::Null), ("PATCH", "", json!({"delay": "1s"})), ("POST", "/fire", Value::Null)]
    {
        site.call(method, &format!("/deadlines/dead{tail}"), body).await.problem(409, "dead");
    }
    site.post("/deadlines/dead/retry", Value::Null).await.is(200);
    assert_eq!(site.get("/deadlines/dead").await.is(200)["state"], "scheduled");
    site.serve.stop().await;
}

#[tokio::test]
async fn fire_makes_an_id_due_at_once() {
    let site = Site::pull().await;
    site.put("a", json!({"due_at": FAR, "payload": "text"})).await.is(201);
    assert_eq!(site.post("/claim", json!({})).await.is(200)["deliveries"], json!([]));
    site.post("/deadlines/a/fire", Value::Null).await.is(200);
    let claimed = site.post("/claim", json!({})).await.is(200);
    assert_eq!(
        (&claimed["deliveries"][0]["id"], &claimed["deliveries"][0]["payload"]),
        (&json!("a"), &json!("text"))
    );
    site.serve.stop().await;
}

#[tokio::test]
async fn an_idempotency_key_registers_once() {
    let site = Site::pull().await;
    let path = site.path("/deadlines");
    let create = async |key: &str, body: Value| {
        site.caller.call_with("POST", &path, body, &[("idempotency-key", key)]).await
    };
    let first = create("key-1", json!({"due_at": FAR, "payload": 1})).await;
    let id = first.is(201)["id"].clone();
    assert!(first.header("location").ends_with(id.as_str().unwrap()));
    let second = create("key-1", json!({"due_at": FAR, "payload": 1})).await.is(200);
    assert_eq!((&second["id"], &second["result"]), (&id, &json!("kept")));
    create("key-1", json!({"due_at": FAR + 1, "payload": 1})).await.problem(422, "idempotency-key-reused");
    create("key-1", json!({"due_at": FAR, "payload": 2})).await.problem(422, "idempotency-key-reused");
    create("", json!({"due_at": FAR})).await.problem(422, "invalid-value");
    create("key-2", json!({"due_at": FAR})).await.is(201);

    let made = site.post("/deadlines", json!({"due_at": FAR})).await;
    let shown = site.caller.get(made.header("location")).await.is(200);
    assert_eq!(shown["id"], made.is(201)["id"]);
    assert_eq!(site.rig.members("scheduled").await.len(), 3);
    site.serve.stop().await;
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let site = Site::pull().await;
    for n in 0..5 {
        site.rig.zadd(format!("a{n}"), FAR + n).await;
        site.rig.zadd(format!("b{n}"), FAR + n).await;
    }
    let ids = |page: &Value| -> Vec<String> {
        let rows = page["deadlines"].as_array().expect("rows").iter();
        rows.map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
    };
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = site.get(&format!("/deadlines?prefix=a&limit=2{cursor}")).await.is(200);
        found.extend(ids(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, ["a0", "a1", "a2", "a3", "a4"]);
    let range = format!("/deadlines?due_after={}&due_before={}", FAR + 1, FAR + 3);
    assert_eq!(ids(&site.get(&range).await.is(200)), ["a1", "b1", "a2", "b2"]);
    site.rig.buried("dead", "").await;
    assert_eq!(ids(&site.get("/deadlines?state=dead").await.is(200)), ["dead"]);
    assert_eq!(
        ids(&site.get(&format!("/deadlines?state=dead&due_after={}", T0 + 1)).await.is(200)),
        Vec::<String>::new()
    );
    site.serve.stop().await;
}

#[tokio::test]
async fn plain_zadd_and_http_see_the_same() {
    let site = Site::pull().await;
    site.rig.hset("by-zadd", r#"{"amount":"1.00"}"#).await;
    site.rig.zadd("by-zadd", FAR).await;
    let shown = site.get("/deadlines/by-zadd").await.is(200);
    assert_eq!(
        (&shown["due_at"], &shown["payload"]),
        (&json!(at_ms(FAR).to_string()), &json!({"amount": "1.00"}))
    );

    site.put("by-http", json!({"due_at": FAR, "payload": {"amount": "2.00"}})).await.is(201);
    let score: String = site.rig.on_key("ZSCORE", "scheduled", "by-http").await;
    let payload: String = site.rig.on_key("HGET", "payload", "by-http").await;
    assert_eq!((score, payload), (FAR.to_string(), r#"{"amount":"2.00"}"#.to_owned()));
    let removed: i64 = site.rig.on_key("ZREM", "scheduled", "by-http").await;
    assert_eq!(removed, 1);
    site.get("/deadlines/by-http").await.problem(404, "deadline-not-found");
    site.serve.stop().await;
}
