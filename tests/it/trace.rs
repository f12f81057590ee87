//! W3C trace context: from the registration to the handler.

use overdue::queue::{Expected, Mode, TraceParent};
use serde_json::{Value, json};

use crate::support::{LEASE_MS, Rig, STREAM, T0, due, http::Site, id, registration, rejected, retry_of};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-00";

async fn put(rig: &Rig, name: &str, due_ms: i64, trace: Option<&str>) {
    let traces = [trace.and_then(TraceParent::parse)];
    let registrations = [registration(name, due_ms, "")];
    let at = rig.when(T0);
    at.schedule_traced(&registrations, &traces, Mode::Replace, Expected::Anything).await.expect("scheduled");
}

async fn claimed(rig: &Rig, now_ms: i64) -> (overdue::queue::Delivery, Option<String>) {
    let delivery = rig.claim_one(now_ms).await;
    let trace = delivery.traceparent.as_ref().map(ToString::to_string);
    (delivery, trace)
}

#[tokio::test]
async fn a_trace_is_kept_through_retries_losses_and_moves() {
    let rig = Rig::new().await;
    put(&rig, "a", T0, Some(TRACE)).await;
    let shown = rig.shown("a").await.expect("it is there");
    assert_eq!(
        (shown.attempt, shown.next_attempt_at, shown.due_at),
        (0, None, Some(crate::support::at_ms(T0)))
    );
    let moved = rig.when(T0).reschedule(&id("a"), due(T0 + 1), Expected::Anything).await;
    moved.expect("moved");

    let (delivery, trace) = claimed(&rig, T0 + 1).await;
    assert_eq!((trace.as_deref(), delivery.attempt, delivery.first_token), (Some(TRACE), 1, delivery.token));
    rig.when(T0 + 1).release(&[delivery.lease()]).await.expect("released");
    let (delivery, trace) = claimed(&rig, T0 + 1).await;
    assert_eq!((trace.as_deref(), delivery.attempt), (Some(TRACE), 1));
    rig.when(T0 + 1).retry(&[retry_of(&delivery.lease(), 0)], 10).await.expect("retried");
    let (delivery, trace) = claimed(&rig, T0 + 1).await;
    assert_eq!((trace.as_deref(), delivery.attempt, delivery.failures), (Some(TRACE), 2, 1));
    let (delivery, trace) = claimed(&rig, T0 + 1 + LEASE_MS).await;
    assert_eq!((trace.as_deref(), delivery.attempt), (Some(TRACE), 3));
    rig.bury(&[rejected(&delivery.lease())]).await.expect("buried");
    rig.when(T0).retry_dead(&[id("a")]).await.expect("retried");
    let (delivery, trace) = claimed(&rig, T0 + 1).await;
    assert_eq!(trace.as_deref(), Some(TRACE));
    rig.ack(&[delivery.lease()]).await.expect("acked");
    assert_eq!(rig.keys().await, ["meta"]);
}

#[tokio::test]
async fn a_new_registration_has_its_own_trace_or_none() {
    let rig = Rig::new().await;
    put(&rig, "a", T0, Some(TRACE)).await;
    put(&rig, "a", T0, None).await;
    assert_eq!(rig.claim_one(T0).await.traceparent, None);

    // Registered anew while the first delivery runs; whatever becomes of that one, the new trace stays.
    for end in 0..3 {
        let name = format!("b{end}");
        put(&rig, &name, T0, Some(TRACE)).await;
        let lease = rig.claim_one(T0).await.lease();
        put(&rig, &name, T0 + 5, Some(OTHER)).await;
        match end {
            0 => drop(rig.ack(&[lease]).await.expect("acked")),
            1 => drop(rig.retry(&[retry_of(&lease, 0)], 10).await.expect("superseded")),
            _ => drop(rig.release(&[lease]).await.expect("superseded")),
        }
        let (delivery, trace) = claimed(&rig, T0 + 5).await;
        assert_eq!((trace.as_deref(), delivery.attempt), (Some(OTHER), 1), "{name}");
        rig.ack(&[delivery.lease()]).await.expect("acked");
    }
    // A plain ZADD knows nothing of traces: the score is another, so the trace is not its.
    put(&rig, "c", T0, Some(TRACE)).await;
    rig.zadd("c", T0 + 6).await;
    assert_eq!(rig.claim_one(T0 + 6).await.traceparent, None);
    put(&rig, "d", T0, Some(TRACE)).await;
    rig.when(T0).cancel(&[id("d")]).await.expect("cancelled");
    let records: usize = rig.on_key("HLEN", "attempts", crate::support::NOTHING).await;
    assert_eq!(records, 0);
}

#[tokio::test]
async fn a_sink_gets_it_too() {
    let rig = Rig::new().await;
    put(&rig, "a", T0, Some(TRACE)).await;
    put(&rig, "b", T0, None).await;
    rig.when(T0).fire(STREAM, 10, None).await.expect("fired");
    let entries: Vec<(String, Vec<String>)> = rig.on_key("XRANGE", "fired", ("-", "+")).await;
    assert_eq!(entries[0].1[6..], ["traceparent", TRACE]);
    assert_eq!(entries[1].1.len(), 6);
    assert_eq!(rig.keys().await, ["fired", "meta"]);
}

#[tokio::test]
async fn over_http_it_is_a_header_or_a_field() {
    let site = Site::pull().await;
    let put = async |id: &str, trace: &str| {
        let path = site.path(&format!("/deadlines/{id}"));
        let answer =
            site.caller.call_with("PUT", &path, json!({"delay": "0s"}), &[("traceparent", trace)]).await;
        answer.is(201);
    };
    put("a", TRACE).await;
    put("b", "garbage").await;
    let line = format!(
        "{{\"id\":\"c\",\"delay\":\"0s\"}}\n{{\"id\":\"d\",\"delay\":\"0s\",\"traceparent\":\"{OTHER}\"}}"
    );
    let batch = site.caller.request("POST", &site.path("/deadlines:batch"));
    let batch =
        batch.header("content-type", "application/x-ndjson").body(line).send().await.expect("an answer");
    assert_eq!(batch.status(), 200);
    let claimed = site.post("/claim", json!({"limit": 10})).await.is(200);
    let traces: Vec<&Value> =
        claimed["deliveries"].as_array().unwrap().iter().map(|one| &one["traceparent"]).collect();
    assert_eq!(traces, [&json!(TRACE), &Value::Null, &Value::Null, &json!(OTHER)]);
    site.serve.stop().await;
}
