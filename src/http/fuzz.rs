//! The HTTP interface: no request makes a fault of the server, what is refused says why in a few clean words, and what
//! is accepted reaches Redis as it was sent.

mod batch;
mod bodies;
mod headers;
mod tls;

use axum::body::{Body, Bytes};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use proptest::{collection::vec, option, prelude::*, sample::select};
use redis::Value;

use super::*;
use crate::{
    config::QueueConfig,
    fuzz::{bytes, json, mutated, readable, run, text},
    redis::lying::{Command, Liar, refusal},
    types::Id,
};

/// All routes, on a Redis that answers what it is told to.
struct Place {
    liar: Liar,
    api: Api,
    router: Router,
}

/// What came back.
struct Answer {
    status: StatusCode,
    content_type: String,
    body: Bytes,
    /// What Redis was asked.
    heard: Vec<Command>,
}

impl Place {
    fn new() -> Self {
        let liar = Liar::start();
        let queue = |name: &str| Queue::new(liar.redis.clone(), "overdue", QueueName::new(name).unwrap());
        let served = |name: &str, handler| {
            let (_, settings) = watch::channel(Settings::from(&QueueConfig::default()));
            Served::new(queue(name), settings, handler, Pulse::default())
        };
        let shop = served("shop", "order").of_orders(Orders::new(queue("shop")));
        let queues = [served("orders", "log"), served("work", "pull"), shop];
        let config = HttpConfig::default();
        let api = Api::new(liar.redis.clone(), queues, &config, CancellationToken::new());
        let access = Arc::new(auth::Access::new(&config).unwrap());
        Self { router: router(api.clone(), access), api, liar }
    }

    fn send(&self, request: Request<Body>, redis: &[Value]) -> Answer {
        let service = TowerToHyperService::new(self.router.clone());
        let ((status, content_type, body), heard) = self.liar.ask(redis, async {
            let response = service.call(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let content_type =
                parts.headers.get("content-type").map(|value| value.to_str().unwrap().to_owned());
            (parts.status, content_type.unwrap_or_default(), body.collect().await.unwrap().to_bytes())
        });
        Answer { status, content_type, body, heard }
    }
}

impl Answer {
    /// Holds what is promised of every answer.
    fn check(&self) -> Result<(), TestCaseError> {
        let text = String::from_utf8_lossy(&self.body);
        prop_assert!(self.status != StatusCode::INTERNAL_SERVER_ERROR, "{text}");
        if self.status.is_success() || self.status.is_redirection() {
            return Ok(());
        }
        if self.content_type.starts_with("text/html") {
            prop_assert!(text.starts_with("<!DOCTYPE html>") && text.contains("<h1>"), "{text}");
            return Ok(());
        }
        prop_assert_eq!(&self.content_type, "application/problem+json");
        prop_assert!(self.body.len() < 4096, "{text}");
        let problem = self.json();
        let kind = problem["type"].as_str().unwrap_or_default();
        prop_assert!(kind.starts_with("urn:overdue:problem:"), "{text}");
        prop_assert_eq!(problem["status"].as_u64(), Some(self.status.as_u16().into()));
        for words in ["title", "detail"] {
            readable(problem[words].as_str().unwrap_or_default())?;
        }
        let field = problem["field"].as_str();
        prop_assert!(
            field.is_none_or(|field| !field.is_empty() && !field.contains(char::is_control)),
            "{text}"
        );
        prop_assert!(field.is_some() || kind != "urn:overdue:problem:invalid-value", "no field in {text}");
        Ok(())
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Bytes as they can stand in a path or a query: all escaped, or only what has to be.
fn escaped(bytes: &[u8], all: bool) -> String {
    let plain = |byte: &u8| !all && (byte.is_ascii_alphanumeric() || b"-_.~:!$()*,".contains(byte));
    let one = |byte: &u8| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    bytes.iter().map(one).collect()
}

fn loading() -> Vec<Value> {
    (0..8).map(|_| refusal("LOADING Redis is loading the dataset in memory")).collect()
}

/// Every route with a place for an id, and some that do not exist.
fn path() -> impl Strategy<Value = String> {
    let queue = prop_oneof![8 => select(&["orders", "work", "shop"][..]), 1 => select(&["none", "Orders", "%FF", ""][..])];
    let rest = select(
        &[
            "",
            "/deadlines",
            "/deadlines:batch",
            "/deadlines/ID",
            "/deadlines/ID/fire",
            "/deadlines/ID/retry",
            "/dead",
            "/dead/retry",
            "/dead/delete",
            "/claim",
            "/ack",
            "/retry",
            "/extend",
            "/bury",
            "/pause",
            "/resume",
            "/x",
        ][..],
    );
    let orders = select(
        &[
            "/v1/orders",
            "/v1/orders/ID",
            "/v1/orders/ID/pay",
            "/v1/orders/ID/cancel",
            "/v1/orders/ID/extend",
            "/v1/queues",
            "/readyz",
            "/livez",
            "/metrics",
            "/",
            "/queues/work",
            "/queues/shop/id",
            "/queues/orders/dead",
            "/orders/shop",
            "/orders/shop/order",
            "/login",
            "/v2",
        ][..],
    );
    let path = prop_oneof![2 => (queue, rest).prop_map(|(queue, rest)| format!("/v1/queues/{queue}{rest}")), 1 => orders.prop_map(str::to_owned)];
    (path, bytes(2), any::<bool>()).prop_map(|(path, id, all)| path.replace("ID", &escaped(&id, all)))
}

fn query() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        4 => select(&["limit", "cursor", "state", "status", "mode", "prefix", "reason", "due_after", "due_before", "queue", "answers", "id", "done", "action", "next"][..])
            .prop_map(|name| name.as_bytes().to_vec()),
        1 => bytes(2),
    ];
    let value = prop_oneof![
        select(
            &[
                "10",
                "shop",
                "dead",
                "replace",
                "2026-01-01T00:00:00Z",
                "1767225600000_3432",
                "errors",
                "retry"
            ][..]
        )
        .prop_map(|value| value.as_bytes().to_vec()),
        bytes(2),
    ];
    let pair = (name, value, any::<bool>())
        .prop_map(|(name, value, all)| format!("{}={}", escaped(&name, all), escaped(&value, all)));
    prop_oneof![2 => Just(String::new()), 1 => vec(pair, 1..4).prop_map(|pairs| format!("?{}", pairs.join("&")))]
}

/// Names and values.
type Headers = Vec<(&'static str, Vec<u8>)>;

/// Headers that something here reads.
fn some_headers() -> impl Strategy<Value = Headers> {
    let name = select(
        &[
            "content-type",
            "if-match",
            "if-none-match",
            "idempotency-key",
            "prefer",
            "traceparent",
            "authorization",
            "host",
            "origin",
            "sec-fetch-site",
            "last-event-id",
            "expect",
        ][..],
    );
    let value = prop_oneof![
        2 => select(&["application/json", "application/x-ndjson; x=1", "\"1767225600000\"", "*", "respond-async", "localhost", "k-1"][..])
            .prop_map(|value| value.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..12),
    ];
    prop_oneof![2 => Just(Vec::new()), 1 => vec((name, value), 1..4)]
}

fn any_request() -> impl Strategy<Value = (Method, String, Headers, Vec<u8>)> {
    let method =
        select(&[Method::GET, Method::PUT, Method::POST, Method::POST, Method::DELETE, Method::PATCH][..]);
    let object = select(
        &[
            "{}",
            "{\"delay\":\"30m\"}",
            "{\"id\":\"42\",\"due_at\":1767225600000,\"fields\":{\"a\":\"b\"}}",
            "{\"limit\":3}",
            "{\"deliveries\":[{\"id\":\"42\",\"token\":1767225600012345}]}",
            "{\"ids\":[\"42\"]}",
            "{\"extend_by\":\"1h\"}",
        ][..],
    );
    let object = object.prop_map(|text| text.as_bytes().to_vec());
    let body = prop_oneof![2 => object.clone(), 2 => mutated(object), 1 => json().prop_map(|json| json.to_string().into_bytes()), 1 => bytes(6)];
    let uri = (path(), query()).prop_map(|(path, query)| format!("{path}{query}"));
    (method, uri, some_headers(), body)
}

#[test]
fn no_request_makes_a_fault_of_the_server() {
    let place = Place::new();
    run(500, any_request(), |(method, uri, headers, body)| {
        let json = !headers.iter().any(|(name, _)| *name == "content-type");
        let mut request = Request::builder().method(method).uri(&uri);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if json {
            request = request.header("content-type", "application/json");
        }
        // What is no request to the http crate never gets here.
        let Ok(request) = request.body(Body::from(body)) else { return Ok(()) };
        let answer = place.send(request, &loading());
        answer.check()?;
        let unavailable = String::from_utf8_lossy(&answer.body).contains("redis-unavailable");
        prop_assert!(!unavailable || !answer.heard.is_empty(), "Redis was not asked");
        Ok(())
    });
}

/// The arguments of the only call of a script, behind its keys.
fn arguments(heard: &[Command]) -> &[Vec<u8>] {
    let keys: usize = String::from_utf8_lossy(&heard[0][2]).parse().unwrap();
    &heard[0][3 + keys..]
}

#[test]
fn an_id_in_a_path_reaches_redis_as_it_is_or_is_refused() {
    let place = Place::new();
    let due_ms = 1_767_225_600_000i64;
    run(250, (bytes(3), any::<bool>(), option::of(json())), |(id, all, payload)| {
        // A path without an id is that of another route, and the client drops dots.
        prop_assume!(!id.is_empty() && id != b"." && id != b"..");
        let body = serde_json::json!({ "due_at": due_ms, "payload": payload });
        let request = Request::put(format!("/v1/queues/orders/deadlines/{}", escaped(&id, all)))
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()));
        let answer = place.send(request.unwrap(), &[crate::redis::lying::ints([1, due_ms, 0])]);
        answer.check()?;
        match std::str::from_utf8(&id).ok().and_then(|text| Id::new(text).ok()) {
            Some(id) => {
                prop_assert_eq!(answer.status, StatusCode::CREATED);
                prop_assert_eq!(&answer.json()["id"], id.as_str());
                let [_now, _mode, _expected, sent_id, sent_due, sent_payload] = arguments(&answer.heard)
                else {
                    return Err(TestCaseError::fail(format!("{:?}", answer.heard)));
                };
                prop_assert_eq!(sent_id.as_slice(), id.as_str().as_bytes());
                prop_assert_eq!(String::from_utf8_lossy(sent_due), due_ms.to_string());
                let payload = payload.filter(|payload| !payload.is_null());
                let sent = crate::Payload::new(String::from_utf8_lossy(sent_payload)).ok();
                let sent =
                    sent.map(|sent| serde_json::from_str::<serde_json::Value>(sent.to_json().get()).unwrap());
                prop_assert_eq!(sent, payload);
            }
            None => {
                let expected = if std::str::from_utf8(&id).is_ok() { 422 } else { 400 };
                prop_assert_eq!(answer.status.as_u16(), expected, "{}", answer.json());
                prop_assert!(answer.heard.is_empty());
            }
        }
        Ok(())
    });
}

#[test]
fn a_reply_that_is_none_is_a_fault_that_is_told_as_one() {
    let place = Place::new();
    run(100, (0..9i64, any::<i64>(), any::<i64>()), |(code, due_ms, old_ms)| {
        let request = Request::put("/v1/queues/orders/deadlines/42")
            .header("content-type", "application/json")
            .body(Body::from("{\"delay\":\"1s\"}"));
        let answer = place.send(request.unwrap(), &[crate::redis::lying::ints([code, due_ms, old_ms])]);
        let is_due = crate::DueAt::from_ms(due_ms).is_ok();
        let expected: &[u16] = match code {
            1 if is_due => &[201],
            2 if is_due => &[200],
            3 | 5 | 6 => &[200],
            4 => &[412],
            _ => &[500],
        };
        prop_assert!(expected.contains(&answer.status.as_u16()), "{code}: {}", answer.json());
        Ok(())
    });
}
