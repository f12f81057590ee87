//! What can be wrong with a request, and how it is said.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    LIMIT, RedisServer,
    http::{Answer, Site},
};

async fn send(site: &Site, body: &str) -> Answer {
    let request = site.caller.request("PUT", &site.path("/deadlines/a"));
    let request = request.header("content-type", "application/json").body(body.to_owned());
    Answer::of(request.send().await.expect("an answer")).await
}

#[tokio::test]
async fn a_body_that_cannot_be_read_says_where() {
    let site = Site::pull().await;
    let cut_off = send(&site, "{\n\"delay\": \"30m\",").await.problem(400, "malformed-request");
    assert!(cut_off["detail"].as_str().unwrap().contains("line 2 column"), "{cut_off}");
    send(&site, "").await.problem(400, "malformed-request");
    send(&site, "{\"delay\":\"1s\"} x").await.problem(400, "malformed-request");
    for (body, field) in [
        (r#"["2026-01-01T00:00:00Z"]"#, "body"),
        (r#"{"delay":"10x"}"#, "delay"),
        (r#"{"delay":30}"#, "delay"),
        (r#"{"delay":null}"#, "delay"),
        (r#"{"due_at":"2026-01-01"}"#, "due_at"),
        (r#"{"due_at":1767225600}"#, "due_at"),
        (r#"{"due_at":1767225600000,"delay":"1s"}"#, "due_at"),
        (r"{}", "due_at"),
        (r#"{"delay":"1s","mode":"often"}"#, "mode"),
        (r#"{"delay":"1s","dely":"1s"}"#, "dely"),
        (&format!(r#"{{"delay":"1s","payload":"{}"}}"#, "x".repeat(65_537)), "payload"),
    ] {
        let problem = send(&site, body).await.problem(422, "invalid-value");
        assert_eq!(problem["field"], field, "{problem}");
    }
    let problem = site.post("/ack", json!({"deliveries": [{"id": "a", "token": -1}]})).await;
    assert_eq!(problem.problem(422, "invalid-value")["field"], "deliveries[0].token");
    let many: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
    site.post("/dead/retry", json!({"ids": many})).await.problem(422, "invalid-value");
    site.post("/dead/retry", json!({"ids": []})).await.problem(422, "invalid-value");
    site.serve.stop().await;
}

#[tokio::test]
async fn wrong_paths_methods_types_and_sizes_are_problems_too() {
    let site = Site::pull().await;
    site.caller.get("/v2").await.problem(404, "no-such-route");
    let unknown = site.caller.get("/v1/queues/nobodys/deadlines").await.problem(404, "queue-not-found");
    assert!(unknown["detail"].as_str().unwrap().contains(site.rig.name().as_str()), "{unknown}");
    site.caller.get("/v1/queues/NOT%20A%20NAME").await.problem(404, "queue-not-found");
    let refused = site.call("DELETE", "/claim", Value::Null).await;
    assert_eq!(refused.header("allow"), "POST");
    refused.problem(405, "method-not-allowed");
    site.put("%00", json!({"delay": "1s"})).await.problem(422, "invalid-value");
    site.put(&"x".repeat(257), json!({"delay": "1s"})).await.problem(422, "invalid-value");
    site.put("%ff", json!({"delay": "1s"})).await.problem(400, "malformed-request");

    let untyped = site.caller.request("PUT", &site.path("/deadlines/a")).body("{\"delay\":\"1s\"}");
    Answer::of(untyped.send().await.unwrap()).await.problem(415, "unsupported-media-type");
    let large = json!({"delay": "1s", "payload": "x".repeat(1 << 20)});
    site.put("a", large).await.problem(413, "body-too-large");

    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("state=gone", "state"),
        ("due_after=soon", "due_after"),
        ("cursor=nan_61", "cursor"),
        ("cursor=x", "cursor"),
        ("page=2", "page"),
        ("limit=1&limit=2", "limit"),
    ] {
        let problem = site.get(&format!("/deadlines?{query}")).await.problem(422, "invalid-value");
        assert_eq!(problem["field"], field, "{query}");
    }
    site.serve.stop().await;
}

#[tokio::test]
async fn trouble_with_redis_is_503_and_tells_no_secret() {
    let mut redis = RedisServer::start();
    let site =
        Site::on(&redis, "pull", "", "connect_timeout = \"500ms\"\nresponse_timeout = \"500ms\"").await;
    redis.kill9();
    let answer = site.put("a", json!({"delay": "1s"})).await;
    assert_eq!(answer.header("retry-after"), "1");
    assert!(!answer.text.contains("sock") && !answer.text.contains("os error"), "{}", answer.text);
    answer.problem(503, "redis-unavailable");
    site.get("").await.problem(503, "redis-unavailable");
    assert_eq!(site.caller.get("/livez").await.status, 200);
    site.caller.get("/readyz").await.problem(503, "redis-unavailable");
    let metrics = site.caller.get("/metrics").await;
    assert!(
        metrics.text.contains(&format!("overdue_queue_up{{queue=\"{}\"}} 0", site.rig.name())),
        "{}",
        metrics.text
    );

    redis.restart();
    crate::support::eventually("it is ready again", async || {
        (site.caller.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    site.put("a", json!({"delay": "1h"})).await.is(201);
    site.serve.stop().await;
}

/// What comes back to these bytes until the server closes the connection.
async fn raw(site: &Site, sent: &str) -> String {
    let address = site.caller.base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(sent.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    tokio::time::timeout(LIMIT, stream.read_to_string(&mut answer)).await.expect("it ends").expect("text");
    answer
}

#[tokio::test]
async fn connections_that_stall_are_ended() {
    let top = "[http]\nidle_timeout = \"300ms\"\nmax_connections = 2";
    let site = Site::on(RedisServer::shared(), "pull", "", top).await;
    // Half a head, half a body, and nothing at all.
    assert_eq!(raw(&site, "GET /livez HTTP/1.1\r\nHost: loc").await, "");
    let path = site.path("/deadlines/a");
    let half = format!(
        "PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{{"
    );
    let answer = raw(&site, &half).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("request-timeout"), "{answer}");
    assert_eq!(raw(&site, "").await, "");

    // Two idle connections have all slots; the third is served as soon as one of them is ended.
    let address = site.caller.base.trim_start_matches("http://");
    let _idle = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
    let answer = raw(&site, "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    tokio::time::timeout(Duration::from_secs(30), site.serve.stop())
        .await
        .expect("idle connections do not hold it");
}

#[tokio::test]
async fn parameters_that_a_route_does_not_take_are_refused() {
    let site = Site::pull().await;
    for (method, tail, body) in [
        ("PUT", "/deadlines/a?mode=keep", json!({"delay": "1h"})),
        ("POST", "/deadlines/a/fire?now", Value::Null),
        ("GET", "?x=1", Value::Null),
    ] {
        site.call(method, tail, body).await.problem(422, "invalid-value");
    }
    site.serve.stop().await;
}

#[tokio::test]
async fn who_has_not_sent_all_by_the_stop_is_not_waited_for() {
    let site = Site::pull().await;
    let address = site.caller.base.trim_start_matches("http://").to_owned();
    let path = site.path("/deadlines/a");
    let head = format!(
        "PUT {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n"
    );
    let mut stream = TcpStream::connect(&address).await.expect("it listens");
    stream.write_all(format!("GET /livez HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    let mut buffer = vec![0; 4096];
    assert!(stream.read(&mut buffer).await.unwrap() > 0, "it is served");
    stream.write_all(head.as_bytes()).await.unwrap();
    // Another request makes sure that the head was read.
    site.get("").await.is(200);
    site.serve.signal("TERM");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer, then the end");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("the server stops"), "{answer}");
    let mut serve = site.serve;
    assert_eq!(serve.ended().await, Some(0));
}
