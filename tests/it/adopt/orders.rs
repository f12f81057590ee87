//! The same where hashes become orders.

use overdue::{
    order::{Fields, Imported, NewOrder, Order, Orders, Refused, Renames, Status},
    queue::{Candidate, Takeover},
};
use redis::Value;
use serde_json::json;

use super::{FAR, Shop};
use crate::support::{RedisServer, due, eventually, id};

impl Shop {
    /// One whose queue is of orders.
    async fn of_orders() -> Self {
        Self::with(RedisServer::shared(), "order").await
    }

    fn engine(&self) -> Orders {
        Orders::new((*self.rig).clone())
    }

    async fn found(&self, name: &str) -> Option<Order> {
        self.engine().get(&id(name)).await.expect("an answer")
    }

    async fn set(&self, name: &str, field: &str, value: impl redis::ToSingleRedisArg) {
        self.rig.send::<()>(redis::cmd("HSET").arg(self.key(name)).arg(field).arg(value)).await;
    }

    /// Why the only key that failed did so; expects exit code 1.
    fn failure(&self, further: &str) -> String {
        let ran = self.adopt(&format!("{further} -o json"));
        ran.fails(1, &["cannot be adopted"]);
        let report: serde_json::Value = serde_json::from_str(&ran.stdout()).expect("JSON");
        assert_eq!((&report["failed"], &report["failures"][0]["count"]), (&json!(1), &json!(1)), "{report}");
        report["failures"][0]["reason"].as_str().expect("a word").to_owned()
    }

    fn candidates(&self, count: i64) -> Vec<Candidate> {
        let candidate = |n: i64| Candidate { key: self.key(&n.to_string()), id: id(&n.to_string()) };
        (0..count).map(candidate).collect()
    }
}

#[tokio::test]
async fn a_hash_becomes_an_order_and_stays_without_its_ttl() {
    let shop = Shop::of_orders().await;
    shop.order("42", FAR).await;
    shop.set("42", "status", "unpaid").await;
    shop.set("42", "notes", "x").await;
    shop.rig.send::<()>(redis::cmd("SET").arg(shop.key("text")).arg("x").arg("PXAT").arg(FAR)).await;
    // Without a TTL nothing is wanted of them.
    shop.rig.send::<()>(redis::cmd("SET").arg(shop.key("stays")).arg("x")).await;
    shop.set("large", "blob", "x".repeat(200_000)).await;
    shop.set("reserved", "status", "x").await;

    assert_eq!(shop.failure(""), "invalid_fields");
    let said = shop.adopt("").stdout();
    assert!(said.contains("`status` is written by overdue itself") && said.contains("--rename"), "{said}");
    assert_eq!((shop.found("42").await, shop.expires_at("42").await), (None, FAR));

    let renames = "--rename status=shop_status --drop notes";
    let would = shop.report(&format!("--dry-run {renames}"));
    assert_eq!((&would["adopted"], &would["examples"][0]["id"]), (&json!(1), &json!("42")));
    assert_eq!((shop.found("42").await, shop.expires_at("42").await), (None, FAR));

    let report = shop.report(renames);
    assert_eq!((&report["adopted"], &report["wrong_type"]), (&json!(1), &json!(1)), "{report}");
    assert_eq!(report["no_ttl"], 3, "{report}");
    let order = shop.found("42").await.expect("it is an order");
    assert_eq!((order.status, order.due_at.expect("it waits").as_ms()), (Status::Created, FAR));
    assert_eq!(order.fields, Fields::new([("amount", "100.00"), ("shop_status", "unpaid")]).unwrap());
    assert_eq!((shop.expires_at("42").await, shop.expires_at("text").await), (-1, FAR));
    assert_eq!(shop.rig.on_key::<i64>("XLEN", "events", crate::support::NOTHING).await, 1);

    let again = shop.report(renames);
    assert_eq!((&again["adopted"], &again["already_adopted"]), (&json!(0), &json!(1)));
}

#[tokio::test]
async fn nothing_is_lost_of_what_is_written_while_it_runs() {
    /// An application that writes only to what has not expired, now a field and now the TTL.
    const WRITE: &str = "if redis.call('PTTL', KEYS[1]) < 0 then return 0 end
        if ARGV[1] == '' then redis.call('HINCRBY', KEYS[1], 'visits', 1)
        else redis.call('PEXPIREAT', KEYS[1], ARGV[1]) end
        return 1";
    const COUNT: i64 = 50;
    let shop = Shop::of_orders().await;
    shop.orders(COUNT).await;
    let orders = shop.engine();
    for (n, candidate) in (0..COUNT).zip(shop.candidates(COUNT)) {
        let (mut visits, mut expires_at) = (0, FAR + n);
        let application = async {
            for round in 1..=10 {
                let renewed = FAR + n + 1000 * round;
                for argument in [String::new(), renewed.to_string()] {
                    let mut write = redis::cmd("EVAL");
                    write.arg(WRITE).arg(1).arg(&candidate.key).arg(&argument);
                    match shop.rig.send::<i64>(&write).await {
                        0 => return,
                        _ if argument.is_empty() => visits += 1,
                        _ => expires_at = renewed,
                    }
                }
            }
        };
        let adoption = async {
            let one = std::slice::from_ref(&candidate);
            let adopt = async || orders.adopt(one, &Renames::default(), Takeover::Move).await;
            while adopt().await.expect("an answer") == [Imported::Refused(Refused::Restless)] {}
        };
        tokio::join!(application, adoption);
        let order = shop.found(&n.to_string()).await.expect("it is an order");
        let seen = order.fields.get("visits").map_or(0, |visits| visits.parse().expect("a number"));
        assert_eq!((seen, order.due_at.expect("it waits").as_ms()), (visits, expires_at), "{n}");
    }
}

#[tokio::test]
async fn killed_in_the_middle_it_leaves_each_hash_as_it_was_or_as_an_order() {
    const COUNT: i64 = 2000;
    let shop = Shop::of_orders().await;
    shop.orders(COUNT).await;
    let arguments = shop.arguments("--rate 500");
    let running = shop.place.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    eventually("some are adopted", async || (shop.rig.members("scheduled").await.len() > 100).then_some(()))
        .await;
    running.kill9().await;
    let ids: Vec<_> = (0..COUNT).map(|n| id(&n.to_string())).collect();
    let before = shop.engine().get_all(&ids).await.expect("an answer");
    assert!(before.iter().any(Option::is_none), "it was in the middle");
    for (order, (at, (_, expires_at))) in before.iter().zip((FAR..).zip(shop.all(COUNT).await)) {
        assert_eq!(expires_at, if order.is_some() { -1 } else { at });
    }
    shop.adopt("").ok();
    let after = shop.engine().get_all(&ids).await.expect("an answer");
    for (order, at) in after.iter().zip(FAR..) {
        assert_eq!(order.as_ref().and_then(|order| order.due_at).expect("it waits").as_ms(), at);
    }
    assert_eq!(shop.rig.members("scheduled").await.len() as i64, COUNT);
    assert_eq!(shop.rig.on_key::<i64>("XLEN", "events", crate::support::NOTHING).await, COUNT);
}

#[tokio::test]
async fn who_still_writes_to_the_old_place_is_found_out() {
    let shop = Shop::of_orders().await;
    shop.order("42", FAR).await;
    shop.adopt("").ok();
    shop.set("42", "paid_by", "card").await;
    assert_eq!(shop.failure(""), "changed_since");
    shop.engine().pay(&id("42"), &Fields::default()).await.expect("an answer");
    assert_eq!(shop.report("")["already_adopted"], 1, "it was paid in both places");
    shop.renew("42", FAR).await;
    assert_eq!(shop.failure(""), "conflict");
    assert_eq!(shop.expires_at("42").await, FAR);
}

#[tokio::test]
async fn a_trial_follows_renewals_until_the_order_is_settled() {
    let shop = Shop::of_orders().await;
    shop.order("42", FAR).await;
    assert_eq!(shop.report("--keep-ttl")["adopted"], 1);
    assert_eq!(shop.report("--keep-ttl")["already_adopted"], 1);
    shop.renew("42", FAR + 1000).await;
    assert_eq!(shop.report("--keep-ttl")["adopted"], 1);
    let order = shop.found("42").await.expect("it is an order");
    assert_eq!(order.due_at.expect("it waits").as_ms(), FAR + 1000);

    shop.engine().pay(&id("42"), &Fields::default()).await.expect("an answer");
    shop.renew("42", FAR + 2000).await;
    assert_eq!(shop.report("--keep-ttl")["already_adopted"], 1);
    assert_eq!(shop.report("")["already_adopted"], 1);
    assert_eq!(shop.found("42").await.expect("it stays").status, Status::Paid);
    assert!(shop.rig.members("scheduled").await.is_empty(), "what is settled has no deadline");
    assert_eq!(
        shop.expires_at("42").await,
        FAR + 2000,
        "the TTL of a settled order is the shop's own affair"
    );
}

#[tokio::test]
async fn what_cannot_become_an_order_keeps_its_ttl() {
    let shop = Shop::of_orders().await;
    for name in ["taken", "other", "large", "binary", "late"] {
        shop.order(name, if name == "late" { 300_000_000_000_000 } else { FAR }).await;
    }
    let fields = Fields::new([("amount", "5")]).unwrap();
    let taken = NewOrder { id: id("taken"), due: due(FAR), fields };
    shop.engine().create(&[taken]).await.expect("room");
    shop.rig.on_key::<Value>("SET", "order:other", "x").await;
    shop.set("large", "blob", "x".repeat(200_000)).await;
    shop.set("binary", "blob", b"\xff".as_slice()).await;

    let names = ["taken", "other", "large", "binary", "late"];
    let candidates = names.map(|name| Candidate { key: shop.key(name), id: id(name) });
    let answers =
        shop.engine().adopt(&candidates, &Renames::default(), Takeover::Move).await.expect("an answer");
    let refused: Vec<&Refused> = answers
        .iter()
        .map(|answer| match answer {
            Imported::Refused(refused) => refused,
            other => panic!("refused, not {other:?}"),
        })
        .collect();
    assert_eq!(refused[..3], [&Refused::Conflict, &Refused::NotAnOrder, &Refused::TooLarge]);
    assert!(matches!(refused[3], Refused::Fields(_)) && *refused[4] == Refused::OutOfRange);
    for name in &names[..4] {
        assert_eq!(shop.expires_at(name).await, FAR, "{name}");
    }
    assert_eq!(shop.rig.members("scheduled").await, ["taken"]);
}

#[tokio::test]
async fn the_handler_of_the_queue_must_fit() {
    let shop = Shop::of_orders().await;
    shop.adopt("--in-place").fails(2, &["handler `order`", "leave out --in-place"]);
    let mut other = Shop::new().await;
    other.flags = "";
    other.adopt("").fails(2, &["would not expire orders", "pass --in-place"]);
    let companion = format!("{}.intake", shop.rig.name());
    shop.place.run(&["adopt", "a*", "--queue", &companion]).fails(2, &["companion"]);
    shop.adopt("--rename status").fails(2, &["status=shop_status"]);
}
