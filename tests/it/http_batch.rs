//! `deadlines:batch`: lines in, lines out, in constant memory.

use std::{
    convert::Infallible,
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use futures_util::{StreamExt as _, stream};
use reqwest::{Body, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{
    RedisServer, eventually,
    http::{Answer, Site},
};

async fn send(site: &Site, query: &str, body: impl Into<Body>) -> Response {
    let request = site.caller.request("POST", &site.path(&format!("/deadlines:batch{query}")));
    let request = request.header("content-type", "application/x-ndjson").body(body);
    request.send().await.expect("an answer")
}

async fn batch(site: &Site, query: &str, body: &str) -> Vec<Value> {
    let answer = Answer::of(send(site, query, body.to_owned()).await).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn a_bad_line_is_named_and_stops_nothing() {
    let site = Site::pull().await;
    let long = format!(r#"{{"id":"long","delay":"1h","payload":"{}"}}"#, "x".repeat(600_000));
    let body = [
        r#"{"id":"a","delay":"1h","payload":{"n":1}}"#,
        "",
        r#"{"id":"b","delay":"1h""#,
        r#"{"id":"c","delay":"1x"}"#,
        "[]",
        &long,
        r#"{"id":"d","due_at":4000000000000}"#,
        r#"{"id":"a","delay":"2h"}"#,
    ]
    .join("\n");
    let answers = batch(&site, "", &body).await;
    let lines: Vec<(u64, &str)> = answers[..7]
        .iter()
        .map(|answer| {
            let what = answer["result"].as_str().or_else(|| answer["error"]["type"].as_str());
            (answer["line"].as_u64().unwrap(), what.unwrap().trim_start_matches("urn:overdue:problem:"))
        })
        .collect();
    assert_eq!(
        lines,
        [
            (1, "created"),
            (3, "malformed-request"),
            (4, "invalid-value"),
            (5, "malformed-request"),
            (6, "body-too-large"),
            (7, "created"),
            (8, "replaced")
        ]
    );
    assert_eq!(answers[2]["error"]["field"], "delay", "{}", answers[2]);
    assert_eq!(
        answers[7],
        json!({"summary": {"lines": 7, "created": 2, "replaced": 1, "kept": 0, "failed": 4}})
    );
    assert_eq!(site.get("/deadlines/a").await.is(200)["payload"], json!({"n": 1}));

    let kept = batch(&site, "?mode=keep&answers=errors", "{\"id\":\"a\",\"delay\":\"1h\"}\nx\n").await;
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert_eq!((&kept[0]["line"], &kept[1]["summary"]["kept"]), (&json!(2), &json!(1)));
    assert_eq!(batch(&site, "", "").await[0]["summary"]["lines"], 0);
    Answer::of(send(&site, "?mode=often", "").await).await.problem(422, "invalid-value");
    site.serve.stop().await;
}

#[tokio::test]
async fn who_sends_a_line_and_waits_is_answered() {
    let site = Site::pull().await;
    let (lines, body) = mpsc::channel::<Result<String, Infallible>>(2);
    let body = stream::unfold(body, async |mut body| body.recv().await.map(|line| (line, body)));
    lines.send(Ok("{\"id\":\"a\",".to_owned())).await.unwrap();
    lines.send(Ok("\"delay\":\"1h\"}\n".to_owned())).await.unwrap();
    let mut answers = send(&site, "", Body::wrap_stream(body)).await.bytes_stream();
    let first = answers.next().await.expect("an answer").unwrap();
    assert!(first.starts_with(b"{\"line\":1,"), "{first:?}");
    lines.send(Ok("{\"id\":\"b\",\"delay\":\"1h\"}".to_owned())).await.unwrap();
    drop(lines);
    let rest: Vec<_> = answers.map(|chunk| chunk.unwrap()).collect().await;
    assert!(rest.concat().starts_with(b"{\"line\":2,"), "{rest:?}");
    site.serve.stop().await;
}

/// Resident memory of the server in bytes, at its peak so far.
fn peak(site: &Site) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", site.serve.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("a peak");
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn memory_stays_flat_however_many_lines_there_are() {
    const CHUNKS: usize = 100;
    const LINES: usize = 1000;
    let site = Site::pull().await;
    let payload = "x".repeat(500);
    let chunks = move |count: usize| {
        let payload = payload.clone();
        stream::iter(0..count).map(move |chunk| {
            let line = |n| format!("{{\"id\":\"{chunk}-{n}\",\"delay\":\"1h\",\"payload\":\"{payload}\"}}\n");
            Ok::<_, Infallible>((0..LINES).map(line).collect::<String>())
        })
    };
    let summary = async |count| {
        let response = send(&site, "?answers=errors", Body::wrap_stream(chunks(count))).await;
        Answer::of(response).await.is(200)
    };
    summary(10).await;
    let before = peak(&site);
    let answer = summary(CHUNKS).await;
    assert_eq!(answer["summary"]["lines"], CHUNKS * LINES);
    // 50 MB went through; a few groups are under way at once.
    let grown = peak(&site).saturating_sub(before);
    assert!(grown < 25 << 20, "grown by {grown} bytes");
    site.serve.stop().await;
}

#[tokio::test]
async fn who_does_not_read_stops_the_reading_of_its_lines_and_is_cut_off() {
    let top = "[http]\nidle_timeout = \"2s\"";
    let site = Site::on(RedisServer::shared(), "pull", "", top).await;
    // Answers of a million lines are more than all buffers hold. The body holds its count, so that it is dropped when
    // nobody takes more of it: at its end, or when the connection is.
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let body = stream::iter(0..1000).map(move |chunk| {
        counter.fetch_add(1, SeqCst);
        let line = |n| format!("{{\"id\":\"{chunk}-{n}\",\"delay\":\"1h\"}}\n");
        Ok::<_, Infallible>((0..1000).map(line).collect::<String>())
    });
    let mut response = send(&site, "", Body::wrap_stream(body)).await;
    response.chunk().await.expect("it answers");
    eventually("nothing more is taken", async || (Arc::strong_count(&sent) == 1).then_some(())).await;
    assert!(sent.load(SeqCst) < 1000, "all was sent though nothing was read");
    drop(response);
    site.serve.stop().await;
}

#[tokio::test]
async fn trouble_with_redis_ends_a_batch_and_says_from_where_on() {
    let mut redis = RedisServer::start();
    let site =
        Site::on(&redis, "pull", "", "connect_timeout = \"500ms\"\nresponse_timeout = \"500ms\"").await;
    let (lines, body) = mpsc::channel::<Result<&str, Infallible>>(1);
    let body = stream::unfold(body, async |mut body| body.recv().await.map(|line| (line, body)));
    lines.send(Ok("{\"id\":\"a\",\"delay\":\"1h\"}\n")).await.unwrap();
    let mut answers = send(&site, "", Body::wrap_stream(body)).await.bytes_stream();
    answers.next().await.expect("an answer").unwrap();
    redis.kill9();
    lines.send(Ok("{\"id\":\"b\",\"delay\":\"1h\"}\n")).await.unwrap();
    let last: Value = serde_json::from_slice(&answers.next().await.expect("an answer").unwrap()).unwrap();
    assert_eq!((&last["line"], &last["aborted"]), (&json!(2), &json!(true)), "{last}");
    assert_eq!(last["error"]["type"], "urn:overdue:problem:redis-unavailable");
    drop(lines);
    site.serve.stop().await;
}
