//! What foreign clients write with plain ZADD and HSET: level 0 of the contract, and what breaks it.

use overdue::{
    DueAt, Token,
    queue::{Delivery, Rejected, Settled, State, Unreadable},
};

use crate::support::{
    LEASE_MS, PARTS, Rig, STREAM, T0, at_ms, id, ids, leases, names, rejected, retry_of, scripts::whole, text,
};

#[tokio::test]
async fn a_plain_zadd_registers_moves_and_zrem_cancels() {
    let rig = Rig::new().await;
    rig.zadd("a", T0).await;
    rig.zadd("a", T0 + 5).await;
    assert_eq!(rig.claimed(T0 + 4).await, [""; 0]);
    let _: i64 = rig.on_key("ZADD", "scheduled", ("XX", T0 + 6, "a")).await;
    let _: i64 = rig.on_key("ZADD", "scheduled", ("XX", T0, "b")).await;
    assert_eq!(rig.claimed(T0 + 5).await, [""; 0]);
    assert_eq!(rig.claimed(T0 + 6).await, ["a"]);
    rig.zadd("c", T0).await;
    let _: i64 = rig.on_key("ZREM", "scheduled", "c").await;
    assert_eq!(rig.claimed(T0 + 6).await, [""; 0]);
}

#[tokio::test]
async fn a_fraction_of_a_millisecond_is_never_early() {
    let rig = Rig::new().await;
    rig.zadd("a", "1767225600000.5").await;
    let early = rig.claim_at(T0, 10).await;
    assert_eq!((early.token, early.next), (None, Some(at_ms(T0 + 1))), "next is rounded up");
    assert_eq!(rig.shown("a").await.unwrap().due_at, Some(at_ms(T0 + 1)));
    let first = rig.claim_one(T0 + 1).await;
    assert_eq!(first.due_at, at_ms(T0 + 1));

    rig.release(&[first.lease()]).await.unwrap();
    let second = rig.claim_one(T0 + 1).await;
    assert_eq!((second.due_at, second.attempt), (at_ms(T0 + 1), 1));
    let third = rig.claim_one(T0 + 1 + LEASE_MS).await;
    assert_eq!((third.due_at, third.attempt), (at_ms(T0 + 1), 2));
    rig.release(&[third.lease()]).await.unwrap();
    assert_eq!(rig.claim_one(T0 + 1).await.attempt, 2);

    rig.zadd("b", "1767225600000.5").await;
    assert_eq!(rig.when(T0).fire(STREAM, 10, None).await.unwrap().count, 0);
    let fired = rig.when(T0 + 1).fire(STREAM, 10, None).await.unwrap();
    assert_eq!((fired.count, fired.earliest), (1, Some(at_ms(T0 + 1))));
}

#[tokio::test]
async fn a_plain_zadd_on_a_retrying_id_starts_it_anew() {
    let rig = Rig::new().await;
    let lease = rig.leased("a", "p").await.lease();
    rig.when(T0).retry(&[retry_of(&lease, 500)], 10).await.unwrap();
    let shown = rig.shown("a").await.unwrap();
    assert_eq!(
        (shown.failures, shown.due_at, shown.next_attempt_at),
        (1, Some(at_ms(T0)), Some(at_ms(T0 + 500)))
    );

    rig.zadd("a", T0 + 600).await;
    let shown = rig.shown("a").await.unwrap();
    assert_eq!((shown.failures, shown.due_at, shown.next_attempt_at), (0, Some(at_ms(T0 + 600)), None));
    let next = rig.claim_one(T0 + 600).await;
    assert_eq!((next.attempt, next.due_at, next.first_token), (1, at_ms(T0 + 600), next.token));
    rig.ack(&[next.lease()]).await.unwrap();
    assert_eq!(rig.keys().await, ["meta"]);
}

#[tokio::test]
async fn a_plain_zadd_on_a_dead_id_revives_it() {
    for by_stream in [false, true] {
        let rig = Rig::new().await;
        rig.buried("a", "p").await;
        rig.zadd("a", T0 + 1).await;
        assert_eq!(rig.shown("a").await.unwrap().state, State::Scheduled);
        if by_stream {
            assert_eq!(rig.when(T0 + 1).fire(STREAM, 10, None).await.unwrap().count, 1);
        } else {
            let next = rig.claim_one(T0 + 1).await;
            assert_eq!((next.attempt, next.due_at), (1, at_ms(T0 + 1)));
            assert!(rig.members("dead").await.is_empty(), "the dead entry goes with the claim");
            rig.ack(&[next.lease()]).await.unwrap();
        }
        let left: Vec<String> = rig.keys().await.into_iter().filter(|part| part != "fired").collect();
        assert_eq!(left, ["meta"], "by stream: {by_stream}");
    }
}

#[tokio::test]
async fn the_dead_set_s_verbs_respect_a_plain_revival() {
    let rig = Rig::new().await;
    rig.buried("a", "p").await;
    rig.zadd("a", T0 + 1).await;
    assert_eq!(rig.delete_dead(&[id("a")]).await.unwrap(), [Settled::Done]);
    assert_eq!(text(rig.claim_one(T0 + 1).await.payload.as_ref()), "p");

    let rig = Rig::new().await;
    rig.buried("a", "p").await;
    rig.zadd("a", T0 + 9).await;
    assert_eq!(rig.when(T0).retry_dead(&[id("a")]).await.unwrap(), [Settled::Done]);
    assert_eq!(rig.claimed(T0 + 8).await, [""; 0], "the new deadline stands");
    let next = rig.claim_one(T0 + 9).await;
    assert_eq!((next.due_at, next.attempt), (at_ms(T0 + 9), 1));
    rig.ack(&[next.lease()]).await.unwrap();
    assert_eq!(rig.keys().await, ["meta"]);
}

#[tokio::test]
async fn impossible_scores_never_fire_and_are_set_aside_with_a_reason() {
    let rig = Rig::new().await;
    let impossible = [
        ("zero", "0", "below 1e11"),
        ("seconds", "1767225600", "below 1e11"),
        ("nearly", "99999999999.9", "below 1e11"),
        ("negative", "-inf", "below 1e11"),
        ("far", "9000000000000000", "year 9999"),
        ("after", "253402300800000", "year 9999"),
        ("never", "inf", "year 9999"),
    ];
    for (name, score, _) in impossible {
        rig.zadd(name, score).await;
        rig.hset(name, "p").await;
    }
    rig.zadd("first", DueAt::MIN_MS).await;
    rig.zadd("last", DueAt::MAX_MS).await;

    let claim = rig.claim_at(T0, 1000).await;
    assert_eq!((names(&claim.deliveries), claim.impossible), (vec!["first"], 7));
    assert_eq!(claim.next, Some(at_ms(DueAt::MAX_MS)));
    let counts = rig.counts().await.unwrap();
    assert_eq!((counts.impossible, counts.scheduled, counts.next_due_at), (7, 8, Some(at_ms(DueAt::MAX_MS))));
    let fired = rig.when(T0).fire(STREAM, 1000, None).await.unwrap();
    assert_eq!((fired.count, fired.impossible), (0, 7));

    assert_eq!(rig.when(T0).reject().await.unwrap(), 7);
    assert_eq!(rig.when(T0).reject().await.unwrap(), 0);
    assert_eq!(rig.members("scheduled").await, ["last"]);
    for (name, score, why) in impossible {
        let shown = rig.shown(name).await.unwrap();
        assert_eq!((shown.state, shown.due_at), (State::Dead, None), "{name}");
        assert_eq!(shown.reason.as_deref(), Some("impossible_score"), "{name}");
        let error = shown.error.unwrap();
        assert!(error.contains(why) && error.contains(&score[..1]), "{name}: {error}");
        assert_eq!(text(shown.payload.as_ref()), "p", "{name}");
    }
    assert_eq!(rig.when(T0).retry_dead(&[id("seconds")]).await.unwrap(), [Settled::Done]);
    let retried = rig.claim_one(T0).await;
    assert_eq!((retried.id.as_str(), retried.attempt, text(retried.payload.as_ref())), ("seconds", 1, "p"));
}

#[tokio::test]
async fn an_impossible_score_of_a_leased_id_waits_for_the_lease() {
    for retry in [false, true] {
        let rig = Rig::new().await;
        let lease = rig.leased("a", "p").await.lease();
        rig.zadd("a", "1767225600").await;
        assert_eq!(rig.when(T0).reject().await.unwrap(), 0);
        if retry {
            rig.when(T0).retry(&[retry_of(&lease, 0)], 10).await.unwrap();
        } else {
            rig.ack(&[lease]).await.unwrap();
        }
        assert_eq!(rig.when(T0).reject().await.unwrap(), 1);
        let shown = rig.shown("a").await.unwrap();
        assert_eq!((shown.state, shown.reason.as_deref()), (State::Dead, Some("impossible_score")));
        assert_eq!(rig.claimed(T0 + LEASE_MS).await, [""; 0]);
    }
}

#[tokio::test]
async fn any_id_of_the_contract_goes_all_the_way() {
    let rig = Rig::new().await;
    let longest = "x".repeat(256);
    let odd = ["42", "007", "order:42", "order 42", "\u{8ba2}\u{5355}-42", "{x}", "-inf", "'\"\\", &longest];
    for name in odd {
        rig.zadd(name, T0).await;
        rig.hset(name, format!("payload of {name}")).await;
    }
    let check = |delivery: &Delivery| {
        assert_eq!(text(delivery.payload.as_ref()), format!("payload of {}", delivery.id));
    };
    let first = rig.claim_at(T0, 100).await;
    first.deliveries.iter().for_each(check);
    assert_eq!(first.deliveries.len(), odd.len());
    let retries: Vec<_> = leases(&first).iter().map(|lease| retry_of(lease, 0)).collect();
    rig.when(T0).retry(&retries, 10).await.unwrap();
    rig.claim_at(T0, 100).await.deliveries.iter().for_each(check);
    let third = rig.claim_at(T0 + LEASE_MS, 100).await;
    third.deliveries.iter().for_each(check);
    for name in odd {
        let shown = rig.shown(name).await.unwrap();
        assert_eq!((shown.id.as_str(), shown.attempt, shown.due_at), (name, 3, Some(at_ms(T0))));
    }
    rig.when(T0).bury(&leases(&third).iter().map(rejected).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(rig.delete_dead(&ids(&odd)).await.unwrap(), vec![Settled::Done; odd.len()]);
    assert_eq!(rig.keys().await, ["meta"]);
}

#[tokio::test]
async fn ids_outside_the_contract_are_handed_out_as_unreadable_and_can_be_buried() {
    let rig = Rig::new().await;
    let long = vec![b'x'; 300];
    let invalid: [&[u8]; 5] = [b"", b"a\nb", b"\0overdue", b"\xff\xfe", &long];
    for bytes in invalid {
        rig.zadd(bytes, T0).await;
    }
    rig.zadd("good", T0).await;
    let claim = rig.claim_at(T0, 100).await;
    // One member is the one that scripts use to check types: it is nobody's id and disappears.
    assert_eq!(names(&claim.deliveries), ["good"]);
    let mut found: Vec<&[u8]> = claim.unreadable.iter().map(|unreadable| &*unreadable.id).collect();
    found.sort_unstable();
    assert_eq!(found, [b"", &b"a\nb"[..], &long, b"\xff\xfe"]);
    assert!(claim.unreadable.iter().all(|unreadable| unreadable.reason == "invalid_id"), "{claim:?}");

    rig.bury_unreadable(&claim.unreadable, claim.token.unwrap()).await;
    let page = rig.list(State::Dead, 10, None).await.unwrap();
    assert_eq!(page.rows.len(), 4);
    assert!(page.rows.iter().all(|row| row.reason.as_deref() == Some("invalid_id") && row.error.is_some()));
}

#[tokio::test]
async fn a_payload_that_is_no_text_is_unreadable_and_not_lost() {
    let rig = Rig::new().await;
    rig.zadd("a", T0).await;
    rig.hset("a", &b"\xff\xfe"[..]).await;
    rig.zadd("b", T0).await;
    rig.hset("b", vec![b'x'; 64 * 1024 + 1]).await;
    rig.zadd("c", T0).await;
    rig.hset("c", "").await;
    let claim = rig.claim_at(T0, 100).await;
    assert_eq!(names(&claim.deliveries), ["c"], "an empty payload is none");
    assert!(claim.deliveries[0].payload.is_none());
    let reasons: Vec<&str> = claim.unreadable.iter().map(|unreadable| unreadable.reason).collect();
    assert_eq!(reasons, ["invalid_payload"; 2]);
    rig.bury_unreadable(&claim.unreadable, claim.token.unwrap()).await;
    let kept: Vec<u8> = rig.on_key("HGET", "payload", "a").await;
    assert_eq!(kept, b"\xff\xfe");
    assert_eq!(rig.shown("b").await.unwrap().reason.as_deref(), Some("invalid_payload"));
}

#[tokio::test]
async fn payloads_pass_unchanged() {
    let rig = Rig::new().await;
    let large = "\u{20ac}".repeat(64 * 1024 / 3);
    for (name, payload) in [
        ("json", r#"{"n":12345678901234567890,"s":"\u0000"}"#),
        ("text", "plain, with \0 and \n"),
        ("number", "1e400"),
        ("large", &large),
    ] {
        rig.put(name, T0, payload).await;
        assert_eq!(text(rig.shown(name).await.unwrap().payload.as_ref()), payload);
        assert_eq!(text(rig.claim_one(T0).await.payload.as_ref()), payload);
        assert_eq!(text(rig.shown(name).await.unwrap().payload.as_ref()), payload, "also while leased");
        let lost = rig.claim_one(T0 + LEASE_MS).await;
        assert_eq!(text(lost.payload.as_ref()), payload, "also when lost");
        rig.release(&[lost.lease()]).await.unwrap();
        let again = rig.claim_one(T0 + LEASE_MS).await;
        assert_eq!(text(again.payload.as_ref()), payload, "also when given back");
        rig.ack(&[again.lease()]).await.unwrap();
    }
    assert_eq!(rig.keys().await, ["meta"]);
}

impl Rig {
    async fn bury_unreadable(&self, unreadable: &[Unreadable], token: Token) {
        let rejected: Vec<_> = unreadable
            .iter()
            .map(|Unreadable { id, error, reason }| Rejected {
                id: id.clone(),
                token,
                reason,
                error: error.clone(),
            })
            .collect();
        assert_eq!(self.when(T0).bury(&rejected).await.unwrap(), vec![Settled::Done; rejected.len()]);
    }
}

#[tokio::test]
async fn large_payloads_make_claims_shorter_and_lose_nothing() {
    let rig = Rig::new().await;
    let text = "x".repeat(60_000);
    for n in 0..250 {
        rig.hset(format!("n{n}"), &text).await;
        rig.zadd(format!("n{n}"), T0).await;
    }
    let mut sizes = Vec::new();
    while rig.counts().await.unwrap().scheduled > 0 {
        let claim = rig.claim_at(T0, 1000).await;
        assert!(claim.deliveries.iter().all(|delivery| delivery.payload.is_some()));
        sizes.push(claim.deliveries.len());
        assert_eq!(claim.more, sizes.iter().sum::<usize>() < 250);
    }
    assert_eq!(sizes, [100, 100, 50]);
    assert_eq!(rig.payloads().await, 0);
}

#[tokio::test]
async fn the_verb_schedule_refuses_what_is_no_number_and_rounds_fractions_up() {
    let rig = Rig::new().await;
    let lua = whole("schedule");
    let keys: Vec<String> = PARTS[..8].iter().map(|part| rig.key(part)).collect();
    let call = |due: &str| {
        let mut command = redis::cmd("EVAL");
        command.arg(&lua).arg(8).arg(&keys).arg("").arg("replace").arg("").arg("a").arg(due).arg("payload");
        command
    };
    for due in ["nan", "+nan", "x", "+x", "inf", "-inf", "1767225600", ""] {
        let answer: redis::RedisResult<Vec<i64>> = call(due).query_async(&mut rig.connection()).await;
        assert!(answer.unwrap_err().to_string().contains("a deadline is in ms"), "{due}");
        assert!(rig.keys().await.is_empty(), "{due}");
    }
    let answer: Vec<i64> = rig.send(&call("1767225600000.4")).await;
    assert_eq!(answer, [1, 1_767_225_600_001, 0]);
}
