//! Calls without an answer: the caller cannot know whether they ran, may repeat them, and is told what holds.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use overdue::{
    error::{Error, Result, Trouble, TroubleKind},
    order::{Extended, Extension, Fields, Orders},
    queue::{Due, Expected, Lease, Mode, Queue, Sink, SinkKind},
    redis::Timeouts,
};

use super::through_with;
use crate::{
    orders::new,
    support::{
        LEASE, LEASE_MS, NOTHING, PATIENT, RedisServer, Rig, STREAM, T0, due, eventually, id, names,
        proxy::{After, Fault, Proxy},
        registration, rejected, retry_of,
    },
};

/// When the calls are made, in virtual time.
const NOW: i64 = T0 + 1000;

/// Every verb that changes something, and a word of what it answers when it is repeated after it ran.
const VERBS: [(&str, &str); 23] = [
    ("schedule", "Replaced"),
    ("reschedule", "Moved"),
    ("cancel", "NotFound"),
    ("claim", "[]"),
    ("fire_stream", "0"),
    ("fire_list", "0"),
    ("begin", "Done"),
    ("ack", "Stale"),
    ("retry", "Stale"),
    ("release", "Stale"),
    ("bury", "Stale"),
    ("extend", "Done"),
    ("reject", "0"),
    ("retry_dead", "Stale"),
    ("delete_dead", "Stale"),
    ("trim_dead", "0"),
    ("pause", "false"),
    ("order_create", "Exists"),
    ("order_submit", "Waiting"),
    ("order_pay", "Already"),
    ("order_cancel", "Already"),
    ("order_extend", "Moved"),
    ("order_expire", "0"),
];

/// Something for the verb to change; gives the lease of `leased`, whose first delivery was lost.
async fn furnish(rig: &Rig, verb: &str) -> Lease {
    if verb.starts_with("order_") {
        let orders = Orders::new(rig.when(T0));
        orders.create(&[new("due", NOW), new("later", T0 + 60_000)]).await.expect("created");
        return Lease { id: id("due"), token: overdue::Token::new(1) };
    }
    rig.put("leased", T0 - LEASE_MS, "p").await;
    rig.when(T0 - LEASE_MS).claim(1, LEASE).await.expect("claimed");
    let lease = rig.claim_one(T0).await.lease();
    rig.buried("dead", "p").await;
    rig.put("due", NOW, "p").await;
    rig.put("scheduled", T0 + 60_000, "p").await;
    rig.zadd("seconds", 1_767_225_600).await;
    lease
}

/// Calls the verb on what was furnished, and answers in words.
async fn call(queue: &Queue, verb: &str, lease: &Lease) -> Result<String> {
    fn words(answer: impl Debug) -> String {
        format!("{answer:?}")
    }
    let (held, orders) = (std::slice::from_ref(lease), Orders::new(queue.clone()));
    let later = due(T0 + 90_000);
    Ok(match verb {
        "schedule" => {
            let one = [registration("scheduled", T0 + 90_000, "q")];
            words(queue.schedule(&one, Mode::Replace, Expected::Anything).await?)
        }
        "reschedule" => words(queue.reschedule(&id("scheduled"), later, Expected::Anything).await?),
        "cancel" => words(queue.cancel(&[id("scheduled")]).await?),
        "claim" => words(names(&queue.claim(10, LEASE).await?.deliveries)),
        "fire_stream" => words(queue.fire(STREAM, 10, None).await?.count),
        "fire_list" => {
            let list = Sink { kind: SinkKind::List, max_len: None };
            words(queue.fire(list, 10, None).await?.count)
        }
        "begin" => words(queue.begin(lease).await?),
        "ack" => words(queue.ack(held).await?),
        "retry" => words(queue.retry(&[retry_of(lease, 5000)], 9).await?),
        "release" => words(queue.release(held).await?),
        "bury" => words(queue.bury(&[rejected(lease)]).await?),
        "extend" => words(queue.extend(&[lease.token], LEASE * 2).await?),
        "reject" => words(queue.reject().await?),
        "retry_dead" => words(queue.retry_dead(&[id("dead")]).await?),
        "delete_dead" => words(queue.delete_dead(&[id("dead")]).await?),
        "trim_dead" => words(queue.trim_dead(Duration::from_millis(1)).await?),
        "pause" => words(queue.pause(true).await?),
        "order_create" => words(orders.create(&[new("new", T0 + 60_000)]).await?),
        "order_submit" => words(orders.submit(&[new("new", T0 + 60_000)]).await?),
        "order_pay" => words(orders.pay(&id("later"), &Fields::default()).await?),
        "order_cancel" => words(orders.cancel(&id("later"), &Fields::default()).await?),
        "order_extend" => words(orders.extend(&id("later"), Extension::To(later)).await?),
        "order_expire" => words(orders.expire_due(true).await?),
        other => panic!("no call of {other}"),
    })
}

/// All that Redis holds of the queue, key by key: of streams the values, since their ids are the time.
type State = BTreeMap<String, Vec<String>>;

async fn state(rig: &Rig) -> State {
    let mut state = BTreeMap::new();
    for part in rig.keys().await {
        let kind: String = rig.on_key("TYPE", &part, NOTHING).await;
        let content = match kind.as_str() {
            "zset" => rig.on_key("ZRANGE", &part, ("0", "-1", "WITHSCORES")).await,
            "hash" => {
                let pairs: BTreeMap<String, Vec<u8>> = rig.on_key("HGETALL", &part, NOTHING).await;
                pairs.into_iter().map(|(name, value)| format!("{name}={}", readable(value))).collect()
            }
            "list" => rig.on_key("LRANGE", &part, (0, -1)).await,
            "stream" => {
                let entries: Vec<(String, Vec<String>)> = rig.on_key("XRANGE", &part, ("-", "+")).await;
                entries.into_iter().flat_map(|(_, values)| values).collect()
            }
            other => panic!("{part} is a {other}"),
        };
        state.insert(part, content);
    }
    state
}

/// Lua writes the members of an object in any order.
fn readable(value: Vec<u8>) -> String {
    let json = serde_json::from_slice::<serde_json::Value>(&value);
    json.map_or_else(|_| format!("{value:?}"), |json| json.to_string())
}

/// What one call answers that nothing disturbs, and what it leaves.
async fn undisturbed(verb: &str) -> (String, State) {
    let rig = Rig::new().await;
    let lease = furnish(&rig, verb).await;
    let answer = call(&rig.when(NOW), verb, &lease).await.expect("nothing disturbs it");
    (answer.replace(rig.name().as_str(), "q"), state(&rig).await)
}

async fn is_called_once(verb: &str, fault: Fault, again: &str) {
    let (answer, expected) = undisturbed(verb).await;
    let rig = Rig::new().await;
    let lease = furnish(&rig, verb).await;
    let proxy = Proxy::start(RedisServer::shared());
    let is_silent = matches!(fault, Fault::LoseReply(After::Silence) | Fault::LoseRequest(After::Silence));
    let timeouts =
        if is_silent { Timeouts { response: Duration::from_millis(250), ..PATIENT } } else { PATIENT };
    let queue = through_with(&proxy, &rig, timeouts).at(overdue::ServerTime::from_ms(NOW));
    // Its first call only learns the names of what is due.
    proxy.faults().nth(verb, if verb == "order_expire" { 2 } else { 1 }, fault);

    let unknown = call(&queue, verb, &lease).await;
    let kind = if is_silent { TroubleKind::Timeout } else { TroubleKind::Unreachable };
    match unknown {
        Err(Error::Redis(Trouble { kind: found, .. })) => assert_eq!(found, kind, "{verb}, {fault:?}"),
        other => panic!("{verb}, {fault:?}: {other:?}"),
    }
    // A busy machine may lose further calls to so short a timeout, before or after they ran.
    let repeat = async || {
        let answer = call(&queue, verb, &lease).await;
        if is_silent { answer.ok() } else { Some(answer.expect("the next call has a new connection")) }
    };
    let repeated = eventually("the next call works", repeat).await.replace(rig.name().as_str(), "q");
    let ran = !matches!(fault, Fault::LoseRequest(_));
    if ran {
        assert!(repeated.contains(again), "{verb} after {fault:?} says {repeated}");
    } else if !is_silent {
        assert_eq!(repeated, answer, "{verb} after {fault:?}");
    }
    assert_eq!(state(&rig).await, expected, "{verb} after {fault:?} is as if it was called once");
    assert!(proxy.struck().values().sum::<u64>() >= 1, "{verb}: {:?}", proxy.struck());
}

async fn all_are_called_once(fault: Fault) {
    for (verb, again) in VERBS {
        is_called_once(verb, fault, again).await;
    }
}

#[tokio::test]
async fn a_call_whose_reply_is_lost_has_run_once_however_often_it_is_repeated() {
    all_are_called_once(Fault::LoseReply(After::Close)).await;
}

#[tokio::test]
async fn a_call_whose_reply_is_cut_short_has_run_once() {
    for bytes in [0, 1, 3] {
        all_are_called_once(Fault::CutReply(bytes)).await;
    }
}

#[tokio::test]
async fn a_call_that_is_lost_on_its_way_has_not_run() {
    all_are_called_once(Fault::LoseRequest(After::Close)).await;
}

#[tokio::test]
async fn silence_is_a_timeout_and_the_next_call_has_another_connection() {
    let all = VERBS.map(|(verb, again)| async move {
        is_called_once(verb, Fault::LoseReply(After::Silence), again).await;
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn what_cannot_be_said_again_blindly() {
    let rig = Rig::new().await;
    let proxy = Proxy::start(RedisServer::shared());
    let queue = through_with(&proxy, &rig, PATIENT).at(overdue::ServerTime::from_ms(NOW));
    let lost = Fault::LoseReply(After::Close);
    let one = [registration("a", NOW, "")];
    proxy.faults().next("schedule", lost);
    queue.schedule(&one, Mode::Replace, Expected::Anything).await.unwrap_err();
    assert_eq!(queue.fire(STREAM, 10, None).await.unwrap().count, 1);
    queue.schedule(&one, Mode::Replace, Expected::Anything).await.unwrap();
    assert_eq!(queue.fire(STREAM, 10, None).await.unwrap().count, 1, "another registration");

    let orders = Orders::new(queue);
    orders.create(&[new("o", T0 + 10_000)]).await.unwrap();
    let by = Extension::By(Duration::from_secs(1));
    proxy.faults().next("order_extend", lost);
    orders.extend(&id("o"), by).await.unwrap_err();
    let Extended::Moved { order, .. } = orders.extend(&id("o"), by).await.unwrap() else { panic!("moved") };
    assert_eq!(Due::At(order.due_at.unwrap()), due(T0 + 12_000), "twice");
}

#[tokio::test]
async fn ids_of_a_claim_that_nobody_got_come_back_with_its_lease_and_no_sooner() {
    let rig = Rig::new().await;
    let all: Vec<_> = (0..100).map(|n| registration(&format!("n{n}"), T0, "p")).collect();
    rig.schedule_all(&all).await;
    let proxy = Proxy::start(RedisServer::shared());
    let at = |ms: i64| through_with(&proxy, &rig, PATIENT).at(overdue::ServerTime::from_ms(ms));
    // Some bytes, some whole deliveries, all but the last byte.
    let cuts = [0, 1, 10, 100, 1000, 2000, 3000, usize::MAX];
    for (lost, bytes) in (0..).zip(cuts) {
        proxy.faults().next("claim", Fault::CutReply(bytes));
        let now_ms = T0 + lost * LEASE_MS;
        at(now_ms).claim(1000, LEASE).await.unwrap_err();
        assert_eq!(rig.claimed(now_ms + LEASE_MS - 1).await, Vec::<String>::new(), "cut after {bytes}");
    }
    let after_all = T0 + cuts.len() as i64 * LEASE_MS;
    let claim = at(after_all).claim(1000, LEASE).await.unwrap();
    assert_eq!(claim.deliveries.len(), all.len());
    for delivery in &claim.deliveries {
        let found = (delivery.attempt, delivery.failures, delivery.kills, delivery.due_at.as_ms());
        // Lost deliveries are counted apart: they spend no attempt and accuse nobody.
        assert_eq!(found, (1 + cuts.len() as u32, 0, 0, T0));
        assert!(delivery.payload.is_some());
    }
    assert_eq!(proxy.faults().count("cut_reply:claim"), cuts.len() as u64);
}
