//! The handler `webhook` in a real `serve`, against a receiver in this process.

use std::time::Duration;

use overdue::{handler::webhook::Refused, queue::State};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::support::{
    RedisServer, Rig, eventually,
    process::{Place, Serve},
    receiver::{Answer, Call, Receiver},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A queue that is served by webhooks.
struct Shop {
    rig: Rig,
    place: Place,
}

impl Shop {
    /// `more` are further keys of the handler.
    async fn new(url: &str, more: &str) -> Self {
        let rig = Rig::new().await;
        let config = format!(
            "[redis]\nurl = \"{}\"\n[queue.{}]\npoll_interval = \"20ms\"\n\
             backoff = {{ initial = \"10ms\", max = \"10ms\" }}\n\
             handler = {{ type = \"webhook\", url = \"{url}\", {more} }}\n",
            RedisServer::shared().url(),
            rig.name()
        );
        Self { rig, place: Place::new(&config) }
    }

    /// With a receiver that answers so, and a `serve`.
    async fn with(answers: &[Answer], more: &str) -> (Self, Receiver, Serve) {
        let receiver = Receiver::start(answers).await;
        let shop = Self::new(&receiver.url(), more).await;
        let serve = shop.place.serve().await;
        (shop, receiver, serve)
    }

    /// Registers an id that is due now.
    async fn put(&self, id: &str, payload: &str) -> i64 {
        let now_ms = self.rig.redis().time().await.expect("a time").as_ms();
        if !payload.is_empty() {
            self.rig.hset(id, payload).await;
        }
        self.rig.zadd(id, now_ms).await;
        now_ms
    }

    async fn all_done(&self) {
        eventually("all is done", async || (self.rig.keys().await == ["meta"]).then_some(())).await;
    }

    /// Waits for a failed attempt and gives its error.
    async fn error(&self, id: &str) -> String {
        eventually("it fails", async || self.rig.shown(id).await?.error).await
    }
}

fn data(call: &Call) -> Value {
    call.json()["data"].clone()
}

#[tokio::test]
async fn a_call_is_what_the_contract_says_and_each_secret_fits() {
    let more = format!("secret = \"{SECRET}\", secret_file = \"next\", headers = {{ x-api-key = \"007\" }}");
    let receiver = Receiver::start(&[Answer::Status(204)]).await;
    let shop = Shop::new(&receiver.url(), &more).await;
    shop.place.write("next", &format!("{OTHER}\n"));
    let serve = shop.place.serve().await;
    let due_ms = shop.put("order-42", r#"{"amount":"100.00","n":12345678901234567890}"#).await;
    let call = receiver.wait_for(1).await.remove(0);

    assert_eq!((call.method.as_str(), call.uri.path()), ("POST", "/expired"));
    assert_eq!(call.uri.query(), Some("key=geheim"));
    assert_eq!(call.header("content-type"), "application/json");
    assert_eq!(call.header("user-agent"), concat!("overdue/", env!("CARGO_PKG_VERSION")));
    assert_eq!(call.header("x-api-key"), "007");
    assert_eq!(call.verify(SECRET), Ok(()));
    assert_eq!(call.verify(OTHER), Ok(()));
    assert_eq!(call.verify("whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"), Err(Refused::Mismatch));
    assert_eq!(call.header("webhook-signature").split(' ').count(), 2);

    // The order of the keys and every digit count, so this compares text.
    let (event, queue) = (call.json(), shop.rig.name());
    let (timestamp, token) = (event["timestamp"].as_str().unwrap(), &event["data"]["token"]);
    let due_at = overdue::types::rfc3339_ms(due_ms);
    assert!(*timestamp >= *due_at && timestamp.len() == due_at.len(), "{timestamp} {due_at}");
    let expected = format!(
        r#"{{"type":"deadline.expired","timestamp":"{timestamp}","data":{{"queue":"{queue}","id":"order-42","due_at":"{due_at}","attempt":1,"token":{token},"payload":{{"amount":"100.00","n":12345678901234567890}}}}}}"#
    );
    assert_eq!(String::from_utf8_lossy(&call.body), expected);
    shop.all_done().await;
    assert!(!serve.log().concat().contains("not signed"));
    serve.stop().await;
}

#[tokio::test]
async fn payloads_are_json_text_or_absent() {
    let (shop, receiver, serve) = Shop::with(&[Answer::Status(200)], "").await;
    let unsigned = serve.says("not signed").await;
    assert!(unsigned.contains(shop.rig.name().as_str()), "{unsigned}");
    for (id, payload) in [("json", "[1]"), ("text", "not \"JSON\""), ("none", "")] {
        shop.put(id, payload).await;
    }
    let calls = receiver.wait_for(3).await;
    let payload = |id: &str| {
        let call = calls.iter().map(data).find(|data| data["id"] == id).expect("called");
        call.get("payload").cloned()
    };
    assert_eq!(payload("json"), Some(json!([1])));
    assert_eq!(payload("text"), Some(json!("not \"JSON\"")));
    assert_eq!(payload("none"), None);
    assert!(calls.iter().all(|call| !call.headers.contains_key("webhook-signature")));
    shop.all_done().await;
    assert_eq!(serve.log().iter().filter(|line| line.contains("not signed")).count(), 1);
    serve.stop().await;
}

#[tokio::test]
async fn the_webhook_id_names_the_registration() {
    let answers = [Answer::Status(500), Answer::Status(404), Answer::Status(200)];
    let (shop, receiver, serve) = Shop::with(&answers, &format!("secret = \"{SECRET}\"")).await;
    shop.put("order-42", "").await;
    receiver.wait_for(3).await;
    shop.all_done().await;
    shop.put("order-42", "").await;
    shop.put("order-43", "").await;
    let calls = receiver.wait_for(5).await;
    shop.all_done().await;

    let ids: Vec<&str> = calls.iter().map(|call| call.header("webhook-id")).collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
    assert!(ids[2] != ids[3] && ids[3] != ids[4] && ids[2] != ids[4], "{ids:?}");
    for id in ids {
        assert!(id.starts_with("msg_") && !id.contains('.') && !id.contains("order"), "{id}");
    }
    let attempts: Vec<u64> = calls.iter().map(|call| data(call)["attempt"].as_u64().unwrap()).collect();
    assert_eq!(attempts, [1, 2, 3, 1, 1]);
    let tokens: Vec<u64> = calls.iter().map(|call| data(call)["token"].as_u64().unwrap()).collect();
    assert!(tokens.windows(2).take(3).all(|pair| pair[0] < pair[1]), "{tokens:?}");
    assert!(calls.iter().all(|call| call.verify(SECRET).is_ok()));
    serve.stop().await;
}

#[tokio::test]
async fn gone_is_dead() {
    let (shop, receiver, serve) = Shop::with(&[Answer::Body(410, "no such shop".to_owned())], "").await;
    shop.put("order-42", "").await;
    let shown = eventually("it is dead", async || {
        shop.rig.shown("order-42").await.filter(|shown| shown.state == State::Dead)
    })
    .await;
    let expected = format!("http://{}/expired?*** answered 410 Gone: no such shop", receiver.address);
    assert_eq!(shown.error, Some(expected));
    assert_eq!(receiver.calls().len(), 1);
    serve.stop().await;
}

#[tokio::test]
async fn retry_after_overrules_the_backoff() {
    let answers = [Answer::With(503, "retry-after", "1"), Answer::Status(200)];
    let (shop, receiver, serve) = Shop::with(&answers, "").await;
    shop.put("order-42", "").await;
    let calls = receiver.wait_for(2).await;
    let pause = calls[1].at - calls[0].at;
    assert!(pause >= Duration::from_millis(900), "{pause:?}, which is the backoff");
    shop.all_done().await;
    serve.stop().await;
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_not_followed() {
    let answers = [Answer::With(307, "location", "/elsewhere"), Answer::Status(200)];
    let (shop, receiver, serve) = Shop::with(&answers, "").await;
    shop.put("order-42", "").await;
    let calls = receiver.wait_for(2).await;
    shop.all_done().await;
    assert!(calls.iter().all(|call| call.uri.path() == "/expired"));
    assert_eq!(data(&calls[1])["attempt"], 2);
    serve.stop().await;
}

#[tokio::test]
async fn a_receiver_that_stalls_is_called_again() {
    let answers = [Answer::Stall, Answer::With(500, "x-nothing", "1"), Answer::Stall];
    let (shop, receiver, serve) = Shop::with(&answers, "timeout = \"200ms\"").await;
    shop.put("order-42", "").await;
    let url = format!("http://{}/expired?***", receiver.address);
    let expected =
        format!("no answer from {url} within 200ms: is the receiver stuck, or `timeout` too short?");
    assert_eq!(shop.error("order-42").await, expected);
    receiver.wait_for(3).await;
    serve.stop().await;
}

#[tokio::test]
async fn of_a_long_answer_only_the_beginning_is_kept() {
    let (shop, _receiver, serve) =
        Shop::with(&[Answer::Body(500, "x".repeat(1 << 20)), Answer::Stall], "timeout = \"5s\"").await;
    shop.put("order-42", "").await;
    let error = shop.error("order-42").await;
    assert!(error.ends_with(&"x".repeat(200)) && error.len() < 350, "{error}");
    serve.stop().await;
}

#[tokio::test]
async fn nobody_there_is_a_failure_that_says_where_to_look() {
    let shop = Shop::new("http://127.0.0.1:1/expired?key=geheim", "").await;
    let serve = shop.place.serve().await;
    shop.put("order-42", "").await;
    let expected = "cannot connect to http://127.0.0.1:1/expired?***: Connection refused (os error 111); \
                    does the receiver listen there, and is `url` right?";
    assert_eq!(shop.error("order-42").await, expected);
    assert!(!serve.log().concat().contains("geheim"));
    serve.stop().await;
}

#[tokio::test]
async fn a_connection_that_breaks_off_fails_before_the_status_and_not_behind_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/expired", listener.local_addr().expect("bound"));
    let shop = Shop::new(&url, "").await;
    let serve = shop.place.serve().await;
    shop.put("order-42", "").await;
    let mut request = [0; 4096];
    let (mut stream, _) = listener.accept().await.expect("called");
    assert!(stream.read(&mut request).await.expect("a request") > 0);
    drop(stream);
    let error = shop.error("order-42").await;
    assert!(error.starts_with(&format!("the call of {url} broke off: ")), "{error}");

    let (mut stream, _) = listener.accept().await.expect("called again");
    assert!(stream.read(&mut request).await.expect("a request") > 0);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthan").await.expect("it listens");
    drop(stream);
    shop.all_done().await;
    serve.stop().await;
}

#[tokio::test]
async fn a_private_authority_is_trusted_if_its_file_is_named() {
    let (receiver, authority) = Receiver::start_tls(&[Answer::Status(200)]).await;
    let url = format!("https://localhost:{}/expired", receiver.address.port());
    let shop = Shop::new(&url, "ca_file = \"ca.pem\"").await;
    shop.place.write("ca.pem", &authority);
    let serve = shop.place.serve().await;
    shop.put("order-42", "").await;
    receiver.wait_for(1).await;
    shop.all_done().await;
    serve.stop().await;

    let stranger = Shop::new(&url, "").await;
    let serve = stranger.place.serve().await;
    stranger.put("order-42", "").await;
    let error = stranger.error("order-42").await;
    assert!(error.contains("certificate") && error.contains("`ca_file`"), "{error}");
    assert_eq!(receiver.calls().len(), 1);
    serve.stop().await;
}

#[tokio::test]
async fn files_that_are_missing_or_wrong_stop_serve_and_config_check() {
    for (more, text, words) in [
        ("secret_file = \"file\"", None, ["secret_file `file`", "cannot be read: No such file"]),
        ("secret_file = \"file\"", Some("geheim"), ["secret_file `file`", "does not begin with whsec_"]),
        ("ca_file = \"file\"", None, ["ca_file `file`", "cannot be read: No such file"]),
        ("ca_file = \"file\"", Some("geheim"), ["ca_file `file`", "holds no certificate"]),
    ] {
        let shop = Shop::new("https://localhost/", more).await;
        if let Some(text) = text {
            shop.place.write("file", text);
        }
        for command in [&["serve"][..], &["config", "check"]] {
            let error = shop.place.run(command).fails(2, &words);
            assert!(!error.contains("geheim"), "{error}");
        }
        // The other commands do without the files, which may be out of their reach.
        shop.place.run(&["list", shop.rig.name().as_str()]).ok();
    }
}
