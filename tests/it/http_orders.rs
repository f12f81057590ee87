//! `/v1/orders`: the verbs, who wins, the intake, and following what happens.

use overdue::order::Orders;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::support::{
    RedisServer, eventually,
    http::Caller,
    orders_on,
    process::{Place, Serve, field},
};

/// A shop with a server of its own, so that its queue can be called `orders`.
struct Shop {
    serve: Serve,
    caller: Caller,
    orders: Orders,
    _place: Place,
    _server: RedisServer,
}

impl Shop {
    async fn new(more: &str) -> Self {
        let server = RedisServer::start();
        let place = Place::new(&format!(
            "[redis]\nurl = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[queue.orders]\npoll_interval = \"20ms\"\n\
             [queue.orders.handler]\ntype = \"order\"\n{more}",
            server.url()
        ));
        let serve = place.serve().await;
        let address = field(&serve.says("serving").await, "http").expect("it listens");
        let caller = Caller::new(format!("http://{address}"));
        Self { orders: orders_on(&server), serve, caller, _place: place, _server: server }
    }

    async fn put(&self, id: &str, body: Value) -> crate::support::http::Answer {
        self.caller.call("PUT", &format!("/v1/orders/{id}"), body).await
    }

    async fn post(&self, tail: &str, body: Value) -> crate::support::http::Answer {
        self.caller.call("POST", &format!("/v1/orders{tail}"), body).await
    }

    async fn expires(&self, name: &str) {
        eventually("it expires", async || {
            let order = self.caller.get(&format!("/v1/orders/{name}")).await.is(200);
            (order["status"] == "expired").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_order_is_created_once_and_paid_once() {
    let shop = Shop::new("").await;
    let body = json!({"delay": "1h", "fields": {"amount": "100.00"}});
    let created = shop.put("order%2042", body.clone()).await.is(201);
    assert_eq!(
        (&created["result"], &created["status"], &created["id"]),
        (&json!("created"), &json!("created"), &json!("order 42"))
    );
    let again = shop.put("order%2042", body).await.is(200);
    assert_eq!((&again["result"], &again["due_at"]), (&json!("exists"), &created["due_at"]));
    let other = json!({"fields": {"amount": "1.00"}});
    shop.put("order%2042", other.clone()).await.problem(409, "order-conflict");

    let problem = shop.post("/order%2042/pay", other).await.problem(409, "order-conflict");
    assert_eq!(problem["field"], "fields.amount");
    let extended = shop.post("/order%2042/extend", json!({"extend_by": "10m"})).await.is(200);
    assert_eq!(extended["previous_due_at"], created["due_at"]);
    let paid = shop.post("/order%2042/pay", json!({"fields": {"payment": "p1"}})).await.is(200);
    assert_eq!((&paid["result"], &paid["fields"]["payment"]), (&json!("paid"), &json!("p1")));
    assert_eq!(shop.post("/order%2042/pay", json!({})).await.is(200)["result"], "already_paid");
    shop.post("/order%2042/cancel", json!({})).await.problem(409, "order-paid");
    shop.post("/order%2042/extend", json!({"delay": "1h"})).await.problem(409, "order-paid");

    let order = shop.caller.get("/v1/orders/order%2042").await.is(200);
    let held = shop.orders.get(&"order 42".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(order, serde_json::to_value(held).unwrap(), "all levels see the same");
    shop.serve.stop().await;
}

#[tokio::test]
async fn whoever_comes_too_late_is_told_who_won() {
    let shop = Shop::new("").await;
    shop.put("late", json!({"delay": "1ms"})).await.is(201);
    shop.expires("late").await;
    for verb in ["pay", "cancel"] {
        let problem = shop.post(&format!("/late/{verb}"), json!({})).await.problem(409, "order-expired");
        assert!(problem["detail"].as_str().unwrap().contains("expired at 20"), "{problem}");
    }
    shop.put("off", json!({})).await.is(201);
    assert_eq!(shop.post("/off/cancel", json!({})).await.is(200)["result"], "cancelled");
    assert_eq!(shop.post("/off/cancel", json!({})).await.is(200)["result"], "already_cancelled");
    shop.post("/off/pay", json!({})).await.problem(409, "order-cancelled");
    for verb in ["pay", "cancel"] {
        shop.post(&format!("/missing/{verb}"), json!({})).await.problem(404, "order-not-found");
    }
    shop.caller.get("/v1/orders/missing").await.problem(404, "order-not-found");

    let listed = shop.caller.get("/v1/orders?status=expired").await.is(200);
    assert_eq!(listed["orders"][0]["id"], "late");
    let page = shop.caller.get("/v1/orders?status=cancelled&limit=1").await.is(200);
    let rest = shop
        .caller
        .get(&format!("/v1/orders?status=cancelled&cursor={}", page["next_cursor"].as_str().unwrap()))
        .await;
    assert_eq!(rest.is(200)["orders"], json!([]));
    shop.serve.stop().await;
}

#[tokio::test]
async fn post_makes_an_id_or_derives_it_or_takes_it() {
    let shop = Shop::new("").await;
    let made = shop.post("", json!({"fields": {"amount": "1"}})).await;
    let id = made.is(201)["id"].as_str().unwrap().to_owned();
    assert_eq!(made.header("location"), format!("/v1/orders/{id}"));
    let key = [("idempotency-key", "checkout-7")];
    let body = json!({"fields": {"amount": "1"}});
    let first = shop.caller.call_with("POST", "/v1/orders", body.clone(), &key).await.is(201);
    let again = shop.caller.call_with("POST", "/v1/orders", body, &key).await.is(200);
    assert_eq!(first["id"], again["id"]);
    let other = json!({"fields": {"amount": "2"}});
    shop.caller.call_with("POST", "/v1/orders", other, &key).await.problem(409, "order-conflict");
    let named = shop.post("", json!({"id": "a/b c"})).await;
    assert_eq!(named.is(201)["id"], "a/b c");
    shop.caller.get(named.header("location")).await.is(200);
    shop.serve.stop().await;
}

#[tokio::test]
async fn what_may_be_late_goes_through_the_intake() {
    let shop = Shop::new("[queue.orders.order]\nintake_limit = 1\n").await;
    shop.orders.intake().pause(true).await.unwrap();
    let asynchronously = [("prefer", "respond-async")];
    let submit = async |id: &str| {
        shop.caller.call_with("POST", "/v1/orders", json!({"id": id}), &asynchronously).await
    };
    let accepted = submit("42").await;
    assert_eq!(accepted.is(202)["result"], "accepted");
    assert_eq!(accepted.header("preference-applied"), "respond-async");
    assert_eq!(submit("42").await.is(202)["result"], "waiting");
    let full = submit("43").await;
    full.problem(503, "intake-full");
    assert_eq!(full.header("retry-after"), "1");
    shop.caller.get("/v1/orders/42").await.problem(404, "order-not-found");
    shop.orders.intake().pause(false).await.unwrap();
    eventually("it is created", async || {
        (shop.caller.get("/v1/orders/42").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(submit("42").await.is(202)["result"], "exists");
    let queues = shop.caller.get("/v1/queues").await.is(200).to_string();
    assert!(queues.contains("orders.intake"), "{queues}");
    shop.serve.stop().await;
}

#[tokio::test]
async fn bad_orders_are_refused_with_the_field() {
    let shop = Shop::new("").await;
    for (body, field) in [
        (json!({"fields": {"amount": 100.0}}), "fields.amount"),
        (json!({"fields": {"amount": "1e3"}}), "fields"),
        (json!({"fields": {"status": "paid"}}), "fields"),
        (json!({"delay": "1h", "due_at": "2999-01-01T00:00:00Z"}), "due_at"),
        (json!({"colour": "red"}), "colour"),
    ] {
        let problem = shop.put("42", body).await.problem(422, "invalid-value");
        assert_eq!(problem["field"], field, "{problem}");
    }
    shop.caller.get("/v1/orders?queue=other").await.problem(404, "queue-not-found");
    shop.caller.get("/v1/orders?colour=red").await.problem(422, "invalid-value");
    shop.caller.get("/v1/orders/events?after=x").await.problem(422, "invalid-value");
    shop.serve.stop().await;
}

#[tokio::test]
async fn events_are_followed_from_where_one_was() {
    let shop = Shop::new("").await;
    shop.put("1", json!({})).await.is(201);
    let follow = async |path: &str, last: &str| {
        let mut request = shop.caller.request("GET", path);
        if !last.is_empty() {
            request = request.header("last-event-id", last);
        }
        request.send().await.expect("an answer")
    };
    let read = async |response: &mut reqwest::Response, word: &str| {
        let mut text = String::new();
        while !text.contains(word) || !text.ends_with("\n\n") {
            text.push_str(
                std::str::from_utf8(&response.chunk().await.expect("it goes on").expect("no end")).unwrap(),
            );
        }
        text
    };
    let mut all = follow("/v1/orders/events?after=0", "").await;
    assert_eq!(all.headers()[CONTENT_TYPE], "text/event-stream");
    let first = read(&mut all, "created").await;
    assert!(first.contains(r#""id":"1""#), "{first}");
    shop.post("/1/pay", json!({})).await.is(200);
    read(&mut all, "event: paid").await;

    let id = first.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
    let mut rest = follow("/v1/orders/events", &id).await;
    let text = read(&mut rest, "event: paid").await;
    assert!(!text.contains("created"), "{text}");
    // Streams without an end do not keep the server from stopping.
    shop.serve.stop().await;
}

#[tokio::test]
async fn deadlines_of_orders_are_changed_through_their_orders_only() {
    let shop = Shop::new("").await;
    shop.put("42", json!({})).await.is(201);
    let register = json!({"delay": "1h"});
    for queue in ["orders", "orders.intake"] {
        let path = format!("/v1/queues/{queue}/deadlines/42");
        for (method, tail, body) in [
            ("PUT", "", register.clone()),
            ("PATCH", "", register.clone()),
            ("DELETE", "", Value::Null),
            ("POST", "/fire", Value::Null),
        ] {
            let answer = shop.caller.call(method, &format!("{path}{tail}"), body).await;
            answer.problem(409, "queue-of-orders");
        }
        let path = format!("/v1/queues/{queue}/deadlines");
        shop.caller.call("POST", &path, register.clone()).await.problem(409, "queue-of-orders");
    }
    let order = shop.caller.get("/v1/orders/42").await.is(200);
    assert!(order["due_at"].is_string(), "{order}");
    shop.post("", json!({"id": "events"})).await.problem(422, "invalid-value");
    shop.put("%65vents", json!({})).await.problem(422, "invalid-value");
    shop.serve.stop().await;
}
