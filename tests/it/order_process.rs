//! Queues of orders in a real `serve`, and the commands on orders.

use std::{process::Stdio, time::Duration};

use overdue::{
    DueAt,
    order::{Fields, NewOrder, Orders, Status, Verdict},
    queue::Due,
};
use serde_json::{Value, json};

use crate::support::{
    RedisServer, Rig, eventually, id, orders_on,
    process::{Place, Serve},
    receiver::{Answer, Receiver},
};

/// A shop whose server is its own, so that its queue can be called `orders`.
struct Shop {
    server: RedisServer,
    place: Place,
}

impl Shop {
    /// `notify` is the value of that key, or empty.
    fn new(notify: &str) -> Self {
        let server = RedisServer::start();
        let notify = if notify.is_empty() { String::new() } else { format!("notify = {notify}\n") };
        let config = format!(
            "[redis]\nurl = \"{}\"\n[queue.orders]\npoll_interval = \"20ms\"\n\
             backoff = {{ initial = \"10ms\", max = \"10ms\" }}\n[queue.orders.order]\nretain = \"1h\"\n\
             [queue.orders.handler]\ntype = \"order\"\n{notify}",
            server.url()
        );
        Self { server, place: Place::new(&config) }
    }

    fn orders(&self) -> Orders {
        orders_on(&self.server)
    }

    fn order(&self, arguments: &str) -> crate::support::process::Ran {
        let words: Vec<&str> = arguments.split(' ').collect();
        self.place.run(&[&["order"], &words[..]].concat())
    }

    async fn status(&self, name: &str) -> Status {
        self.orders().get(&id(name)).await.expect("answered").expect("it exists").status
    }

    async fn expires(&self, name: &str) {
        let what = format!("{name} expires");
        eventually(&what, async || (self.status(name).await == Status::Expired).then_some(())).await;
    }
}

async fn webhook(answers: &[Answer]) -> (Shop, Receiver, Serve) {
    let receiver = Receiver::start(answers).await;
    let shop = Shop::new(&format!("{{ type = \"webhook\", url = \"{}\" }}", receiver.url()));
    let serve = shop.place.serve().await;
    (shop, receiver, serve)
}

#[tokio::test]
async fn a_receiver_gets_the_whole_order_after_it_has_expired() {
    let (shop, receiver, serve) = webhook(&[Answer::Status(500), Answer::Status(200)]).await;
    shop.order("create 42 --in 50ms --field amount=100.00").ok();
    let calls = receiver.wait_for(2).await;
    assert_eq!(shop.status("42").await, Status::Expired, "before anybody is told");
    let event = calls[1].json();
    assert_eq!((&event["type"], &event["data"]["queue"]), (&json!("order.expired"), &json!("orders")));
    let order = &event["data"]["payload"];
    assert_eq!((&order["status"], &order["fields"]), (&json!("expired"), &json!({"amount": "100.00"})));
    assert_eq!(order, &shop.order("get 42 -o json").json(), "in the form that everybody gets");
    assert_eq!(event["data"]["due_at"], order["due_at"]);
    assert_eq!(calls[0].header("webhook-id"), calls[1].header("webhook-id"), "one event, told twice");
    serve.stop().await;
}

#[tokio::test]
async fn a_receiver_that_is_down_delays_no_expiry_and_paid_orders_are_not_told_of() {
    let (shop, receiver, serve) = webhook(&[Answer::Stall]).await;
    let orders = shop.orders();
    let due = Due::In(Duration::from_millis(100));
    // More than `concurrency`, so that nothing more could be handed to the receiver.
    let new = |n: usize| NewOrder { id: id(&format!("n{n}")), due, fields: Fields::default() };
    orders.create(&(0..200).map(new).collect::<Vec<_>>()).await.unwrap();
    let paid = orders.pay(&id("n0"), &Fields::default()).await.unwrap();
    eventually("the others expire", async || {
        (orders.counts().await.ok()?.expired == 200 - u64::from(matches!(paid, Verdict::Done(_))))
            .then_some(())
    })
    .await;
    let stats = shop.place.run(&["stats", "-o", "json"]).json();
    let queues: Vec<&Value> = stats.as_array().unwrap().iter().map(|row| &row["queue"]).collect();
    assert_eq!(queues, ["orders", "orders.intake", "orders.notify"]);
    let waiting = stats[2]["scheduled"].as_u64().unwrap() + stats[2]["leased"].as_u64().unwrap();
    assert_eq!(waiting, orders.counts().await.unwrap().expired);
    assert!(receiver.calls().len() <= 64);
    serve.kill9().await;
}

#[tokio::test]
async fn the_commands_tell_who_won() {
    let shop = Shop::new("");
    let serve = shop.place.serve().await;
    let created = shop.order("create 42 --in 1h --field amount=100.00 -o json").json();
    assert_eq!((&created["result"], &created["status"]), (&json!("created"), &json!("created")));
    assert!(shop.order("create 42 --field amount=100.00").ok().contains("exists"));
    shop.order("create 42 --field amount=1").fails(1, &["conflict", "42"]);
    assert!(shop.order("extend 42 --by 10m").ok().contains("extended"));
    shop.order("pay 42 --field amount=1").fails(1, &["conflict", "amount=100.00"]);
    assert!(shop.order("pay 42 --field payment=p1").ok().contains("paid at"));
    assert!(shop.order("pay 42").ok().contains("already paid"));
    shop.order("cancel 42").fails(1, &["too late", "was paid at"]);
    shop.order("extend 42 --by 1m").fails(1, &["too late", "was paid at"]);

    shop.order("create 43 --in 10ms").ok();
    shop.expires("43").await;
    shop.order("pay 43").fails(1, &["too late", "expired at"]);
    shop.order("create 44 --at 2999-01-01T00:00:00Z").ok();
    assert!(shop.order("cancel 44 --field reason=changed").ok().contains("cancelled at"));
    assert!(shop.order("cancel 44").ok().contains("already cancelled"));

    for missing in ["get 99", "pay 99", "cancel 99", "extend 99 --by 1m"] {
        shop.order(missing).fails(3, &["no order `99`"]);
    }
    let listed = shop.order("list --status expired -o json").json();
    assert_eq!(listed.as_array().unwrap().iter().map(|order| &order["id"]).collect::<Vec<_>>(), ["43"]);
    let events = shop.order("watch --after 0 --until-now -o ndjson").ok();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        events.iter().map(|event| (event["type"].as_str().unwrap(), event["id"].as_str().unwrap())).collect();
    assert_eq!(
        told,
        [
            ("created", "42"),
            ("paid", "42"),
            ("created", "43"),
            ("expired", "43"),
            ("created", "44"),
            ("cancelled", "44")
        ]
    );
    serve.stop().await;
}

#[tokio::test]
async fn bad_input_is_refused_before_anything_happens() {
    let shop = Shop::new("");
    for (arguments, words) in [
        ("create 42 --field amount=1e3", &["amount", "decimal"][..]),
        ("create 42 --field status=paid", &["status", "overdue itself"]),
        ("create 42 --field amount", &["NAME=VALUE"]),
        ("create", &["<ID>"]),
        ("create 42 --in 1m --at 2999-01-01T00:00:00Z", &["cannot be used"]),
        ("create 42 --queue orders.intake", &["companion"]),
        ("extend 42", &["--by"]),
    ] {
        shop.order(arguments).fails(2, words);
    }
    shop.order("get 42").fails(3, &[]);
}

#[tokio::test]
async fn files_of_orders_are_created_or_submitted_line_by_line() {
    let shop = Shop::new("");
    let lines = "{\"id\":\"a\",\"delay\":\"1h\",\"fields\":{\"amount\":\"1.00\"}}\n\n{\"id\":\"b\"}\n\
                 {\"id\":\"c\",\"fields\":{\"amount\":1.00}}\n{\"id\":\"d\",\"due_at\":\"2999-01-01T00:00:00Z\"}\n";
    shop.place.write("orders.ndjson", lines);
    let ran = shop.order("create --from orders.ndjson");
    ran.fails(1, &["line 4", "numbers would lose digits", "1 cannot be read"]);
    assert!(shop.order("create --from orders.ndjson").stdout().contains("existed    3"));

    let serve = shop.place.serve().await;
    shop.place.write("more.ndjson", "{\"id\":\"e\"}\n{\"id\":\"a\"}\n{\"id\":\"b\"}\n");
    let ran = shop.place.run_with(
        &["order", "submit", "--from", "-"],
        Stdio::from(std::fs::File::open(shop.place.path("more.ndjson")).unwrap()),
        &[],
    );
    ran.fails(1, &["order `a` exists with other fields"]);
    assert!(
        ran.stdout().contains("accepted   1") && ran.stdout().contains("existed    1"),
        "{}",
        ran.stdout()
    );
    eventually("e is created", async || shop.orders().get(&id("e")).await.ok()?).await;
    serve.stop().await;
}

#[tokio::test]
async fn orders_in_a_queue_that_would_not_expire_them_are_refused() {
    let server = RedisServer::start();
    let url = format!("[redis]\nurl = \"{}\"\n", server.url());
    let place = Place::new(&format!("{url}[queue.orders]\nlease = \"1m\"\n"));
    for arguments in [&["order", "create", "42"][..], &["order", "submit", "42"]] {
        place.run(arguments).fails(2, &["handler `log`", "type = \"order\""]);
    }
    // Without queues in the configuration it is that of a client, and another machine serves.
    let client = Place::new(&url).run(&["order", "create", "42"]);
    client.ok();
    assert!(client.stderr().contains("another `serve`"), "{}", client.stderr());

    let shop = Place::new(&format!("{url}[queue.orders.handler]\ntype = \"order\"\n"));
    for arguments in [&["cancel", "orders", "42"][..], &["queue", "purge", "orders", "--yes"]] {
        let ran = shop.run(arguments);
        ran.ok();
        assert!(ran.stderr().contains("is a queue of orders"), "{}", ran.stderr());
    }
}

#[test]
fn contradictions_of_the_configuration_are_named() {
    for (config, words) in [
        (
            "[queue.orders.handler]\ntype = \"log\"\nnotify = { type = \"log\" }",
            &["notify", "no key of the handler type `log`"][..],
        ),
        (
            "[queue.orders.handler]\ntype = \"order\"\nnotify = { type = \"stream\" }",
            &["notify.type", "webhook or command"],
        ),
        (
            "[queue.orders.handler]\ntype = \"order\"\nnotify = { url = \"http://x\" }",
            &["notify.type", "missing"],
        ),
        ("[queue.orders.order]\nretain = \"1ms\"", &["order.retain", "at least 1m"]),
        ("[queue.orders.order]\nintake_limit = 0", &["order.intake_limit"]),
        ("[queue.\"orders.intake\"]\nlease = \"1m\"", &["companion"]),
    ] {
        Place::new(config).run(&["config", "check"]).fails(2, words);
    }
}

/// The real orders of a shop, which are not part of the project: created and paid when they were, and expired
/// between. `replay`, which knows only deadlines, counts the same.
#[tokio::test]
async fn the_olist_orders_expire_as_in_a_replay() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/olist-orders.csv");
    if !std::path::Path::new(path).exists() {
        eprintln!("skipped: there is no {path}");
        return;
    }
    const TIMEOUT_MS: i64 = 30 * 60 * 1000;
    let mut steps = Vec::new();
    for row in csv::Reader::from_path(path).unwrap().into_records() {
        let row = row.unwrap();
        let ms = |column: usize| {
            let text = format!("{}Z", row[column].replace(' ', "T"));
            text.parse::<DueAt>().ok().map(DueAt::as_ms)
        };
        let created_ms = ms(2).unwrap();
        steps.push((created_ms, 0, row[0].to_owned()));
        steps.extend(ms(3).map(|paid_ms| (paid_ms.max(created_ms), 1, row[0].to_owned())));
    }
    steps.sort();
    let rig = Rig::new().await;
    let at = |ms: i64| Orders::new(rig.when(ms));
    let (mut expired, mut next_due_ms) = (0, i64::MAX);
    for (ms, kind, name) in &steps {
        // A payment in the very millisecond of the deadline is in time. Asking in vain is all that is left out.
        if next_due_ms < *ms {
            expired += at(ms - 1).expire_due(false).await.unwrap();
            next_due_ms = rig.counts().await.unwrap().next_due_at.map_or(i64::MAX, DueAt::as_ms);
        }
        if *kind == 0 {
            let due = Due::In(Duration::from_millis(TIMEOUT_MS as u64));
            let new = NewOrder { id: id(name), due, fields: Fields::default() };
            at(*ms).create(&[new]).await.unwrap();
            next_due_ms = next_due_ms.min(ms + TIMEOUT_MS);
        } else {
            at(*ms).pay(&id(name), &Fields::default()).await.unwrap();
        }
    }
    expired += at(DueAt::MAX_MS).expire_due(false).await.unwrap();
    let report = Place::new("").run(&["replay", path, "--timeout", "30m", "-o", "json"]).json();
    assert_eq!((expired, &report["expired"]), (1980, &json!(1980)));
}
