//! Deliveries that lose their lease, and ids that are registered anew while they are leased.

use overdue::{
    error::TroubleKind,
    queue::{Cancelled, Lease, Retried, Settled, State},
};

use crate::support::{
    LEASE, LEASE_MS, NOTHING, Rig, T0, at_ms, id, leases, many, names, rejected, retry_of, text, trouble,
    wrong_token,
};

/// When the leases of claims at T0 have run out.
const LOST: i64 = T0 + LEASE_MS;

/// How a delivery can end.
#[derive(Debug, Clone, Copy)]
enum End {
    Ack,
    Retry,
    LastRetry,
    Release,
    Bury,
    Lost,
}

const ENDS: [End; 6] = [End::Ack, End::Retry, End::LastRetry, End::Release, End::Bury, End::Lost];

impl Rig {
    async fn end(&self, end: End, lease: &Lease) {
        let (queue, leases) = (self.when(T0), std::slice::from_ref(lease));
        match end {
            End::Ack => drop(queue.ack(leases).await.unwrap()),
            End::Retry => assert_eq!(self.retried(lease, 9).await, Retried::Superseded),
            End::LastRetry => assert_eq!(self.retried(lease, 1).await, Retried::Superseded),
            End::Release => drop(queue.release(leases).await.unwrap()),
            End::Bury => drop(queue.bury(&[rejected(lease)]).await.unwrap()),
            End::Lost => {} // the next claim comes after the lease
        }
    }

    async fn retried(&self, lease: &Lease, max_attempts: u32) -> Retried {
        self.when(T0).retry(&[retry_of(lease, 0)], max_attempts).await.unwrap()[0]
    }

    /// All that a holder can say is stale, and changes nothing.
    async fn assert_stale(&self, lease: &Lease, case: &str) {
        let before = self.shown(lease.id.as_str()).await.map(|shown| format!("{shown:?}"));
        let (queue, leases) = (self.when(T0), std::slice::from_ref(lease));
        let stale = [Settled::Stale];
        assert_eq!(queue.ack(leases).await.unwrap(), stale, "ack {case}");
        assert_eq!(queue.release(leases).await.unwrap(), stale, "release {case}");
        assert_eq!(queue.bury(&[rejected(lease)]).await.unwrap(), stale, "bury {case}");
        assert_eq!(queue.extend_ids(leases, LEASE).await.unwrap(), stale, "extend {case}");
        assert_eq!(self.retried(lease, 9).await, Retried::Stale, "retry {case}");
        let after = self.shown(lease.id.as_str()).await.map(|shown| format!("{shown:?}"));
        assert_eq!(after, before, "{case}");
    }
}

/// As half a claim leaves it behind, of a log that was cut.
#[tokio::test]
async fn a_holder_whose_lease_has_no_end_is_nobody() {
    let rig = Rig::new().await;
    let held = rig.leased("held", "").await;
    for name in ["held", "orphan"] {
        rig.put(name, T0, "p").await;
    }
    let _: i64 = rig.on_key("ZADD", "leased", (7, "orphan")).await;
    let _: i64 = rig.on_key("HSET", "batches", (7, "")).await;
    let delivery = rig.claim_one(T0).await;
    assert_eq!((delivery.id.as_str(), text(delivery.payload.as_ref())), ("orphan", "p"));
    assert_eq!(rig.ack(&[held.lease(), delivery.lease()]).await.unwrap(), [Settled::Done; 2]);
    assert_eq!(rig.claimed(T0).await, ["held"], "as it was registered anew");
    let batches: usize = rig.on_key("HLEN", "batches", NOTHING).await;
    assert_eq!(batches, 1, "what nobody held is gone");
}

/// The same with a real clock that steps: `prove::clock`.
#[tokio::test]
async fn a_step_back_of_the_clock_is_taken_off_the_leases() {
    const HOUR_MS: i64 = 3_600_000;
    let (rig, lease) = (Rig::new().await, LEASE * 60);
    rig.zadd("a", T0).await;
    let token = rig.claim(1, lease).await.unwrap().token.unwrap();
    let end = async || rig.on_key::<i64>("ZSCORE", "leases", token.get()).await;
    let real_end = end().await;
    // As if all that was written so far had been written with a clock that was an hour ahead.
    let _: i64 = rig.on_key("ZINCRBY", "leases", (HOUR_MS, token.get())).await;
    set_canary_ahead(&rig, HOUR_MS).await;
    for _ in 0..2 {
        assert!(rig.claim(1, lease).await.unwrap().deliveries.is_empty(), "it is still held");
        let late_ms = end().await - real_end;
        assert!((0..HOUR_MS / 10).contains(&late_ms), "late by no more than the queue was idle: {late_ms}");
    }
    set_canary_ahead(&rig, HOUR_MS).await;
    let before = end().await;
    rig.claim(1, lease).await.unwrap();
    assert_eq!(end().await, before, "one that had ended by then is no holder's any more");
}

/// As if the canary had been written that much later: it is `born count at`.
async fn set_canary_ahead(rig: &Rig, by_ms: i64) {
    let canary: String = rig.on_key("HGET", "meta", "canary").await;
    let (rest, at) = canary.rsplit_once(' ').expect("three parts");
    let at: i64 = at.parse().expect("ms");
    let _: i64 = rig.on_key("HSET", "meta", ("canary", format!("{rest} {}", at + by_ms))).await;
}

#[tokio::test]
async fn a_lost_delivery_comes_back_with_all_that_it_had() {
    let rig = Rig::new().await;
    let first = rig.leased("a", "p").await;
    assert_eq!(rig.payloads().await, 0, "the payload is with the batch");
    assert_eq!(rig.claimed(LOST - 1).await, [""; 0], "not while its lease lasts");
    assert_eq!(rig.counts_at(LOST).await.lost_leases, 1);

    let second = rig.claim_one(LOST).await;
    assert_eq!((second.due_at, second.attempt, second.failures), (at_ms(T0), 2, 0));
    assert_eq!((second.first_token, text(second.payload.as_ref())), (first.token, "p"));
    let third = rig.claim_one(LOST + LEASE_MS).await;
    assert_eq!((third.attempt, third.first_token, text(third.payload.as_ref())), (3, first.token, "p"));
    let shown = rig.shown("a").await.unwrap();
    assert_eq!((shown.attempt, shown.failures, shown.crashes), (3, 0, 2));

    rig.when(LOST + LEASE_MS).retry(&[retry_of(&third.lease(), 0)], 10).await.unwrap();
    let fourth = rig.claim_one(LOST + LEASE_MS).await;
    assert_eq!((fourth.attempt, fourth.failures, fourth.due_at), (4, 1, at_ms(T0)));
    rig.ack(&[fourth.lease()]).await.unwrap();
    assert_eq!(rig.keys().await, ["meta"]);
}

#[tokio::test]
async fn crashes_do_not_count_against_max_attempts() {
    let rig = Rig::new().await;
    rig.leased("a", "").await;
    rig.claim_one(LOST).await;
    let third = rig.claim_one(LOST + LEASE_MS).await;
    assert!(matches!(rig.retried(&third.lease(), 2).await, Retried::Scheduled { .. }));
}

#[tokio::test]
async fn a_lost_batch_comes_back_in_pieces_as_the_limit_says() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(10)).await;
    let batch = leases(&rig.claim_at(T0, 10).await);
    rig.ack(&batch[..2]).await.unwrap();
    rig.put("due", T0, "").await;

    let first = rig.claim_at(LOST, 3).await;
    let second = rig.claim_at(LOST, 100).await;
    let mut all = [names(&first.deliveries), names(&second.deliveries)].concat();
    assert_eq!((first.deliveries.len(), all.len(), all[8]), (3, 9, "due"));
    all.sort_unstable();
    assert_eq!(all, ["due", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9"]);
    assert_eq!(rig.members("leases").await.len(), 2, "the lost lease is gone");
}

#[tokio::test]
async fn more_lost_leases_than_one_call_looks_at_come_back_with_the_next() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(40)).await;
    for _ in 0..40 {
        rig.claim_at(T0, 1).await;
    }
    let mut count = 0;
    while count < 40 {
        let found = rig.claim_at(LOST, 1000).await.deliveries.len();
        assert!(found > 0, "every claim gets on");
        count += found;
    }
    assert_eq!(rig.members("leased").await.len(), 40);
}

#[tokio::test]
async fn who_lost_the_lease_to_another_claim_is_told_stale() {
    let rig = Rig::new().await;
    let lost = rig.leased("a", "p").await.lease();
    let holder = rig.claim_one(LOST).await.lease();
    rig.assert_stale(&lost, "after the lease was lost").await;
    rig.assert_stale(&wrong_token(&holder), "with a wrong token").await;
    assert_eq!(rig.when(LOST).extend(&[lost.token], LEASE).await.unwrap(), [Settled::Stale]);
    assert_eq!(rig.ack(&[holder]).await.unwrap(), [Settled::Done]);
}

#[tokio::test]
async fn a_delivery_of_a_cancelled_id_is_told_stale() {
    let rig = Rig::new().await;
    let lease = rig.leased("a", "p").await.lease();
    assert!(matches!(rig.cancel(&[id("a")]).await.unwrap()[0], Cancelled::InFlight { .. }));
    rig.assert_stale(&lease, "after cancel").await;
    rig.put("a", T0 + 1, "new").await;
    rig.assert_stale(&lease, "after cancel and a new registration").await;
    let next = rig.claim_one(T0 + 1).await;
    assert_eq!((next.attempt, text(next.payload.as_ref())), (1, "new"));
    rig.assert_stale(&lease, "while another delivery of the id is under way").await;
}

#[tokio::test]
async fn a_late_holder_may_still_settle_if_nobody_reclaimed() {
    for end in [End::Ack, End::Release, End::Bury] {
        let rig = Rig::new().await;
        let lease = rig.leased("a", "p").await.lease();
        rig.end(end, &lease).await;
        assert!(rig.members("leased").await.is_empty(), "{end:?}");
    }
    let rig = Rig::new().await;
    let lease = rig.leased("a", "p").await.lease();
    let late = rig.when(LOST + LEASE_MS);
    assert_eq!(late.extend_ids(std::slice::from_ref(&lease), LEASE).await.unwrap(), [Settled::Done]);
    assert_eq!(rig.claimed(LOST + LEASE_MS).await, [""; 0]);
    assert_eq!(late.ack(&[lease]).await.unwrap(), [Settled::Done]);
}

#[tokio::test]
async fn a_new_registration_stands_however_the_old_delivery_ends() {
    for by_hand in [true, false] {
        for end in ENDS {
            let rig = Rig::new().await;
            let lease = rig.leased("a", "old").await.lease();
            if by_hand {
                rig.hset("a", "new").await;
                rig.zadd("a", T0 + 1).await;
            } else {
                rig.put("a", T0 + 1, "new").await;
            }
            rig.end(end, &lease).await;
            let next = rig.claim_one(LOST).await;
            let case = format!("{end:?}, by hand: {by_hand}");
            assert_eq!((next.due_at, next.attempt), (at_ms(T0 + 1), 1), "{case}");
            assert_eq!(next.first_token, next.token, "{case}");
            assert_eq!(text(next.payload.as_ref()), "new", "{case}");
            rig.assert_stale(&lease, &case).await;
            rig.ack(&[next.lease()]).await.unwrap();
            assert_eq!(rig.keys().await, ["meta"], "{case}");
        }
    }
}

#[tokio::test]
async fn a_new_registration_forgets_the_attempts_of_the_old_one() {
    // The record of the old one names T0 as its retry: the same score again must not wake it.
    for score in [T0, T0 + 1] {
        for end in ENDS {
            let rig = Rig::new().await;
            let first = rig.leased("a", "old").await.lease();
            rig.retried(&first, 9).await;
            let second = rig.claim_one(T0).await;
            assert_eq!(second.attempt, 2);
            rig.zadd("a", score).await;
            rig.end(end, &second.lease()).await;
            let next = rig.claim_one(LOST).await;
            assert_eq!((next.attempt, next.failures, next.due_at), (1, 0, at_ms(score)), "{end:?} {score}");
        }
    }
}

#[tokio::test]
async fn a_payload_written_before_its_zadd_survives_the_end_of_the_old_delivery() {
    for verb in ["retry", "release", "bury"] {
        let rig = Rig::new().await;
        let lease = rig.leased("a", "old").await.lease();
        rig.hset("a", "new").await; // and the ZADD is still on its way
        match verb {
            "retry" => drop(rig.when(T0).retry(&[retry_of(&lease, 0)], 9).await.unwrap()),
            "release" => drop(rig.release(&[lease]).await.unwrap()),
            _ => drop(rig.when(T0).bury(&[rejected(&lease)]).await.unwrap()),
        }
        rig.zadd("a", T0 + 1).await;
        let next = rig.claim_one(T0 + 1).await;
        assert_eq!((next.attempt, text(next.payload.as_ref())), (1, "new"), "{verb}");
    }
}

#[tokio::test]
async fn a_new_registration_without_a_payload_has_none() {
    let rig = Rig::new().await;
    let lease = rig.leased("a", "old").await.lease();
    rig.put("a", T0 + 1, "").await;
    rig.end(End::Release, &lease).await;
    assert_eq!(rig.claim_one(T0 + 1).await.payload, None);
}

#[tokio::test]
async fn a_new_deadline_waits_until_the_running_delivery_ends() {
    let rig = Rig::new().await;
    let lease = rig.leased("a", "").await.lease();
    rig.put("a", T0 + 1, "").await;
    assert_eq!(rig.claimed(LOST - 1).await, [""; 0], "at most one live lease");
    rig.when(LOST - 1).extend(&[lease.token], LEASE).await.unwrap();
    assert_eq!(rig.claimed(LOST).await, [""; 0], "the lease was extended");
    rig.ack(&[lease]).await.unwrap();
    assert_eq!(rig.claimed(LOST).await, ["a"]);
}

#[tokio::test]
async fn waiting_ids_at_the_head_starve_nobody() {
    for limit in [1000, 64, 1] {
        let rig = Rig::new().await;
        rig.schedule_all(&many(1000)).await;
        let claim = rig.claim_at(T0, 1000).await;
        assert_eq!(claim.deliveries.len(), 1000);
        rig.schedule_all(&many(1000)).await;
        rig.put("free", T0 + 1, "p").await;
        let taken = rig.claim_at(T0 + 1, limit).await;
        assert_eq!(names(&taken.deliveries), ["free"], "with a limit of {limit}");
        assert_eq!(text(taken.deliveries[0].payload.as_ref()), "p");
        assert_eq!(rig.counts().await.unwrap().scheduled, 1000);
    }
}

#[tokio::test]
async fn show_tells_the_new_deadline_of_a_leased_id() {
    let rig = Rig::new().await;
    let delivery = rig.leased("a", "old").await;
    rig.put("a", LOST, "").await;
    let shown = rig.shown("a").await.unwrap();
    assert_eq!((shown.state, shown.due_at), (State::Leased, Some(at_ms(T0))));
    assert_eq!(shown.next_attempt_at, Some(at_ms(LOST)));
    assert_eq!(shown.lease.map(|lease| lease.token), Some(delivery.token));
}

impl Rig {
    async fn counts_at(&self, now_ms: i64) -> overdue::queue::Counts {
        self.when(now_ms).counts().await.unwrap()
    }
}

#[tokio::test]
async fn a_queue_of_a_newer_version_is_left_alone_by_who_would_misread_it() {
    let rig = Rig::new().await;
    rig.put("a", T0, "p").await;
    assert_eq!(rig.claimed(T0).await, ["a"]);
    let schema: String = rig.on_key("HGET", "meta", "schema").await;
    assert_eq!(schema, "1", "it is written with the canary");

    let _: i64 = rig.on_key("HSET", "meta", ("schema", "2")).await;
    rig.put("b", T0, "p").await;
    let refused = rig.when(T0 + 2 * LEASE_MS).claim(10, LEASE).await;
    let Err(error) = refused else { panic!("it claims: {refused:?}") };
    assert!(error.to_string().contains("newer version of overdue: upgrade this process"), "{error}");
    assert_eq!(trouble(rig.watch().await), TroubleKind::NewerSchema);
    assert_eq!(
        (rig.members("scheduled").await, rig.members("leased").await),
        (vec!["b".to_owned()], vec!["a".to_owned()])
    );
    // An older layout is read as well.
    let _: i64 = rig.on_key("HDEL", "meta", "schema").await;
    assert_eq!(rig.claimed(T0 + 2 * LEASE_MS).await.len(), 2);
}
