//! The proxy itself: it finds where values end, and its faults strike what they say and nothing else.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use redis::{AsyncConnectionConfig, RedisResult, aio::MultiplexedConnection, cmd};

use crate::support::{
    LIMIT, RedisServer, Rig, T0, connect, eventually,
    proxy::{
        ANY, After, Door, Fault, Proxy,
        resp::{Framer, words},
    },
};

/// Some value, as bytes.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let text = "[ -~äö]{0,40}";
    let line = (prop::sample::select(b"+-:_#,(".to_vec()), text).prop_map(|(kind, text)| {
        let mut bytes = vec![kind];
        bytes.extend(text.into_bytes());
        bytes.extend(b"\r\n");
        bytes
    });
    // Blobs hold what looks like the end of lines, and other values.
    let content = prop::collection::vec(prop::sample::select(b"\r\n$*1a\0".to_vec()), 0..100);
    let blob = (prop::sample::select(b"$!=".to_vec()), content).prop_map(|(kind, content)| {
        let mut bytes = vec![kind];
        bytes.extend(format!("{}\r\n", content.len()).into_bytes());
        bytes.extend(content);
        bytes.extend(b"\r\n");
        bytes
    });
    let nil = prop::sample::select(vec![b"$-1\r\n".to_vec(), b"*-1\r\n".to_vec()]);
    prop_oneof![line, blob, nil].prop_recursive(5, 40, 6, |inner| {
        let kinds =
            prop::sample::select(vec![(b'*', 1, 0), (b'~', 1, 0), (b'>', 1, 0), (b'%', 2, 0), (b'|', 2, 1)]);
        (kinds, prop::collection::vec(inner, 0..8)).prop_map(|((kind, per_unit, further), values)| {
            // An attribute takes one value more than it counts, and a map two for one.
            let values = if values.len() < further { vec![b":1\r\n".to_vec()] } else { values };
            let units = (values.len() - further) / per_unit;
            let mut bytes = vec![kind];
            bytes.extend(format!("{units}\r\n").into_bytes());
            bytes.extend(values.into_iter().take(units * per_unit + further).flatten());
            bytes
        })
    })
}

fn frames(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let (mut framer, mut found, mut frame, mut begin) = (Framer::default(), Vec::new(), Vec::new(), 0);
    for end in ends {
        let mut part = &bytes[begin..end];
        begin = end;
        while !part.is_empty() {
            let (taken, is_over) = framer.scan(part).expect("RESP");
            frame.extend(&part[..taken]);
            part = &part[taken..];
            if is_over {
                found.push(std::mem::take(&mut frame));
            }
        }
    }
    assert!(frame.is_empty(), "something is left");
    found
}

proptest! {
    #[test]
    fn values_are_found_however_they_are_split(
        values in prop::collection::vec(value(), 1..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        prop_assert_eq!(frames(&values.concat(), &cuts), values);
    }

    #[test]
    fn every_byte_may_come_alone(value in value()) {
        let mut framer = Framer::default();
        let ends: Vec<usize> = (0..value.len())
            .filter(|at| framer.scan(&value[*at..=*at]).expect("RESP") == (1, true))
            .collect();
        prop_assert_eq!(ends, [value.len() - 1]);
    }

    #[test]
    fn the_words_of_a_request_are_read(sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..6)) {
        let request = cmd("EVALSHA").arg(&sent).get_packed_command();
        let read = words(&request, 3);
        prop_assert_eq!(read[0], b"EVALSHA");
        let expected: Vec<&[u8]> = sent.iter().take(2).map(Vec::as_slice).collect();
        prop_assert_eq!(&read[1..], expected);
        prop_assert_eq!(words(&request[..request.len() / 2], 9).len() < sent.len() + 1, true);
    }
}

#[test]
fn what_is_no_resp_is_refused() {
    for bytes in ["GET a\r\n", "\r\n", "$x\r\n", "*1e3\r\n", &"*1\r\n".repeat(100)] {
        Framer::default().scan(bytes.as_bytes()).unwrap_err();
    }
    assert_eq!(words(b"+OK\r\n", 3), Vec::<&[u8]>::new());
}

/// A proxy in front of a server that others use too: keys are the test's own.
fn proxy() -> Proxy {
    Proxy::start(RedisServer::shared())
}

/// A connection for calls that are to get no answer.
async fn impatient(proxy: &Proxy) -> MultiplexedConnection {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(LIMIT))
        .set_response_timeout(Some(Duration::from_millis(200)));
    let client = redis::Client::open(proxy.root_url()).unwrap();
    client.get_multiplexed_async_connection_with_config(&config).await.expect("the proxy listens")
}

async fn incr(connection: &mut MultiplexedConnection, key: &str) -> RedisResult<i64> {
    cmd("INCR").arg(key).query_async(connection).await
}

/// What Redis holds, seen past the proxy.
async fn held(key: &str) -> i64 {
    let mut direct = connect(&RedisServer::shared().root_url()).await.unwrap();
    let held: Option<i64> = cmd("GET").arg(key).query_async(&mut direct).await.unwrap();
    held.unwrap_or(0)
}

#[tokio::test]
async fn what_comes_through_is_what_was_sent() {
    for protocol in ["resp2", "resp3"] {
        let proxy = proxy();
        let mut connection = connect(&format!("{}?protocol={protocol}", proxy.root_url())).await.unwrap();
        let key = format!("through-{protocol}");
        let large = "x".repeat(3 << 20);
        let mut pipeline = redis::pipe();
        for n in 0..2000 {
            pipeline.cmd("HSET").arg(&key).arg(n).arg("\r\n$-1\r\n").ignore();
        }
        pipeline.cmd("HSET").arg(&key).arg("large").arg(&large).ignore();
        pipeline.cmd("HGETALL").arg(&key).cmd("ECHO").arg("end");
        let (all, end): (Vec<(String, String)>, String) =
            pipeline.query_async(&mut connection).await.unwrap();
        assert_eq!((all.len(), end.as_str()), (2001, "end"));
        assert!(all.iter().all(|(name, value)| if name == "large" {
            *value == large
        } else {
            value == "\r\n$-1\r\n"
        }));
        assert_eq!((proxy.faults().passed("hset"), proxy.struck().len()), (2001, 0));
        let failed: RedisResult<()> = cmd("HGET").query_async(&mut connection).await;
        assert!(failed.unwrap_err().to_string().contains("wrong number of arguments"));
    }
}

#[tokio::test]
async fn scripts_go_by_the_names_of_their_verbs() {
    let proxy = proxy();
    let rig = Rig::new().await;
    let through = super::through(&proxy, &rig);
    rig.put("a", T0, "").await;
    let claim = through.claim(1, Duration::from_secs(1)).await.unwrap();
    through.ack(&crate::support::leases(&claim)).await.unwrap();
    overdue::order::Orders::new(through).counts().await.unwrap();
    let passed = ["claim", "ack", "order_counts"].map(|verb| proxy.faults().passed(verb) > 0);
    assert_eq!(passed, [true; 3]);
    assert_eq!(proxy.faults().passed("evalsha"), 0);
}

#[tokio::test]
async fn one_fault_strikes_one_request_and_only_its_own() {
    for (name, fault, runs) in [
        ("lose_request", Fault::LoseRequest(After::Close), false),
        ("lose_reply", Fault::LoseReply(After::Close), true),
        ("cut_reply", Fault::CutReply(0), true),
        ("cut_reply", Fault::CutReply(2), true),
        ("cut_reply", Fault::CutReply(1000), true),
    ] {
        let proxy = proxy();
        let key = format!("one-{fault:?}");
        proxy.faults().nth("incr", 2, fault);
        let mut connection = connect(&proxy.root_url()).await.unwrap();
        let _: String = cmd("PING").query_async(&mut connection).await.unwrap();
        assert_eq!(incr(&mut connection, &key).await.unwrap(), 1);
        let error = incr(&mut connection, &key).await.unwrap_err();
        assert!(error.is_unrecoverable_error() && !error.is_timeout(), "{error}");
        assert_eq!(held(&key).await, 1 + i64::from(runs), "{fault:?}");
        assert_eq!(proxy.struck().into_iter().collect::<Vec<_>>(), [(format!("{name}:incr"), 1)]);

        let mut next = connect(&proxy.root_url()).await.unwrap();
        assert_eq!(incr(&mut next, &key).await.unwrap(), 2 + i64::from(runs));
        assert_eq!((proxy.faults().count(name), proxy.faults().passed("incr")), (1, 2));
    }
}

#[tokio::test]
async fn behind_a_lost_reply_nothing_comes_through() {
    for fault in [Fault::LoseReply(After::Close), Fault::LoseRequest(After::Close), Fault::CutReply(0)] {
        let proxy = proxy();
        proxy.faults().nth("echo", 500, fault);
        let mut connection = connect(&proxy.root_url()).await.unwrap();
        let echoes = (0..1000).map(|n| {
            let mut connection = connection.clone();
            async move { cmd("ECHO").arg(n).query_async::<i64>(&mut connection).await }
        });
        let echoes = (0..).zip(futures_util::future::join_all(echoes).await);
        let answered: Vec<(i64, i64)> = echoes.filter_map(|(n, echo)| Some((n, echo.ok()?))).collect();
        // An answer that had moved up by one would be that of another.
        assert!(answered.iter().all(|(n, echo)| n == echo), "{answered:?} after {fault:?}");
        // Not all are sent in the order of their numbers, so it is counted. A reset may take along earlier ones.
        assert!(answered.len() < 500, "{} came through after {fault:?}", answered.len());
        cmd("PING").query_async::<()>(&mut connection).await.unwrap_err();
    }
}

#[tokio::test]
async fn silence_swallows_all_that_follows_on_its_connection() {
    for (fault, runs) in [(Fault::LoseRequest(After::Silence), 0), (Fault::LoseReply(After::Silence), 1)] {
        let proxy = proxy();
        let key = format!("silence-{fault:?}");
        let mut connection = impatient(&proxy).await;
        proxy.faults().next(ANY, fault);
        for _ in 0..2 {
            assert!(incr(&mut connection, &key).await.unwrap_err().is_timeout());
        }
        // Before that the first one may still be on its way, and the second one after it.
        eventually("the second one is swallowed", async || {
            (proxy.faults().count("swallow:incr") == 1).then_some(())
        })
        .await;
        let struck = async || (proxy.struck().len() == 2).then_some(());
        eventually("the first one is struck", struck).await;
        assert_eq!(held(&key).await, runs);
        assert_eq!(incr(&mut connect(&proxy.root_url()).await.unwrap(), &key).await.unwrap(), runs + 1);
    }
}

#[tokio::test]
async fn half_open_connections_stay_silent_and_the_door_decides_for_new_ones() {
    let proxy = proxy();
    let faults = proxy.faults();
    let mut old = impatient(&proxy).await;
    faults.half_open(Door::Open);
    assert!(incr(&mut old, "half-open").await.unwrap_err().is_timeout());
    let mut new = impatient(&proxy).await;
    eventually("a new one works", async || incr(&mut new, "half-open").await.ok()).await;

    faults.half_open(Door::Hang);
    let client = redis::Client::open(proxy.root_url()).unwrap();
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(Duration::from_millis(200)));
    let refused = async || client.get_multiplexed_async_connection_with_config(&config).await.map(drop);
    refused().await.unwrap_err();
    assert!(faults.count("hang") >= 1);
    faults.door(Door::Refuse);
    refused().await.unwrap_err();
    assert!(faults.count("refuse") >= 1 && faults.count("half_open") >= 2);

    faults.heal();
    let mut healed = connect(&proxy.root_url()).await.unwrap();
    incr(&mut healed, "half-open").await.unwrap();
    assert!(incr(&mut old, "half-open").await.unwrap_err().is_timeout(), "for ever");
    faults.close_all();
    incr(&mut healed, "half-open").await.unwrap_err();
}

#[tokio::test]
async fn stalls_and_delays_hold_replies_back_and_let_them_go_in_order() {
    const TIME: Duration = Duration::from_millis(120);
    let proxy = proxy();
    let mut connection = connect(&proxy.root_url()).await.unwrap();
    let switches: [(&str, &dyn Fn()); 3] = [
        ("stall", &|| proxy.faults().stall(TIME)),
        ("delay", &|| proxy.faults().delay(TIME)),
        ("late", &|| proxy.faults().next("echo", Fault::Late(TIME))),
    ];
    for (name, switch_on) in switches {
        let begun = Instant::now();
        switch_on();
        let mut pipeline = redis::pipe();
        for n in 0..10 {
            pipeline.cmd("ECHO").arg(n);
        }
        let echoes: Vec<i64> = pipeline.query_async(&mut connection).await.unwrap();
        assert_eq!(echoes, (0..10).collect::<Vec<_>>());
        assert!(begun.elapsed() >= TIME && proxy.faults().count(name) >= 1, "{name}");
        proxy.faults().heal();
    }
}

#[tokio::test]
async fn a_storm_is_made_of_all_faults() {
    let proxy = proxy();
    proxy.faults().storm(7, 0.5);
    let names = ["lose_request", "lose_reply", "cut_reply", "late"];
    eventually("each has struck", async || {
        // Handshakes are struck as well.
        if let Ok(mut connection) =
            redis::Client::open(proxy.root_url()).unwrap().get_multiplexed_async_connection().await
        {
            while incr(&mut connection, "storm").await.is_ok() {}
        }
        names.iter().all(|name| proxy.faults().count(name) > 0).then_some(())
    })
    .await;
    proxy.faults().heal();
    let mut calm = connect(&proxy.root_url()).await.unwrap();
    for _ in 0..100 {
        incr(&mut calm, "storm").await.unwrap();
    }
}
