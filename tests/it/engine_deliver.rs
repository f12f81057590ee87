//! claim, ack, retry, release, extend, bury: deliveries that keep their lease.

use std::time::Duration;

use overdue::{
    Token,
    queue::{Due, Expected, Lease, Mode, Registration, Retried, Retry, Settled, State},
};

use crate::support::{
    LEASE, LEASE_MS, PARTS, Rig, T0, at_ms, eventually, id, leases, many, names, registration, rejected,
    retry_of, scripts, text, wrong_token,
};

const DONE: [Settled; 1] = [Settled::Done];
const STALE: [Settled; 1] = [Settled::Stale];

#[tokio::test]
async fn claims_come_in_the_order_of_deadlines_and_keep_to_the_limit() {
    let rig = Rig::new().await;
    for (name, due_ms) in [("d", T0), ("b", T0 - 2), ("a", T0), ("c", T0 - 1), ("e", T0 + 1)] {
        rig.put(name, due_ms, "").await;
    }
    let first = rig.claim_at(T0, 3).await;
    assert_eq!(names(&first.deliveries), ["b", "c", "a"]);
    assert_eq!((first.more, first.next, first.now.as_ms()), (true, Some(at_ms(T0 + 1)), T0));
    let second = rig.claim_at(T0, 3).await;
    assert_eq!(names(&second.deliveries), ["d"]);
    assert_eq!((second.more, second.next), (false, Some(at_ms(T0 + 1))));
    assert!(second.token > first.token);
    let third = rig.claim_at(T0, 3).await;
    assert_eq!((third.token, third.next), (None, Some(at_ms(T0 + 1))), "nothing was due");
    assert_eq!(rig.claimed(T0 + 1).await, ["e"]);
    assert_eq!(rig.claim_at(T0 + 1, 3).await.next, None);
}

#[tokio::test]
async fn a_delivery_says_what_was_registered() {
    let rig = Rig::new().await;
    rig.put("order 42", T0 - 5, r#"{"amount":"100.00"}"#).await;
    let delivery = rig.claim_one(T0).await;
    assert_eq!(delivery.queue, *rig.name());
    assert_eq!((delivery.id.as_str(), delivery.due_at), ("order 42", at_ms(T0 - 5)));
    assert_eq!((delivery.attempt, delivery.failures), (1, 0));
    assert_eq!((delivery.first_token, delivery.claimed_at.as_ms()), (delivery.token, T0));
    assert_eq!(text(delivery.payload.as_ref()), r#"{"amount":"100.00"}"#);
}

#[tokio::test]
async fn payloads_go_to_their_own_ids() {
    let rig = Rig::new().await;
    rig.schedule_all(&[registration("a", T0, "pa"), registration("b", T0, ""), registration("c", T0, "pc")])
        .await;
    let claim = rig.claim_at(T0, 10).await;
    let payloads: Vec<&str> =
        claim.deliveries.iter().map(|delivery| text(delivery.payload.as_ref())).collect();
    assert_eq!(payloads, ["pa", "", "pc"]);
    assert_eq!(rig.ack(&leases(&claim)).await.unwrap(), [Settled::Done; 3]);
    assert_eq!(rig.keys().await, ["meta"]);
}

#[tokio::test]
async fn the_server_s_clock_counts_where_no_instant_is_passed() {
    let rig = Rig::new().await;
    let soon = Registration { due: Due::In(Duration::from_millis(30)), ..registration("a", T0, "") };
    rig.schedule(&[soon], Mode::Replace, Expected::Anything).await.unwrap();
    let claim = eventually("a is claimed", async || {
        let claim = rig.claim(10, LEASE).await.unwrap();
        claim.token.is_some().then_some(claim)
    })
    .await;
    assert!(claim.now.as_ms() >= claim.deliveries[0].due_at.as_ms(), "{claim:?}");
    assert!(rig.redis().time().await.unwrap() >= claim.now);
    assert_eq!(rig.release(&leases(&claim)).await.unwrap(), DONE);
    assert_eq!(rig.counts().await.unwrap().due, 1);
}

#[tokio::test]
async fn tokens_grow_whatever_the_clock_does() {
    let rig = Rig::new().await;
    let mut last = Token::new(0);
    let mut next_token = async |now_ms: Option<i64>| {
        rig.put("a", T0, "").await;
        let claim = match now_ms {
            Some(now_ms) => rig.claim_at(now_ms, 10).await,
            None => rig.claim(10, LEASE).await.unwrap(),
        };
        let token = claim.token.expect("a is due");
        assert!(token > last, "{token} after {last}");
        last = token;
        rig.ack(&leases(&claim)).await.unwrap();
    };
    next_token(Some(T0)).await;
    next_token(Some(T0)).await; // the clock stands
    next_token(None).await; // from virtual to real time
    next_token(Some(T0)).await; // and back
    let future = 4_000_000_000_000_000_u64; // as after a failover to a server whose clock was ahead
    let _: i64 = rig.on_key("HSET", "meta", ("token", future)).await;
    next_token(None).await;
    assert_eq!(last.get(), future + 1);
}

#[tokio::test]
async fn a_failed_attempt_comes_back_with_all_that_it_had() {
    let rig = Rig::new().await;
    let first = rig.leased("a", "p").await;
    let answer = rig.when(T0 + 10).retry(&[retry_of(&first.lease(), 500)], 10).await.unwrap();
    assert_eq!(answer, [Retried::Scheduled { at: at_ms(T0 + 510) }]);
    assert_eq!(rig.claimed(T0 + 509).await, [""; 0], "not before its delay is over");
    assert_eq!(rig.counts().await.unwrap().next_due_at, Some(at_ms(T0 + 510)));

    let second = rig.claim_one(T0 + 510).await;
    assert_eq!((second.due_at, second.attempt, second.failures), (at_ms(T0), 2, 1));
    assert_eq!((second.first_token, text(second.payload.as_ref())), (first.token, "p"));
    assert!(second.token > first.token);
    assert_eq!(rig.ack(&[second.lease()]).await.unwrap(), DONE);
    assert_eq!(rig.keys().await, ["meta"]);
}

#[tokio::test]
async fn an_id_is_dead_after_its_last_attempt() {
    let rig = Rig::new().await;
    let mut lease = rig.leased("a", "p").await.lease();
    for _ in 0..2 {
        let answer = rig.when(T0).retry(&[retry_of(&lease, 0)], 3).await.unwrap();
        assert_eq!(answer, [Retried::Scheduled { at: at_ms(T0) }]);
        lease = rig.claim_one(T0).await.lease();
    }
    assert_eq!(rig.when(T0 + 7).retry(&[retry_of(&lease, 0)], 3).await.unwrap(), [Retried::Dead]);
    let shown = rig.shown("a").await.unwrap();
    assert_eq!((shown.state, shown.attempt, shown.failures), (State::Dead, 3, 3));
    assert_eq!((shown.due_at, shown.buried_at), (Some(at_ms(T0)), Some(at_ms(T0 + 7))));
    assert_eq!(
        (shown.reason.as_deref(), shown.error.as_deref()),
        (Some("attempts_spent"), Some("it failed"))
    );
    assert_eq!(text(shown.payload.as_ref()), "p");
    assert_eq!(rig.claimed(T0 + LEASE_MS * 2).await, [""; 0]);
}

#[tokio::test]
async fn a_retry_never_lands_past_the_year_9999() {
    let rig = Rig::new().await;
    let lease = rig.leased("a", "").await.lease();
    let answer = rig.when(T0).retry(&[retry_of(&lease, u64::MAX)], 3).await.unwrap();
    assert_eq!(answer, [Retried::Scheduled { at: at_ms(253_402_300_799_999) }]);
}

#[tokio::test]
async fn a_released_delivery_is_due_at_once_and_nothing_counts_against_it() {
    let rig = Rig::new().await;
    let first = rig.leased("a", "p").await;
    assert_eq!(rig.release(&[first.lease()]).await.unwrap(), DONE);
    let second = rig.claim_one(T0).await;
    assert_eq!((second.due_at, second.attempt, text(second.payload.as_ref())), (at_ms(T0), 1, "p"));

    rig.when(T0).retry(&[retry_of(&second.lease(), 100)], 10).await.unwrap();
    let third = rig.claim_one(T0 + 100).await;
    assert_eq!(rig.release(&[third.lease()]).await.unwrap(), DONE);
    let fourth = rig.claim_one(T0 + 100).await;
    assert_eq!((fourth.due_at, fourth.attempt, fourth.failures), (at_ms(T0), 2, 1), "what was counted stays");
    assert_eq!(text(fourth.payload.as_ref()), "p");
}

#[tokio::test]
async fn a_buried_delivery_stays_in_the_dead_set_with_its_reason() {
    let rig = Rig::new().await;
    let lease = rig.leased("a", "p").await.lease();
    assert_eq!(rig.when(T0 + 3).bury(&[rejected(&lease)]).await.unwrap(), DONE);
    let shown = rig.shown("a").await.unwrap();
    assert_eq!((shown.state, shown.buried_at, shown.attempt), (State::Dead, Some(at_ms(T0 + 3)), 1));
    assert_eq!(shown.reason.as_deref(), Some("rejected"));
    assert_eq!(shown.error.as_deref(), Some("the handler said so"));
    assert_eq!((shown.due_at, text(shown.payload.as_ref())), (Some(at_ms(T0)), "p"));
    assert_eq!(rig.keys().await, ["attempts", "dead", "meta", "payload"]);
}

#[tokio::test]
async fn long_errors_are_cut_and_any_text_survives() {
    let rig = Rig::new().await;
    let lease = rig.leased("a", "").await.lease();
    let error = "\u{1f4a5} \"quoted\" \\ \n".to_owned() + &"x".repeat(1000) + "the cause";
    let retry = Retry { error: error.clone(), ..retry_of(&lease, 0) };
    rig.when(T0).retry(&[retry], 10).await.unwrap();
    let shown = rig.shown("a").await.unwrap().error.unwrap();
    assert_eq!(shown.chars().count(), 500);
    let (head, tail) = shown.split_once('…').unwrap();
    assert!(error.starts_with(head) && head.chars().count() == 99);
    assert!(error.ends_with(tail) && tail.ends_with("the cause"));
}

#[tokio::test]
async fn extending_moves_the_end_of_a_whole_claim() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(2)).await;
    let claim = rig.claim_at(T0, 10).await;
    let token = claim.token.unwrap();
    let late = T0 + LEASE_MS - 1;
    let unknown = Token::new(token.get() + 1);
    let extended = rig.when(late).extend(&[token, unknown], LEASE).await.unwrap();
    assert_eq!(extended, [Settled::Done, Settled::Stale]);
    assert_eq!(rig.claimed(late + LEASE_MS - 1).await, [""; 0]);

    rig.ack(&leases(&claim)[..1]).await.unwrap();
    let extended = rig.when(late).extend_ids(&leases(&claim), LEASE * 2).await.unwrap();
    assert_eq!(
        extended,
        [Settled::Stale, Settled::Done],
        "the first is acked, the second speaks for the claim"
    );
    assert_eq!(rig.claimed(late + LEASE_MS * 2 - 1).await, [""; 0]);
    assert_eq!(rig.claimed(late + LEASE_MS * 2).await, ["n1"]);
    assert_eq!(rig.when(late).extend(&[token], LEASE).await.unwrap(), STALE);
}

#[tokio::test]
async fn an_extension_may_also_shorten_a_lease() {
    let rig = Rig::new().await;
    let token = rig.leased("a", "").await.token;
    rig.when(T0).extend(&[token], Duration::from_millis(1)).await.unwrap();
    assert_eq!(rig.claimed(T0 + 1).await, ["a"]);
}

#[tokio::test]
async fn one_call_settles_thousands_and_answers_in_order() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(2500)).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.extend(leases(&rig.claim_at(T0, 1000).await));
    }
    assert_eq!(held.len(), 2500);
    held[1700] = wrong_token(&held[1700]);
    let stale_at = |answers: &[Settled]| answers.iter().position(|answer| *answer == Settled::Stale);
    let answers = rig.release(&held).await.unwrap();
    assert_eq!((answers.len(), stale_at(&answers)), (2500, Some(1700)));

    let again = rig.claim_at(T0, 1000).await;
    let retries: Vec<_> = leases(&again).iter().map(|lease| retry_of(lease, 0)).collect();
    assert_eq!(
        rig.when(T0).retry(&retries, 9).await.unwrap(),
        vec![Retried::Scheduled { at: at_ms(T0) }; 1000]
    );
    let again = rig.claim_at(T0, 1000).await;
    let dead: Vec<_> = leases(&again).iter().map(rejected).collect();
    assert_eq!(rig.when(T0).bury(&dead).await.unwrap(), vec![Settled::Done; 1000]);
    assert_eq!(rig.counts().await.unwrap().dead, 1000);
}

#[tokio::test]
async fn saying_done_twice_or_with_a_wrong_token_is_stale() {
    let rig = Rig::new().await;
    let lease = rig.leased("a", "").await.lease();
    assert_eq!(rig.ack(&[wrong_token(&lease)]).await.unwrap(), STALE);
    assert_eq!(rig.ack(std::slice::from_ref(&lease)).await.unwrap(), DONE);
    assert_eq!(rig.ack(std::slice::from_ref(&lease)).await.unwrap(), STALE);
    assert!(rig.ack(&[]).await.unwrap().is_empty());
    let unknown = Lease { id: id("b"), ..lease };
    assert_eq!(rig.ack(&[unknown]).await.unwrap(), STALE);
}

#[tokio::test]
async fn one_call_on_the_same_id_twice_counts_it_once() {
    let rig = Rig::new().await;
    let lease = rig.leased("a", "").await.lease();
    let twice = [retry_of(&lease, 0), retry_of(&lease, 0)];
    let answers = rig.when(T0).retry(&twice, 9).await.unwrap();
    assert_eq!(answers, [Retried::Scheduled { at: at_ms(T0) }, Retried::Stale]);
    assert_eq!(rig.claim_one(T0).await.attempt, 2);
}

#[tokio::test]
async fn an_ack_of_a_claim_ends_what_its_token_still_holds_and_nothing_else() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(6)).await;
    let first = rig.claim_at(T0, 3).await;
    let second = rig.claim_at(T0, 3).await;
    let (token, other) = (first.token.unwrap(), second.token.unwrap());
    // One is done already, and one has failed: it is not the claim's any more.
    assert_eq!(rig.ack(&leases(&first)[..1]).await.unwrap(), DONE);
    rig.when(T0).retry(&[retry_of(&leases(&first)[1], 50)], 5).await.unwrap();
    assert_eq!(rig.ack_claims(&[token, token]).await.unwrap(), [1, 0]);
    let counts = rig.counts().await.unwrap();
    assert_eq!((counts.scheduled, counts.leased), (1, 3));
    assert_eq!(rig.ack(&leases(&first)).await.unwrap(), [Settled::Stale; 3]);
    assert_eq!(rig.ack_claims(&[other]).await.unwrap(), [3]);
    assert_eq!(rig.claim_at(T0 + 50, 3).await.deliveries.len(), 1, "the one that failed comes back");
}

#[tokio::test]
async fn an_ack_of_a_claim_leaves_what_was_registered_anew() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(2)).await;
    let claim = rig.claim_at(T0, 2).await;
    rig.put("n0", T0 + 7, "").await;
    assert_eq!(rig.ack_claims(&[claim.token.unwrap()]).await.unwrap(), [2]);
    assert_eq!(rig.claimed(T0 + 7).await, ["n0"]);
}

#[tokio::test]
async fn a_client_of_any_language_gets_a_claim_as_arrays() {
    let rig = Rig::new().await;
    rig.schedule_all(&[registration("a", T0, "pa"), registration("b", T0, "")]).await;
    let mut call = redis::cmd("EVAL");
    call.arg(scripts::whole("claim")).arg(8);
    for part in &PARTS[..8] {
        call.arg(rig.key(part));
    }
    let reply: Vec<redis::Value> =
        rig.send(call.arg(&[T0.to_string(), "10".into(), "1000".into(), String::new(), String::new()])).await;
    let entries: Vec<String> = redis::from_redis_value(reply[5].clone()).unwrap();
    let payloads: Vec<Option<String>> = redis::from_redis_value(reply[6].clone()).unwrap();
    assert_eq!(entries, ["a", &T0.to_string(), "b", &T0.to_string()]);
    assert_eq!(payloads, [Some("pa".to_owned()), None]);
}
