//! The promises of the contract, each with tests that can fail. P1 and P8 of a whole process are tested with it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use overdue::{
    queue::{Cancelled, Lease, Queue, Settled, State},
    types::Token,
};

use crate::support::{
    LEASE, LEASE_MS, LIMIT, RedisServer, Rig, STREAM, T0, at_ms, eventually, id, leases, many, names,
    registration, rejected, retry_of, text,
};

#[tokio::test]
async fn p1_every_id_is_handled_though_every_other_claim_dies() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(500)).await;
    let mut handled = HashSet::new();
    let mut now = T0;
    for round in 0.. {
        let claim = rig.claim_at(now, 40).await;
        if claim.token.is_none() && rig.counts().await.unwrap().leased == 0 {
            break;
        }
        if round % 2 == 0 {
            handled.extend(names(&claim.deliveries).into_iter().map(str::to_owned));
            rig.ack(&leases(&claim)).await.unwrap();
        }
        now += LEASE_MS / 3 + 1; // what a claim of an odd round loses, one of an even round finds
        assert!(round < 1000, "it ends");
    }
    assert_eq!(handled.len(), 500);
    assert_eq!(rig.keys().await, ["meta"]);
}

#[tokio::test]
async fn p1_what_redis_wrote_down_survives_kill_9_in_every_state() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let rig = Rig::on(&server).await;
    rig.buried("dead", "pd").await;
    let delivery = rig.leased("leased", "pl").await;
    rig.put("scheduled", T0 + 1, "ps").await;
    server.kill9();
    server.restart();
    let rig = Rig::with(&server, rig.clone()).await;

    let counts = eventually("it is loaded", async || rig.when(T0).counts().await.ok()).await;
    assert_eq!((counts.scheduled, counts.leased, counts.dead), (1, 1, 1));
    assert_eq!(rig.claimed(T0).await, [""; 0]);
    assert_eq!(rig.ack(&[delivery.lease()]).await.unwrap(), [Settled::Done], "the lease is in Redis, too");
    let next = rig.claim_one(T0 + 1).await;
    assert_eq!(text(next.payload.as_ref()), "ps");
    assert!(next.token > delivery.token);
    rig.when(T0 + 1).retry_dead(&[id("dead")]).await.unwrap();
    assert_eq!(text(rig.claim_one(T0 + 1).await.payload.as_ref()), "pd");
}

#[tokio::test]
async fn p2_nothing_is_early_by_a_millisecond() {
    let rig = Rig::new().await;
    for (name, score) in [("a", "1767225600000"), ("b", "1767225600000.001"), ("c", "1767225600000.999")] {
        rig.zadd(name, score).await;
    }
    assert_eq!(rig.claimed(T0 - 1).await, [""; 0]);
    assert_eq!(rig.when(T0 - 1).fire(STREAM, 10, None).await.unwrap().count, 0);
    assert_eq!(rig.claimed(T0).await, ["a"]);
    assert_eq!(rig.claimed(T0 + 1).await, ["b", "c"]);
}

#[tokio::test]
async fn p2_the_server_s_clock_is_the_one_that_counts() {
    let rig = Rig::new().await;
    let soon = rig.redis().time().await.unwrap().as_ms() + 40;
    rig.put("a", soon, "").await;
    eventually("a is claimed", async || {
        let before = rig.redis().time().await.unwrap();
        let claim = rig.claim(10, LEASE).await.unwrap();
        let after = rig.redis().time().await.unwrap();
        assert!(before <= claim.now && claim.now <= after);
        assert_eq!(claim.next.is_some(), claim.token.is_none());
        assert!(claim.token.is_none() || claim.now.as_ms() >= soon, "{claim:?}");
        claim.token
    })
    .await;
}

#[tokio::test]
async fn p3_what_was_cancelled_never_fires() {
    let rig = Rig::new().await;
    rig.buried("retried", "p").await;
    rig.buried("revived", "p").await;
    let lease = rig.leased_only("retrying").await;
    rig.when(T0).retry(&[retry_of(&lease, 0)], 9).await.unwrap();
    let lease = rig.leased_only("released").await;
    rig.release(&[lease]).await.unwrap();
    rig.when(T0).retry_dead(&[id("retried")]).await.unwrap();
    rig.zadd("revived", T0).await;
    rig.put("waiting", T0, "p").await;
    rig.zadd("foreign", T0).await;
    rig.hset("foreign", "p").await;

    let all = ["waiting", "retrying", "released", "retried", "revived", "foreign"].map(id);
    for verdict in rig.when(T0).cancel(&all).await.unwrap() {
        assert!(matches!(verdict, Cancelled::Cancelled { .. }), "{verdict:?}");
    }
    for now in [T0, T0 + LEASE_MS, T0 + 1_000_000_000] {
        assert_eq!(rig.claimed(now).await, [""; 0]);
        assert_eq!(rig.when(now).fire(STREAM, 1000, None).await.unwrap().count, 0);
    }
    assert_eq!(rig.keys().await, ["meta"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_cancel_and_claim_never_both_win() {
    let rig = Rig::new().await;
    let bulk = many(2000);
    rig.schedule_all(&bulk).await;
    let all: Vec<_> = bulk.into_iter().map(|registration| registration.id).collect();

    let claimer = |queue: Queue| async move {
        let mut claimed = HashSet::new();
        loop {
            let claim = queue.claim(7, LIMIT).await.unwrap();
            if claim.token.is_none() {
                return claimed;
            }
            claimed.extend(claim.deliveries.into_iter().map(|delivery| delivery.id));
        }
    };
    let canceller = |queue: Queue, ids: Vec<_>| async move {
        let mut cancelled = HashMap::new();
        for step in ids.chunks(5) {
            let verdicts = queue.cancel(step).await.unwrap();
            cancelled.extend(step.iter().cloned().zip(verdicts));
        }
        cancelled
    };
    // From behind, so that the two meet.
    let (front, back): (Vec<_>, Vec<_>) = all.iter().rev().cloned().partition(|id| id.as_str() < "n5");
    let (one, two, three, four) = tokio::join!(
        tokio::spawn(claimer(rig.when(T0))),
        tokio::spawn(claimer(rig.when(T0))),
        tokio::spawn(canceller(rig.when(T0), front)),
        tokio::spawn(canceller(rig.when(T0), back)),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.is_disjoint(&two));
    let mut verdicts = three.unwrap();
    verdicts.extend(four.unwrap());
    for id in &all {
        let claimed = one.contains(id) || two.contains(id);
        match verdicts[id] {
            Cancelled::Cancelled { .. } => assert!(!claimed, "{id} was claimed and cancelled"),
            Cancelled::InFlight { .. } => assert!(claimed, "{id} was never claimed"),
            other => panic!("{id}: {other:?}"),
        }
    }
    assert_eq!(rig.keys().await, ["meta"]);
}

#[tokio::test]
async fn p4_whoever_lost_a_lease_changes_nothing() {
    let rig = Rig::new().await;
    let lost = rig.leased("a", "p").await.lease();
    let holder = rig.claim_one(T0 + LEASE_MS).await.lease();
    let before = format!("{:?}", rig.shown("a").await);
    let (late, lost) = (rig.when(T0 + LEASE_MS), [lost]);
    late.ack(&lost).await.unwrap();
    late.release(&lost).await.unwrap();
    late.retry(&[retry_of(&lost[0], 0)], 1).await.unwrap();
    late.bury(&[rejected(&lost[0])]).await.unwrap();
    late.extend_ids(&lost, LEASE * 9).await.unwrap();
    assert_eq!(format!("{:?}", rig.shown("a").await), before);
    assert_eq!(rig.ack(&[holder]).await.unwrap(), [Settled::Done]);
}

#[tokio::test]
async fn p5_an_id_has_one_lease_however_often_it_is_registered() {
    let rig = Rig::new().await;
    let mut lease = rig.leased("a", "").await;
    for round in 0..5 {
        let now = T0 + round * LEASE_MS;
        rig.put("a", now, "").await;
        rig.zadd("a", now).await;
        assert_eq!(rig.claimed(now + LEASE_MS - 1).await, [""; 0]);
        let next = rig.claim_one(now + LEASE_MS).await;
        assert!(next.token > lease.token);
        assert_eq!((rig.members("leased").await.len(), rig.members("leases").await.len()), (1, 1));
        lease = next;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_eight_tasks_handle_five_thousand_ids_once_each() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(5000)).await;
    let handled: Arc<Mutex<HashMap<String, Token>>> = Arc::default();
    let worker = |queue: Queue, handled: Arc<Mutex<HashMap<String, Token>>>| async move {
        loop {
            let claim = queue.claim(50, LIMIT).await.unwrap();
            if claim.token.is_none() {
                return;
            }
            for delivery in &claim.deliveries {
                let before = handled.lock().unwrap().insert(delivery.id.to_string(), delivery.token);
                assert_eq!(before, None, "{} was handled twice", delivery.id);
            }
            let answers = queue.ack(&leases(&claim)).await.unwrap();
            assert!(answers.iter().all(|answer| *answer == Settled::Done));
        }
    };
    let workers: Vec<_> = (0..8).map(|_| tokio::spawn(worker(rig.when(T0), handled.clone()))).collect();
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(handled.lock().unwrap().len(), 5000);
    assert_eq!(rig.keys().await, ["meta"]);
}

#[tokio::test]
async fn p6_a_stream_gets_every_id_once_leftovers_of_another_handler_included() {
    let rig = Rig::new().await;
    rig.schedule_all(&[registration("failed", T0 - 1, "pf"), registration("lost", T0, "pl")]).await;
    let held = leases(&rig.claim_at(T0, 10).await);
    rig.when(T0).retry(&[retry_of(&held[0], 5), retry_of(&held[1], 0)], 9).await.unwrap();
    assert_eq!(rig.claimed(T0).await, ["lost"]);
    rig.put("bare", T0 + 3, "").await;
    rig.put("later", T0 + LEASE_MS + 1, "").await;

    let now = T0 + LEASE_MS;
    let fired = rig.when(now).fire(STREAM, 2, None).await.unwrap();
    assert_eq!((fired.count, fired.earliest, fired.next), (2, Some(at_ms(T0)), Some(at_ms(now + 1))));
    assert!(fired.more);
    let fired = rig.when(now).fire(STREAM, 1000, None).await.unwrap();
    assert_eq!((fired.count, fired.earliest), (1, Some(at_ms(T0 - 1))));
    assert_eq!((fired.now.as_ms(), fired.next), (now, Some(at_ms(now + 1))));
    let fired = rig.when(now).fire(STREAM, 1000, None).await.unwrap();
    assert_eq!((fired.count, fired.earliest), (0, None));

    let entries: Vec<(String, HashMap<String, String>)> = rig.on_key("XRANGE", "fired", ("-", "+")).await;
    let field = |n: usize, name: &str| entries[n].1.get(name).map(String::as_str);
    let told: Vec<_> = (0..3).map(|n| (field(n, "id").unwrap(), field(n, "payload"))).collect();
    assert_eq!(told, [("lost", Some("pl")), ("bare", None), ("failed", Some("pf"))]);
    let dues: Vec<i64> = (0..3).map(|n| field(n, "due_at").unwrap().parse().unwrap()).collect();
    assert_eq!(dues, [T0, T0 + 3, T0 - 1]);
    assert!((0..3).all(|n| field(n, "fired_at") == Some(now.to_string().as_str())));
    assert_eq!(rig.ack(&held).await.unwrap(), [Settled::Stale; 2]);
    assert_eq!(rig.keys().await, ["fired", "meta", "scheduled"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_four_tasks_fire_into_one_stream_without_a_repetition() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(3000)).await;
    let firer = |queue: Queue| async move { while queue.fire(STREAM, 70, None).await.unwrap().count > 0 {} };
    let firers: Vec<_> = (0..4).map(|_| tokio::spawn(firer(rig.when(T0)))).collect();
    for firer in firers {
        firer.await.unwrap();
    }
    let entries: Vec<(String, HashMap<String, String>)> = rig.on_key("XRANGE", "fired", ("-", "+")).await;
    let ids: HashSet<&str> = entries.iter().map(|(_, fields)| fields["id"].as_str()).collect();
    assert_eq!((entries.len(), ids.len()), (3000, 3000));
    assert_eq!(rig.keys().await, ["fired", "meta"]);
}

#[tokio::test]
async fn p7_an_id_is_in_one_state_all_its_life() {
    let rig = Rig::new().await;
    let state = async || rig.shown("a").await.map(|shown| shown.state);
    rig.put("a", T0, "").await;
    assert_eq!(state().await, Some(State::Scheduled));
    let lease = rig.claim_one(T0).await.lease();
    assert_eq!(state().await, Some(State::Leased));
    rig.when(T0).bury(&[rejected(&lease)]).await.unwrap();
    assert_eq!(state().await, Some(State::Dead));
    rig.when(T0).retry_dead(&[id("a")]).await.unwrap();
    assert_eq!(state().await, Some(State::Scheduled));
    let lease = rig.claim_one(T0).await.lease();
    rig.ack(&[lease]).await.unwrap();
    assert_eq!(state().await, None);
}

#[tokio::test]
async fn p8_every_claim_tells_the_earliest_deadline_that_is_pending() {
    let rig = Rig::new().await;
    let next = async || rig.claim_at(T0, 1).await.next;
    assert_eq!(next().await, None);
    rig.put("b", T0 + 9, "").await;
    assert_eq!(next().await, Some(at_ms(T0 + 9)));
    rig.put("a", T0 + 4, "").await;
    assert_eq!(next().await, Some(at_ms(T0 + 4)));
    rig.zadd("seconds", 1_767_225_600).await;
    assert_eq!(next().await, Some(at_ms(T0 + 4)), "what can never fire is not waited for");
    rig.cancel(&[id("a")]).await.unwrap();
    assert_eq!(next().await, Some(at_ms(T0 + 9)));
    rig.zadd("c", "1767225600000.25").await;
    assert_eq!(next().await, Some(at_ms(T0 + 1)));
}

impl Rig {
    async fn leased_only(&self, name: &str) -> Lease {
        self.put(name, T0 - 1, "p").await;
        let claim = self.claim_at(T0 - 1, 1).await;
        assert_eq!(names(&claim.deliveries), [name]);
        claim.deliveries[0].lease()
    }
}
