//! Every order verb against every reply; see the same of the queue verbs.

use std::time::Duration;

use redis::Value;

use super::*;
use crate::{
    queue::{Candidate, Takeover},
    redis::lying::{Liar, bulk, ints},
    types::{DueAt, Id, QueueName},
};

const MS: std::ops::Range<i64> = DueAt::MIN_MS..DueAt::MAX_MS;
const MINUTE: Duration = Duration::from_secs(60);

fn set_up() -> (Liar, Orders) {
    let liar = Liar::start();
    let queue = Queue::new(liar.redis.clone(), "overdue", QueueName::new("orders").unwrap());
    (liar, Orders::new(queue).retain(Some(MINUTE)))
}

fn id() -> Id {
    Id::new("42").unwrap()
}

fn new_orders() -> Vec<NewOrder> {
    let fields = || Fields::new([("amount", "100.00")]).unwrap();
    ["1", "2"].map(|id| NewOrder { id: Id::new(id).unwrap(), due: Due::In(MINUTE), fields: fields() }).into()
}

fn int(range: std::ops::Range<i64>) -> impl Strategy<Value = Value> + Clone {
    range.prop_map(Value::Int)
}

/// A hash as it is kept, or nothing.
fn hash() -> impl Strategy<Value = Value> + Clone {
    let status =
        prop_oneof![8 => select(&["created", "paid", "cancelled", "expired"][..]), 1 => Just("lost")];
    let full = (status, MS, bytes(2)).prop_map(|(status, ms, note)| {
        let pairs = [
            bulk("status"),
            bulk(status),
            bulk("created_at"),
            bulk(ms.to_string()),
            bulk("note"),
            bulk(note),
        ];
        Value::Array(pairs.into())
    });
    prop_oneof![3 => full, 1 => Just(Value::Array(Vec::new()))]
}

fn items(
    head: usize,
    item: impl Strategy<Value = Vec<Value>> + 'static,
    count: usize,
) -> BoxedStrategy<Value> {
    (vec(int(MS), head), vec(item, count))
        .prop_map(|(head, items)| Value::Array(head.into_iter().chain(items.into_iter().flatten()).collect()))
        .boxed()
}

/// Code, a word or nil, now, the order, and the deadline before.
fn verdict() -> BoxedStrategy<Value> {
    let word = prop_oneof![Just(Value::Nil), bytes(1).prop_map(bulk)];
    (int(0..7), word, int(MS), hash(), int(MS))
        .prop_map(|(code, word, now, order, old)| Value::Array(vec![code, word, now, order, old]))
        .boxed()
}

fn check(order: &Order) {
    assert_eq!(order.queue.as_str(), "orders");
    serde_json::to_string(order).expect("a JSON form");
}

#[test]
fn the_verbs_that_make_orders() {
    let (liar, orders) = set_up();
    let created = (int(0..6), int(MS), hash()).prop_map(|(code, due, order)| vec![code, due, order]);
    let create = async || orders.create(&new_orders()).await;
    liar.tell(&["order_create"], &[items(1, created, 2)], create, |answers| {
        assert_eq!(answers.len(), 2);
        for answer in answers {
            match answer {
                Created::Created(order) | Created::Exists(order) | Created::Conflict(order) => check(&order),
                Created::NotAnOrder => {}
            }
        }
    });
    let submitted = (int(0..7), int(MS)).prop_map(|(code, due)| vec![code, due]);
    let submit = async || orders.submit(&new_orders()).await;
    liar.tell(&["order_submit"], &[items(1, submitted, 2)], submit, |answers| assert_eq!(answers.len(), 2));
}

#[test]
fn the_verbs_that_end_and_move_orders() {
    let (liar, orders) = set_up();
    let details = Fields::default();
    liar.tell(
        &["order_pay"],
        &[verdict()],
        async || orders.pay(&id(), &details).await,
        |verdict| match verdict {
            Verdict::Done(order) | Verdict::Already(order) | Verdict::TooLate(order) => check(&order),
            Verdict::Conflict { order, .. } => check(&order),
            Verdict::NotFound | Verdict::NotAnOrder => {}
        },
    );
    liar.tell(&["order_cancel"], &[verdict()], async || orders.cancel(&id(), &details).await, drop);
    let extend = async || orders.extend(&id(), Extension::By(MINUTE)).await;
    liar.tell(&["order_extend"], &[verdict()], extend, drop);
}

fn expired() -> BoxedStrategy<Value> {
    let next = prop_oneof![Just(Value::Nil), MS.prop_map(|ms| bulk(ms.to_string()))];
    let upcoming = vec(bytes(1).prop_map(bulk), 0..4).prop_map(Value::Array);
    (vec(int(0..4), 4), next, int(0..4), int(0..2), int(MS), upcoming)
        .prop_map(|(mut numbers, next, impossible, more, earliest, upcoming)| {
            numbers.extend([next, impossible, more, earliest, upcoming]);
            Value::Array(numbers)
        })
        .boxed()
}

#[test]
fn the_verbs_that_expire_and_trim_orders() {
    let (liar, orders) = set_up();
    let expire_due = async || orders.expire_due(true).await;
    liar.tell(&["order_expire"], &[expired(), expired(), expired()], expire_due, drop);
    let listed = items(
        1,
        vec(vec(bytes(1).prop_map(bulk), 2), 1..3).prop_map(|rows| vec![Value::Array(rows.concat())]),
        1,
    );
    let forms =
        [listed.clone(), int(0..3).boxed(), listed.clone(), int(0..3).boxed(), listed, int(0..3).boxed()];
    liar.tell(&["order_list", "order_trim"], &forms, async || orders.trim(None).await, drop);
}

#[test]
fn the_verbs_of_those_who_look_at_orders() {
    let (liar, orders) = set_up();
    let got = (int(MS), hash()).prop_map(|(due, order)| vec![due, order]);
    let get = async || orders.get_all(&[id(), id()]).await;
    liar.tell(&["order_get"], &[items(0, got.clone(), 2)], get, |found| {
        assert_eq!(found.len(), 2);
        found.iter().flatten().for_each(check);
    });
    let rows = vec(vec(prop_oneof![Just(bulk("7")), bytes(1).prop_map(bulk)], 2), 1..3);
    let listed =
        (int(0..2), rows).prop_map(|(more, rows)| Value::Array(vec![more, Value::Array(rows.concat())]));
    let list = async || orders.list(Status::Paid, 10, None).await;
    liar.tell(&["order_list", "order_get"], &[listed.boxed(), items(0, got, 2)], list, |page| {
        assert!(page.orders.iter().all(|order| order.status == Status::Paid));
    });
    liar.tell(
        &["order_counts"],
        &[vec(int(0..9), 4).prop_map(Value::Array).boxed()],
        async || orders.counts().await,
        drop,
    );
}

#[test]
fn events_have_ids_of_redis_and_of_orders() {
    let (liar, orders) = set_up();
    let pairs = (select(&["paid", "lost"][..]), prop_oneof![Just(b"42".to_vec()), bytes(1)], MS).prop_map(
        |(kind, id, ms)| {
            let pairs = [bulk("type"), bulk(kind), bulk("id"), bulk(id), bulk("at"), bulk(ms.to_string())];
            Value::Array(pairs.into())
        },
    );
    let entry = ("[0-9]{13}-[0-9]", pairs).prop_map(|(id, pairs)| Value::Array(vec![bulk(id), pairs]));
    let entries = vec(entry, 0..3).prop_map(Value::Array).boxed();
    liar.tell(
        &["XRANGE"],
        std::slice::from_ref(&entries),
        async || orders.events(None, 10).await,
        |page| {
            assert!(page.last.iter().all(|id| is_event_id(id)));
            for event in page.events {
                assert!(is_event_id(&event.event_id) && Id::new(&event.id).is_ok(), "{event:?}");
            }
        },
    );
    liar.tell(
        &["XREVRANGE"],
        &[entries],
        async || orders.last_event().await,
        |id| {
            assert!(id.iter().all(|id| is_event_id(id)));
        },
    );
}

#[test]
fn foreign_keys_that_become_orders() {
    let (liar, orders) = set_up();
    let candidates = ["a", "b"].map(|key| Candidate { key: key.to_owned(), id: Id::new(key).unwrap() });
    let source = (prop_oneof![int(-4..0), int(MS)], bytes(1), hash());
    let sources = items(0, source.prop_map(|(expiry, digest, hash)| vec![expiry, bulk(digest), hash]), 2);
    let adopted =
        vec((0..9i64, MS), 0..3).prop_map(|codes| ints(codes.into_iter().flat_map(|(a, b)| [a, b]))).boxed();
    let forms = [sources.clone(), adopted.clone(), sources, adopted];
    let adopt = async || orders.adopt(&candidates, &Renames::default(), Takeover::Move).await;
    liar.tell(&["order_source", "order_adopt"], &forms, adopt, |answers| assert_eq!(answers.len(), 2));
}
