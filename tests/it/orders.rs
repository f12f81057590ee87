//! The verbs on orders, in virtual time.

use std::time::Duration;

use overdue::{
    error::{Error, TroubleKind},
    order::{
        Created, Event, Extended, Extension, Fields, NewOrder, Order, Orders, Status, Submitted, Verdict,
    },
    queue::{Due, State},
};

use crate::support::{NOTHING, PARTS, RedisServer, Rig, T0, at_ms, due, id, scripts::whole, trouble};

/// The orders of a rig's queue at an instant.
pub(crate) fn orders(rig: &Rig, now_ms: i64) -> Orders {
    Orders::new(rig.when(now_ms))
}

pub(crate) fn fields(pairs: &[(&str, &str)]) -> Fields {
    Fields::new(pairs.iter().copied()).expect("valid fields")
}

pub(crate) fn new(name: &str, due_ms: i64) -> NewOrder {
    NewOrder { id: id(name), due: due(due_ms), fields: fields(&[("amount", "100.00")]) }
}

async fn created(rig: &Rig, name: &str, due_ms: i64) -> Order {
    match orders(rig, T0).create(&[new(name, due_ms)]).await.expect("created").remove(0) {
        Created::Created(order) => order,
        other => panic!("{other:?}"),
    }
}

async fn order(rig: &Rig, name: &str) -> Order {
    orders(rig, T0).get(&id(name)).await.expect("answered").expect("there is one")
}

async fn events(rig: &Rig) -> Vec<(Status, String)> {
    let page = orders(rig, T0).events(None, 1000).await.expect("events");
    page.events.into_iter().map(|Event { r#type, id, .. }| (r#type, id)).collect()
}

fn one(verdict: Verdict) -> (&'static str, Order) {
    match verdict {
        Verdict::Done(order) => ("done", order),
        Verdict::Already(order) => ("already", order),
        Verdict::TooLate(order) => ("too late", order),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_order_is_created_with_its_deadline_and_an_event() {
    let rig = Rig::new().await;
    let order = created(&rig, "42", T0 + 1000).await;
    assert_eq!(
        (order.status, order.created_at, order.due_at),
        (Status::Created, Some(at_ms(T0)), Some(at_ms(T0 + 1000)))
    );
    assert_eq!(self::order(&rig, "42").await, order);
    assert_eq!(rig.members("scheduled").await, ["42"]);
    assert_eq!(events(&rig).await, [(Status::Created, "42".to_owned())]);
    let amount: String = rig.on_key("HGET", "order:42", "amount").await;
    assert_eq!(amount, "100.00", "the caller's fields stand in the hash as they are");
}

#[tokio::test]
async fn creating_twice_is_creating_once() {
    let rig = Rig::new().await;
    let first = created(&rig, "42", T0 + 1000).await;
    let later = orders(&rig, T0 + 5);
    let answers =
        later.create(&[new("42", T0 + 9000), new("43", T0 + 9000), new("43", T0 + 9000)]).await.unwrap();
    assert_eq!(answers[0], Created::Exists(first.clone()), "the deadline of the first time stays");
    assert!(
        matches!(answers[1..], [Created::Created(_), Created::Exists(_)]),
        "also within a call: {answers:?}"
    );

    let other = NewOrder { fields: fields(&[("amount", "100.01")]), ..new("42", T0 + 1000) };
    assert_eq!(later.create(&[other]).await.unwrap(), [Created::Conflict(first)]);
    assert_eq!(events(&rig).await.len(), 2);
}

#[tokio::test]
async fn the_first_to_come_wins_and_the_others_are_told() {
    let rig = Rig::new().await;
    for name in ["paid", "cancelled", "expired"] {
        created(&rig, name, T0 + 1000).await;
    }
    let (at, none) = (orders(&rig, T0 + 10), Fields::default());
    assert_eq!(one(at.pay(&id("paid"), &none).await.unwrap()).0, "done");
    assert_eq!(one(at.cancel(&id("cancelled"), &none).await.unwrap()).0, "done");
    assert_eq!(orders(&rig, T0 + 999).expire_due(false).await.unwrap(), 0, "never early");
    assert_eq!(orders(&rig, T0 + 1000).expire_due(false).await.unwrap(), 1);

    let late = orders(&rig, T0 + 2000);
    for (name, status, settled_ms) in [
        ("paid", Status::Paid, T0 + 10),
        ("cancelled", Status::Cancelled, T0 + 10),
        ("expired", Status::Expired, T0 + 1000),
    ] {
        let (paying, order) = one(late.pay(&id(name), &none).await.unwrap());
        assert_eq!(paying, if status == Status::Paid { "already" } else { "too late" });
        assert_eq!((order.status, order.settled_at()), (status, Some(at_ms(settled_ms))));
        let (cancelling, _) = one(late.cancel(&id(name), &none).await.unwrap());
        assert_eq!(cancelling, if status == Status::Cancelled { "already" } else { "too late" });
        assert!(matches!(
            late.extend(&id(name), Extension::By(Duration::from_secs(1))).await.unwrap(),
            Extended::TooLate(order) if order.status == status
        ));
    }
    assert_eq!(rig.members("scheduled").await, [""; 0]);
    let ends: Vec<Status> = events(&rig).await.into_iter().skip(3).map(|(kind, _)| kind).collect();
    assert_eq!(ends, [Status::Paid, Status::Cancelled, Status::Expired], "one event for each end");
}

#[tokio::test]
async fn an_overdue_order_can_be_paid_and_extended_until_it_has_expired() {
    let rig = Rig::new().await;
    created(&rig, "a", T0 + 10).await;
    created(&rig, "b", T0 + 10).await;
    let late = orders(&rig, T0 + 500);
    assert_eq!(one(late.pay(&id("a"), &Fields::default()).await.unwrap()).0, "done");
    let moved = late.extend(&id("b"), Extension::By(Duration::from_millis(1000))).await.unwrap();
    assert!(
        matches!(moved, Extended::Moved { order, old } if order.due_at == Some(at_ms(T0 + 1010)) && old == Some(at_ms(T0 + 10)))
    );
    assert_eq!(late.expire_due(false).await.unwrap(), 0);
    assert_eq!(orders(&rig, T0 + 1010).expire_due(false).await.unwrap(), 1);
}

#[tokio::test]
async fn paying_adds_fields_and_refuses_others_than_those_of_the_order() {
    let rig = Rig::new().await;
    created(&rig, "42", T0 + 1000).await;
    let at = orders(&rig, T0);
    let wrong = fields(&[("amount", "1.00"), ("payment", "p1")]);
    assert!(matches!(
        at.pay(&id("42"), &wrong).await.unwrap(),
        Verdict::Conflict { order, field } if field == "amount" && order.status == Status::Created
    ));
    let right = fields(&[("amount", "100.00"), ("payment", "p1")]);
    let (result, order) = one(at.pay(&id("42"), &right).await.unwrap());
    assert_eq!((result, order.fields.get("payment")), ("done", Some("p1")));
    let again = at.create(&[new("42", T0 + 1000)]).await.unwrap();
    assert!(
        matches!(&again[..], [Created::Exists(order)] if order.status == Status::Paid),
        "what payment added does not count"
    );
}

#[tokio::test]
async fn another_payment_of_a_paid_order_is_no_repetition() {
    let rig = Rig::new().await;
    created(&rig, "42", T0 + 1000).await;
    let at = orders(&rig, T0);
    let first = fields(&[("payment", "p1")]);
    assert_eq!(one(at.pay(&id("42"), &first).await.unwrap()).0, "done");
    assert_eq!(one(at.pay(&id("42"), &first).await.unwrap()).0, "already", "its reply was lost, say");
    for other in [("payment", "p2"), ("voucher", "v1")] {
        let verdict = at.pay(&id("42"), &fields(&[other])).await.unwrap();
        assert!(
            matches!(verdict, Verdict::Conflict { field, .. } if field == other.0),
            "somebody paid twice"
        );
    }
    assert_eq!(order(&rig, "42").await.fields, fields(&[("amount", "100.00"), ("payment", "p1")]));
}

#[tokio::test]
async fn the_deadline_of_an_order_is_an_id_of_its_queue() {
    let rig = Rig::new().await;
    created(&rig, "42", T0 + 10).await;
    rig.zadd("42", T0 + 700).await; // moved by a foreign client
    assert_eq!(order(&rig, "42").await.due_at, Some(at_ms(T0 + 700)));
    assert_eq!(orders(&rig, T0 + 699).expire_due(false).await.unwrap(), 0);
    assert_eq!(orders(&rig, T0 + 700).expire_due(false).await.unwrap(), 1);
    assert_eq!(order(&rig, "42").await.due_at, Some(at_ms(T0 + 700)), "kept as it was when it expired");

    created(&rig, "43", T0 + 10).await;
    let _: i64 = rig.on_key("ZREM", "scheduled", "43").await;
    assert_eq!(order(&rig, "43").await.due_at, None, "nothing will expire it, and it says so");
}

#[tokio::test]
async fn an_id_without_an_order_goes_to_the_dead_set_and_is_no_obstacle() {
    let rig = Rig::new().await;
    let _: i64 = rig.on_key("SADD", "order:set", "x").await;
    let _: i64 = rig.on_key("HSET", "order:hash", ("colour", "red")).await;
    for name in ["nothing", "set", "hash"] {
        rig.zadd(name, T0).await;
    }
    rig.zadd(b"\xff\xfe".as_slice(), T0).await;
    created(&rig, "real", T0 + 1).await;
    assert_eq!(orders(&rig, T0 + 1).expire_due(false).await.unwrap(), 1);

    let page = rig.list(State::Dead, 10, None).await.unwrap();
    let mut reasons: Vec<_> =
        page.rows.iter().map(|row| (row.id.as_str(), row.reason.as_deref().unwrap())).collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [
            ("hash", "not_an_order"),
            ("nothing", "no_order"),
            ("set", "wrong_type"),
            ("\u{fffd}\u{fffd}", "no_order")
        ]
    );
    created(&rig, "nothing", T0 + 5).await;
    assert_eq!(rig.counts().await.unwrap().dead, 3, "an order that comes later is not dead");
    assert!(matches!(orders(&rig, T0).create(&[new("set", T0)]).await.unwrap()[..], [Created::NotAnOrder]));
    assert_eq!(orders(&rig, T0).pay(&id("hash"), &Fields::default()).await.unwrap(), Verdict::NotAnOrder);
    assert_eq!(orders(&rig, T0).pay(&id("absent"), &Fields::default()).await.unwrap(), Verdict::NotFound);
}

#[tokio::test]
async fn a_deadline_of_a_settled_order_is_dropped() {
    let rig = Rig::new().await;
    created(&rig, "42", T0 + 10).await;
    orders(&rig, T0).pay(&id("42"), &Fields::default()).await.unwrap();
    rig.zadd("42", T0 + 10).await;
    assert_eq!(orders(&rig, T0 + 10).expire_due(true).await.unwrap(), 0);
    assert_eq!(order(&rig, "42").await.status, Status::Paid);
    assert_eq!(rig.counts().await.unwrap().scheduled, 0);
    assert_eq!(events(&rig).await.len(), 2);
}

#[tokio::test]
async fn only_settled_orders_carry_a_ttl() {
    let rig = Rig::new().await;
    let at = orders(&rig, T0).retain(Some(Duration::from_secs(3600)));
    for name in ["kept", "paid", "expired"] {
        at.create(&[new(name, T0 + 1000 + i64::from(name == "kept"))]).await.unwrap();
    }
    at.pay(&id("paid"), &Fields::default()).await.unwrap();
    let late = orders(&rig, T0 + 1000).retain(Some(Duration::from_secs(3600)));
    assert_eq!(late.expire_due(false).await.unwrap(), 1);
    for (name, has_ttl) in [("kept", false), ("paid", true), ("expired", true)] {
        let ttl: i64 = rig.on_key("PTTL", &format!("order:{name}"), NOTHING).await;
        assert_eq!(ttl > 0, has_ttl, "{name}: {ttl}");
    }
    let counts = late.counts().await.unwrap();
    assert_eq!((counts.paid, counts.expired), (1, 1));
    while orders(&rig, T0 + 3_700_000).retain(Some(Duration::from_secs(3600))).trim(None).await.unwrap() {}
    let counts = late.counts().await.unwrap();
    assert_eq!((counts.paid, counts.expired), (0, 0), "the lists follow");
}

#[tokio::test]
async fn what_was_settled_without_a_retention_goes_when_there_is_one() {
    let rig = Rig::new().await;
    for name in ["old", "again", "young"] {
        created(&rig, name, T0 + 1000).await;
        let at = if name == "young" { T0 + 50_000 } else { T0 };
        orders(&rig, at).pay(&id(name), &Fields::default()).await.unwrap();
    }
    // Its id was used anew since, and the place of the first order is still in the list.
    let _: i64 = rig.send(redis::cmd("DEL").arg(rig.key("order:again"))).await;
    created(&rig, "again", T0 + 900_000).await;
    while orders(&rig, T0 + 70_000).retain(Some(Duration::from_secs(60))).trim(None).await.unwrap() {}
    let held = orders(&rig, T0).get_all(&[id("old"), id("again"), id("young")]).await.unwrap();
    let statuses: Vec<_> = held.iter().map(|order| order.as_ref().map(|order| order.status)).collect();
    assert_eq!(statuses, [None, Some(Status::Created), Some(Status::Paid)]);
    assert_eq!(rig.members("paid").await, ["young"]);
}

#[tokio::test]
async fn events_are_kept_to_about_their_limit() {
    let rig = Rig::new().await;
    let all: Vec<NewOrder> = (0..3000).map(|n| new(&format!("n{n}"), T0 + 1000)).collect();
    orders(&rig, T0).create(&all).await.unwrap();
    assert_eq!(orders(&rig, T0).counts().await.unwrap().events, 3000);
    while orders(&rig, T0).trim(Some(500)).await.unwrap() {}
    let left = orders(&rig, T0).counts().await.unwrap().events;
    assert!((500..=700).contains(&left), "whole nodes of 100 entries: {left}");
    assert_eq!(orders(&rig, T0).list(Status::Created, 1, None).await.unwrap().orders.len(), 1, "orders stay");
}

#[tokio::test]
async fn an_id_that_is_no_text_expires_nobody_else_s_order() {
    let rig = Rig::new().await;
    created(&rig, "ab\u{fffd}", T0 + 1000).await;
    rig.zadd(b"ab\xff".as_slice(), T0).await;
    assert_eq!(orders(&rig, T0).expire_due(false).await.unwrap(), 0);
    assert_eq!(order(&rig, "ab\u{fffd}").await.status, Status::Created);
    assert_eq!(rig.counts().await.unwrap().dead, 1);
}

#[tokio::test]
async fn a_payload_of_the_deadline_goes_with_it() {
    let rig = Rig::new().await;
    for name in ["paid", "expired"] {
        created(&rig, name, T0 + 10).await;
        rig.put(name, T0 + 10, "left by `schedule`").await;
    }
    orders(&rig, T0).pay(&id("paid"), &Fields::default()).await.unwrap();
    orders(&rig, T0 + 10).expire_due(false).await.unwrap();
    assert_eq!(rig.payloads().await, 0);
}

#[tokio::test]
async fn nothing_expires_while_the_queue_is_paused_and_orders_can_be_paid() {
    let rig = Rig::new().await;
    for name in ["a", "b"] {
        created(&rig, name, T0 + 10).await;
    }
    rig.pause(true).await.unwrap();
    let late = orders(&rig, T0 + 500);
    assert_eq!(late.expire_due(false).await.unwrap(), 0);
    assert_eq!(one(late.pay(&id("a"), &Fields::default()).await.unwrap()).0, "done");
    rig.pause(false).await.unwrap();
    assert_eq!(late.expire_due(false).await.unwrap(), 1);
}

#[tokio::test]
async fn lists_go_page_by_page() {
    let rig = Rig::new().await;
    let all: Vec<NewOrder> = (0..600).map(|n| new(&format!("n{n:03}"), T0 + 1000 + n)).collect();
    let at = orders(&rig, T0);
    at.create(&all).await.unwrap();
    for n in 0..5 {
        orders(&rig, T0 + n).pay(&id(&format!("n{:03}", 10 - n)), &Fields::default()).await.unwrap();
    }
    let paid = at.list(Status::Paid, 100, None).await.unwrap();
    let names: Vec<&str> = paid.orders.iter().map(|order| order.id.as_str()).collect();
    assert_eq!(names, ["n010", "n009", "n008", "n007", "n006"], "in the order in which they were paid");

    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = at.list(Status::Created, 250, cursor.as_ref()).await.unwrap();
        seen.extend(page.orders.into_iter().map(|order| order.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 595);
    assert!(seen.is_sorted());
}

#[tokio::test]
async fn an_intake_takes_an_order_once_and_not_more_than_its_limit() {
    let rig = Rig::new().await;
    let at = orders(&rig, T0).intake_limit(2);
    let soon = NewOrder { due: Due::In(Duration::from_secs(60)), ..new("a", T0) };
    let accepted = Submitted::Accepted { due_at: at_ms(T0 + 60_000) };
    assert_eq!(at.submit(std::slice::from_ref(&soon)).await.unwrap(), [accepted]);
    let again = orders(&rig, T0 + 5).intake_limit(2).submit(std::slice::from_ref(&soon)).await.unwrap();
    assert_eq!(
        again,
        [Submitted::Waiting { due_at: Some(at_ms(T0 + 60_000)) }],
        "counted from the first time"
    );
    let other = NewOrder { fields: Fields::default(), ..soon.clone() };
    assert_eq!(at.submit(std::slice::from_ref(&other)).await.unwrap(), [Submitted::Conflict]);
    let bare = NewOrder { id: id("b"), ..other.clone() };
    let answers = at.submit(&[bare.clone(), bare.clone(), new("c", T0 + 1)]).await.unwrap();
    assert!(
        matches!(answers[..], [Submitted::Accepted { .. }, Submitted::Waiting { .. }, Submitted::Full]),
        "{answers:?}"
    );

    // In flight it still waits, and still counts.
    let claim = at.intake().claim(1, Duration::from_secs(10)).await.unwrap();
    assert_eq!(claim.deliveries.len(), 1);
    assert_eq!(at.submit(&[soon]).await.unwrap(), [Submitted::Waiting { due_at: Some(at_ms(T0 + 60_000)) }]);
    assert_eq!(at.submit(&[other]).await.unwrap(), [Submitted::Conflict]);
    assert_eq!(at.submit(&[new("c", T0 + 1)]).await.unwrap(), [Submitted::Full]);

    created(&rig, "d", T0 + 1).await;
    assert_eq!(
        at.submit(&[new("d", T0 + 9)]).await.unwrap(),
        [Submitted::Exists { due_at: Some(at_ms(T0 + 1)) }]
    );
    let other = NewOrder { fields: Fields::default(), ..new("d", T0) };
    assert_eq!(at.submit(&[other]).await.unwrap(), [Submitted::Conflict]);
}

/// `order_create` as any Redis client calls it, for the order 42.
async fn create_by_script(rig: &Rig, arguments: &[&str]) -> redis::RedisResult<Vec<redis::Value>> {
    let source = whole("order_create");
    let own = ["events", "paid", "cancelled", "expired", "notify:scheduled", "notify:payload", "order:42"];
    let keys: Vec<String> = PARTS[..8].iter().chain(&own).map(|part| rig.key(part)).collect();
    let mut command = redis::cmd("EVAL");
    command.arg(source).arg(keys.len()).arg(&keys).arg(T0.to_string()).arg(arguments);
    command.query_async(&mut rig.connection()).await
}

#[tokio::test]
async fn the_scripts_are_an_interface_of_their_own() {
    let rig = Rig::new().await;
    let due = (T0 + 1).to_string();
    for (arguments, word) in [
        (vec!["42", due.as_str(), "1", "status", "paid"], "status is a field of overdue"),
        (vec!["42", "1000", "0"], "deadline"),
        (vec!["", due.as_str(), "0"], "an id has"),
    ] {
        let error = create_by_script(&rig, &arguments).await.expect_err("refused").to_string();
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(rig.keys().await, [""; 0], "nothing was written");

    create_by_script(&rig, &["42", &due, "2", "sku", "x", "amount", "1"]).await.expect("created");
    let sorted = NewOrder { fields: fields(&[("amount", "1"), ("sku", "x")]), ..new("42", T0 + 1) };
    let again = orders(&rig, T0).create(&[sorted]).await.unwrap();
    assert!(matches!(again[..], [Created::Exists(_)]), "the order of the fields is of no importance");
    let shifted = NewOrder { fields: fields(&[("amount", "1"), ("sk", "ux")]), ..new("42", T0 + 1) };
    assert!(matches!(orders(&rig, T0).create(&[shifted]).await.unwrap()[..], [Created::Conflict(_)]));
}

#[tokio::test]
async fn a_full_redis_refuses_new_orders_and_still_settles_old_ones() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    for name in ["a", "b", "c"] {
        created(&rig, name, T0 + 1000).await;
    }
    rig.admin(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let at = orders(&rig, T0);
    assert_eq!(trouble(at.create(&[new("d", T0 + 1)]).await), TroubleKind::OutOfMemory);
    assert_eq!(trouble(at.submit(&[new("d", T0 + 1)]).await), TroubleKind::OutOfMemory);
    assert_eq!(one(at.pay(&id("a"), &Fields::default()).await.unwrap()).0, "done");
    assert_eq!(one(at.cancel(&id("b"), &Fields::default()).await.unwrap()).0, "done");
    assert_eq!(orders(&rig, T0 + 1000).expire_due(true).await.unwrap(), 1);
    assert_eq!(events(&rig).await.len(), 6);
}

#[tokio::test]
async fn a_key_of_the_wrong_type_is_named_and_nothing_is_changed() {
    let rig = Rig::new().await;
    created(&rig, "42", T0 + 1).await;
    let _: i64 = rig.on_key("SADD", "expired", "x").await;
    let expected =
        |error: Error| assert!(matches!(error, Error::WrongType { key, .. } if key == rig.key("expired")));
    expected(orders(&rig, T0 + 1).expire_due(false).await.expect_err("refused"));
    expected(orders(&rig, T0).pay(&id("42"), &Fields::default()).await.expect_err("refused"));
    assert_eq!(order(&rig, "42").await.status, Status::Created);
    assert_eq!(rig.members("scheduled").await, ["42"]);
}
