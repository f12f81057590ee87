//! `serve` while replies are lost and cut: nothing is lost, and no more is delivered twice than has to be.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use futures_util::future::join_all;
use overdue::{
    order::{Orders, Status},
    redis::Timeouts,
};

use super::{config, nothing_is_left};
use crate::{
    orders::new,
    support::{
        PATIENT, RedisServer, Rig, T0, eventually, many,
        process::{Place, Serve, field},
        proxy::{After, Fault, Proxy},
        receiver::{Answer, Receiver},
    },
};

const LOST: Fault = Fault::LoseReply(After::Close);
/// Each way in which a reply may fail to come, and a request.
const FAULTS: [Fault; 8] = [
    LOST,
    Fault::LoseReply(After::Silence),
    Fault::LoseRequest(After::Close),
    Fault::LoseRequest(After::Silence),
    Fault::CutReply(1),
    Fault::CutReply(20),
    Fault::CutReply(500),
    Fault::CutReply(usize::MAX),
];

/// A silence is to end soon. A busy machine may reach this limit as well, so tests with it only count on what holds
/// then too.
fn timeouts(fault: Fault) -> Timeouts {
    match fault {
        Fault::LoseReply(After::Silence) | Fault::LoseRequest(After::Silence) => {
            Timeouts { response: Duration::from_secs(1), ..PATIENT }
        }
        _ => PATIENT,
    }
}

/// Starts `serve` on a queue with what is due already, and faults that wait for it: at these passes of these verbs.
async fn serve_into(
    fault: Fault,
    at: &[(&str, usize)],
    rig: &Rig,
    handler: &str,
    more: &str,
) -> (Proxy, Serve, Place) {
    let proxy = Proxy::start(RedisServer::shared());
    for (verb, nth) in at {
        proxy.faults().nth(verb, *nth, fault);
    }
    let place = Place::new(&config(&proxy, rig, &timeouts(fault), handler, more));
    (proxy, place.serve().await, place)
}

/// How many faults have struck requests of this verb.
fn struck(proxy: &Proxy, verb: &str) -> u64 {
    let ours = |name: &str| name.split_once(':').is_some_and(|(what, of)| of == verb && what != "swallow");
    proxy.struck().iter().filter(|(name, _)| ours(name)).map(|(_, count)| count).sum()
}

/// Waits until nothing is left of so many ids, and gives their attempts as the `log` handler wrote them.
async fn attempts(serve: &Serve, rig: &Rig, count: usize) -> BTreeMap<String, Vec<u64>> {
    nothing_is_left(rig).await;
    // The last lines may still be in the pipe.
    eventually("all are in the log", async || {
        let mut attempts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for line in serve.log().iter().filter(|line| line.contains("deadline expired")) {
            let attempt = field(line, "attempt").expect("a number").parse().expect("a number");
            attempts.entry(field(line, "id").expect("an id")).or_default().push(attempt);
        }
        Some(attempts).filter(|attempts| attempts.len() == count)
    })
    .await
}

#[tokio::test]
async fn a_claim_whose_reply_is_lost_or_cut_comes_back_with_its_lease() {
    let all = FAULTS.map(|fault| async move {
        let rig = Rig::new().await;
        rig.schedule_all(&many(100)).await;
        let (proxy, serve, _place) =
            serve_into(fault, &[("claim", 1)], &rig, "log", "lease = \"1s\"\nconcurrency = 100").await;
        let attempts = attempts(&serve, &rig, 100).await;
        // One claim takes all of them. Nobody had the first one, so none was delivered by it.
        if !matches!(fault, Fault::LoseRequest(_)) {
            assert!(attempts.values().flatten().all(|attempt| *attempt > 1), "{fault:?}: {attempts:?}");
        }
        assert_eq!(struck(&proxy, "claim"), 1, "{fault:?}");
        serve.stop().await;
    });
    join_all(all).await;
}

#[tokio::test]
async fn an_ack_whose_reply_is_lost_is_no_second_delivery() {
    let all = FAULTS.map(|fault| async move {
        let rig = Rig::new().await;
        rig.schedule_all(&many(100)).await;
        let at = [("ack", 1), ("ack", 2), ("ack", 3)];
        let (proxy, serve, _place) = serve_into(fault, &at, &rig, "log", "batch_size = 20").await;
        let attempts = attempts(&serve, &rig, 100).await;
        assert!(attempts.values().all(|attempts| attempts.len() == 1), "{fault:?}: {attempts:?}");
        assert!(struck(&proxy, "ack") > 0, "{fault:?}");
        serve.stop().await;
    });
    join_all(all).await;
}

#[tokio::test]
async fn the_stream_gets_each_id_once_whatever_becomes_of_the_replies() {
    let all = FAULTS.map(|fault| async move {
        let rig = Rig::new().await;
        rig.schedule_all(&many(100)).await;
        let at = [("fire_stream", 1), ("fire_stream", 2), ("fire_stream", 4)];
        let (proxy, serve, _place) = serve_into(fault, &at, &rig, "stream", "batch_size = 30").await;
        nothing_is_left(&rig).await;
        let all_struck = async || (struck(&proxy, "fire_stream") == 3).then_some(());
        eventually("all faults have struck", all_struck).await;
        let entries: Vec<(String, BTreeMap<String, String>)> =
            rig.on_key("XRANGE", "fired", ("-", "+")).await;
        let ids: HashSet<&String> = entries.iter().map(|(_, entry)| &entry["id"]).collect();
        assert_eq!((entries.len(), ids.len()), (100, 100), "{fault:?}");
        serve.stop().await;
    });
    join_all(all).await;
}

#[tokio::test]
async fn failures_and_burials_count_once_whatever_becomes_of_the_replies() {
    let all = FAULTS.map(|fault| async move {
        for (verb, answer, calls, failures) in [("retry", 500, 3, 3), ("bury", 410, 1, 1)] {
            let rig = Rig::new().await;
            rig.schedule_all(&many(1)).await;
            let receiver = Receiver::start(&[Answer::Status(answer)]).await;
            let more = format!(
                "max_attempts = 3\nbackoff = {{ initial = \"1ms\", max = \"1ms\" }}\nhandler.url = \"{}\"",
                receiver.url()
            );
            let at = [(verb, 1), (verb, 2), (verb, 3)];
            let (proxy, serve, _place) = serve_into(fault, &at, &rig, "webhook", &more).await;
            let dead = async || rig.shown("n0").await.filter(|shown| shown.reason.is_some());
            let dead = eventually("it is dead", dead).await;
            assert_eq!((receiver.calls().len(), dead.failures), (calls, failures), "{fault:?}");
            assert!(struck(&proxy, verb) > 0, "{fault:?}");
            serve.stop().await;
        }
    });
    join_all(all).await;
}

#[tokio::test]
async fn an_id_that_could_not_be_noted_as_begun_is_given_back_and_accused_of_nothing() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(10)).await;
    // Lost with its process, as nobody knows which: from now on they are watched.
    rig.claim(10, Duration::from_millis(1)).await.unwrap();
    let at = [("begin", 1), ("begin", 2), ("release", 1), ("begin", 15), ("release", 2)];
    // A connection that closes takes along what else was on its way, and a claim comes back with its lease then.
    let (proxy, serve, _place) = serve_into(LOST, &at, &rig, "log", "lease = \"5s\"").await;
    let attempts = attempts(&serve, &rig, 10).await;
    assert!(attempts.values().all(|attempts| attempts.len() == 1), "{attempts:?}");
    assert!(proxy.faults().count("lose_reply:begin") > 0, "{:?}", proxy.struck());
    serve.stop().await;
}

#[tokio::test]
async fn orders_are_created_and_expire_once_whatever_becomes_of_the_replies() {
    let verbs = ["claim", "order_create", "ack", "order_expire"];
    let faults = [LOST, Fault::LoseReply(After::Silence), Fault::CutReply(20)];
    let all = verbs.iter().flat_map(|verb| faults.map(|fault| (*verb, fault)));
    let all = all.map(async |(verb, fault)| {
        let rig = Rig::new().await;
        let orders = Orders::new((*rig).clone());
        // Due already, so that each is created and expires as soon as somebody looks.
        orders.submit(&(0..150).map(|n| new(&format!("n{n}"), T0)).collect::<Vec<_>>()).await.unwrap();
        let (proxy, serve, _place) = serve_into(fault, &[(verb, 1)], &rig, "order", "lease = \"1s\"").await;
        eventually("all expire", async || (orders.counts().await.ok()?.expired == 150).then_some(())).await;
        eventually("it is struck", async || (struck(&proxy, verb) > 0).then_some(())).await;
        let mut told: BTreeMap<(String, &str), usize> = BTreeMap::new();
        for event in orders.events(None, 1000).await.unwrap().events {
            let what = if event.r#type == Status::Expired { "expired" } else { "created" };
            *told.entry((event.id, what)).or_default() += 1;
        }
        assert!(told.len() == 300 && told.values().all(|count| *count == 1), "{verb} {fault:?}: {told:?}");
        serve.stop().await;
    });
    join_all(all).await;
}

#[tokio::test]
async fn stalls_and_a_slow_network_lose_nothing() {
    // Shorter than the timeout, longer than it, and a long way.
    let all = [(200, 0), (2500, 0), (0, 30)].map(|(stall_ms, delay_ms)| async move {
        let rig = Rig::new().await;
        rig.schedule_all(&many(100)).await;
        let proxy = Proxy::start(RedisServer::shared());
        let timeouts = timeouts(Fault::LoseReply(After::Silence));
        let more = "batch_size = 20\nconcurrency = 20\nlease = \"3s\"";
        let place = Place::new(&config(&proxy, &rig, &timeouts, "log", more));
        proxy.faults().delay(Duration::from_millis(delay_ms));
        let serve = place.serve().await;
        eventually("it is at work", async || (!serve.expired().is_empty()).then_some(())).await;
        proxy.faults().stall(Duration::from_millis(stall_ms));
        attempts(&serve, &rig, 100).await;
        let what = if delay_ms > 0 { "delay" } else { "stall" };
        eventually("it has struck", async || (proxy.faults().count(what) > 0).then_some(())).await;
        serve.stop().await;
    });
    join_all(all).await;
}
