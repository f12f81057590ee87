//! schedule, reschedule, cancel.

use std::{collections::BTreeMap, time::Duration};

use overdue::queue::{Cancelled, Due, Expected, Mode, Registration, Rescheduled, Scheduled, Settled, State};

use crate::support::{
    LEASE_MS, NOTHING, Rig, STREAM, T0, at_ms, due, id, ids, many, queue, registration, rejected, retry_of,
    text,
};

const LATER: i64 = T0 + 60_000;

fn created(ms: i64) -> Scheduled {
    Scheduled::Created { due_at: at_ms(ms) }
}

fn replaced(ms: i64, old: i64) -> Scheduled {
    Scheduled::Replaced { due_at: at_ms(ms), old: Some(at_ms(old)) }
}

fn kept(ms: i64) -> Scheduled {
    Scheduled::Kept { due_at: Some(at_ms(ms)), state: State::Scheduled }
}

fn kept_as(state: State) -> Scheduled {
    Scheduled::Kept { due_at: None, state }
}

impl Rig {
    async fn put_as(&self, mode: Mode, due_ms: i64) -> Scheduled {
        self.put_if(mode, Expected::Anything, due_ms).await
    }

    async fn put_if(&self, mode: Mode, expected: Expected, due_ms: i64) -> Scheduled {
        self.schedule(&[registration("a", due_ms, "")], mode, expected).await.unwrap()[0]
    }

    async fn cancel_one(&self, text: &str) -> Cancelled {
        self.when(T0).cancel(&[id(text)]).await.unwrap()[0]
    }
}

#[tokio::test]
async fn each_mode_decides_between_the_old_and_the_new_deadline() {
    for (mode, earlier, later) in [
        (Mode::Replace, replaced(T0 - 1, T0), replaced(T0 + 1, T0)),
        (Mode::Keep, kept(T0), kept(T0)),
        (Mode::Earliest, replaced(T0 - 1, T0), kept(T0)),
        (Mode::Latest, kept(T0), replaced(T0 + 1, T0)),
    ] {
        for (due_ms, answer) in [(T0 - 1, earlier), (T0 + 1, later)] {
            let rig = Rig::new().await;
            assert_eq!(rig.put_as(mode, T0).await, created(T0), "{mode:?}");
            assert_eq!(rig.put_as(mode, due_ms).await, answer, "{mode:?}");
            let held = if matches!(answer, Scheduled::Kept { .. }) { T0 } else { due_ms };
            assert_eq!(rig.shown("a").await.unwrap().due_at, Some(at_ms(held)), "{mode:?}");
        }
    }
}

#[tokio::test]
async fn keep_registers_only_what_is_nowhere_and_the_other_modes_register_beside_a_lease() {
    let rig = Rig::new().await;
    rig.leased("a", "").await;
    assert_eq!(rig.put_as(Mode::Keep, LATER).await, kept_as(State::Leased));
    assert_eq!(rig.put_as(Mode::Earliest, LATER).await, created(LATER));

    let rig = Rig::new().await;
    rig.buried("a", "").await;
    assert_eq!(rig.put_as(Mode::Keep, LATER).await, kept_as(State::Dead));
    assert_eq!(rig.put_as(Mode::Latest, LATER).await, created(LATER));
    assert_eq!(rig.shown("a").await.unwrap().state, State::Scheduled);
    assert_eq!(rig.keys().await, ["meta", "scheduled"], "the dead entry and its record are gone");
}

#[tokio::test]
async fn a_compare_and_set_writes_only_what_it_expects() {
    let rig = Rig::new().await;
    let conflict = |ms: Option<i64>| Scheduled::Conflict { due_at: ms.map(at_ms) };
    assert_eq!(rig.put_if(Mode::Replace, Expected::At(at_ms(T0)), LATER).await, conflict(None));
    assert_eq!(rig.put_if(Mode::Replace, Expected::Absent, T0).await, created(T0));
    assert_eq!(rig.put_if(Mode::Replace, Expected::Absent, LATER).await, conflict(Some(T0)));
    assert_eq!(rig.put_if(Mode::Replace, Expected::At(at_ms(LATER)), LATER).await, conflict(Some(T0)));
    assert_eq!(rig.put_if(Mode::Replace, Expected::At(at_ms(T0)), LATER).await, replaced(LATER, T0));
}

#[tokio::test]
async fn the_same_id_twice_in_one_call_is_registered_and_then_replaced() {
    let rig = Rig::new().await;
    let pair = [registration("a", T0, "old"), registration("a", LATER, "new")];
    assert_eq!(rig.schedule_all(&pair).await, [created(T0), replaced(LATER, T0)]);
    let shown = rig.shown("a").await.unwrap();
    assert_eq!((shown.due_at, text(shown.payload.as_ref())), (Some(at_ms(LATER)), "new"));

    for (first, second, expected) in [("p", "", "p"), ("", "p", "p"), ("", "", "")] {
        let rig = Rig::new().await;
        rig.schedule_all(&[registration("b", T0, first), registration("b", LATER, second)]).await;
        assert_eq!(text(rig.shown("b").await.unwrap().payload.as_ref()), expected);
    }

    let rig = Rig::new().await;
    let answers = rig.schedule(&pair, Mode::Keep, Expected::Anything).await.unwrap();
    assert_eq!(answers, [created(T0), kept(T0)]);
    let answers = rig.schedule(&pair, Mode::Replace, Expected::At(at_ms(T0))).await.unwrap();
    assert_eq!(answers, [replaced(T0, T0), replaced(LATER, T0)]);
}

#[tokio::test]
async fn moving_without_a_payload_keeps_it_and_registering_anew_does_not() {
    let rig = Rig::new().await;
    rig.put("a", T0, "p").await;
    rig.put("a", LATER, "").await;
    assert_eq!(text(rig.shown("a").await.unwrap().payload.as_ref()), "p");

    let _: i64 = rig.on_key("ZREM", "scheduled", "a").await;
    rig.put("a", T0, "").await;
    assert_eq!(rig.claim_one(T0).await.payload, None, "what a plain ZREM left behind is not its payload");
}

#[tokio::test]
async fn a_delay_counts_from_the_clock_of_the_script() {
    let rig = Rig::new().await;
    let registration = Registration { id: id("a"), due: Due::In(Duration::from_millis(1500)), payload: None };
    let answers = rig.when(T0).schedule(&[registration], Mode::Replace, Expected::Anything).await.unwrap();
    assert_eq!(answers, [created(T0 + 1500)]);
    let moved = rig.when(T0).reschedule(&id("a"), Due::In(Duration::ZERO), Expected::Anything).await.unwrap();
    assert_eq!(moved, Rescheduled::Moved { due_at: at_ms(T0), old: Some(at_ms(T0 + 1500)) });
}

#[tokio::test]
async fn a_delay_past_the_year_9999_is_refused_and_nothing_is_written() {
    let rig = Rig::new().await;
    let late = Registration { due: Due::In(Duration::MAX), ..registration("b", T0, "p") };
    let both = [registration("a", T0, "p"), late];
    let refused = rig.schedule(&both, Mode::Replace, Expected::Anything).await.unwrap_err();
    assert!(refused.to_string().contains("year 9999"), "{refused}");
    assert_eq!(rig.keys().await, [""; 0]);
    rig.put("a", T0, "").await;
    rig.reschedule(&id("a"), Due::In(Duration::MAX), Expected::Anything).await.unwrap_err();
    assert_eq!(rig.claimed(T0).await, ["a"]);
}

#[tokio::test]
async fn bulk_is_cut_into_calls_and_answered_in_order() {
    let rig = Rig::new().await;
    let bulk = many(2500);
    assert_eq!(rig.schedule_all(&bulk).await, vec![created(T0); 2500]);
    let all: Vec<_> = bulk.into_iter().map(|registration| registration.id).collect();
    let cancelled = rig.cancel(&all[..1200]).await.unwrap();
    assert_eq!(cancelled, vec![Cancelled::Cancelled { due_at: Some(at_ms(T0)) }; 1200]);
    assert_eq!(rig.counts().await.unwrap().scheduled, 1300);
    assert!(rig.schedule(&[], Mode::Replace, Expected::Anything).await.unwrap().is_empty());
}

#[tokio::test]
async fn large_payloads_are_cut_into_calls_too() {
    let rig = Rig::new().await;
    let payload = "x".repeat(64 * 1024);
    let bulk: Vec<_> = (0..150).map(|n| registration(&format!("n{n}"), T0, &payload)).collect();
    assert_eq!(rig.schedule_all(&bulk).await.len(), 150);
    let claim = rig.claim_at(T0, 150).await;
    assert!(claim.deliveries.iter().all(|delivery| text(delivery.payload.as_ref()) == payload));
}

#[tokio::test]
async fn reschedule_moves_what_is_scheduled_and_says_where_the_rest_is() {
    let rig = Rig::new().await;
    let moved = async |name: &str, expected| rig.reschedule(&id(name), due(LATER), expected).await.unwrap();
    assert_eq!(moved("a", Expected::Anything).await, Rescheduled::NotFound);

    rig.buried("dead", "").await;
    rig.leased("leased", "").await;
    assert_eq!(moved("dead", Expected::Anything).await, Rescheduled::Dead);
    assert_eq!(moved("leased", Expected::Anything).await, Rescheduled::InFlight);

    rig.put("a", T0, "p").await;
    let conflict = Rescheduled::Conflict { due_at: Some(at_ms(T0)) };
    assert_eq!(moved("a", Expected::At(at_ms(T0 + 1))).await, conflict);
    let old = Some(at_ms(T0));
    assert_eq!(moved("a", Expected::At(at_ms(T0))).await, Rescheduled::Moved { due_at: at_ms(LATER), old });
    let early = rig.claimed(LATER - 1).await;
    assert_eq!(early, ["leased"], "the lease from before ran out, the moved one is not due");
    assert_eq!(text(rig.claim_one(LATER).await.payload.as_ref()), "p");
}

#[tokio::test]
async fn reschedule_gives_an_impossible_entry_a_deadline() {
    let rig = Rig::new().await;
    rig.zadd("a", "inf").await;
    let moved = rig.reschedule(&id("a"), due(T0), Expected::Anything).await.unwrap();
    assert_eq!(moved, Rescheduled::Moved { due_at: at_ms(T0), old: None });
    assert_eq!(rig.claimed(T0).await, ["a"]);
}

#[tokio::test]
async fn cancel_says_where_it_found_the_id() {
    let rig = Rig::new().await;
    rig.buried("dead", "kept").await;
    let delivery = rig.leased("leased", "").await;
    rig.put("scheduled", LATER, "gone").await;

    let lease_left = Duration::from_millis(LEASE_MS as u64 - 1000);
    let verdicts = rig.when(T0 + 1000).cancel(&ids(&["scheduled", "leased", "dead", "none"])).await.unwrap();
    assert_eq!(
        verdicts,
        [
            Cancelled::Cancelled { due_at: Some(at_ms(LATER)) },
            Cancelled::InFlight { token: delivery.token, lease_left },
            Cancelled::Dead,
            Cancelled::NotFound,
        ]
    );
    let again = rig.when(T0 + 1000).cancel(&ids(&["scheduled", "leased", "dead"])).await.unwrap();
    assert_eq!(again, [Cancelled::NotFound, Cancelled::NotFound, Cancelled::Dead]);
    assert_eq!(rig.payloads().await, 1, "only the dead one keeps its payload");
}

#[tokio::test]
async fn cancel_of_a_retrying_id_answers_the_original_deadline() {
    let rig = Rig::new().await;
    let lease = rig.leased("a", "p").await.lease();
    rig.when(T0).retry(&[retry_of(&lease, 5000)], 10).await.unwrap();
    assert_eq!(rig.cancel_one("a").await, Cancelled::Cancelled { due_at: Some(at_ms(T0)) });
    assert_eq!(rig.keys().await, ["meta"]);
}

#[tokio::test]
async fn cancel_ends_a_new_registration_together_with_the_running_delivery() {
    let rig = Rig::new().await;
    rig.leased("a", "old").await;
    rig.put("a", LATER, "new").await;
    assert!(matches!(rig.cancel_one("a").await, Cancelled::InFlight { .. }));
    assert_eq!(rig.keys().await, ["meta"]);
}

#[tokio::test]
async fn cancel_takes_impossible_entries_away_as_well() {
    let rig = Rig::new().await;
    for score in ["0", "1767225600", "9e15", "inf", "-inf"] {
        rig.zadd("a", score).await;
        assert_eq!(rig.cancel_one("a").await, Cancelled::Cancelled { due_at: None }, "{score}");
    }
    assert_eq!(rig.keys().await, [""; 0]);
}

#[tokio::test]
async fn moving_a_revived_id_leaves_no_trace_in_the_dead_set() {
    let rig = Rig::new().await;
    rig.buried("a", "p").await;
    rig.zadd("a", T0).await;
    rig.reschedule(&id("a"), due(T0 + 1), Expected::Anything).await.unwrap();
    let lease = rig.claim_one(T0 + 1).await.lease();
    rig.ack(std::slice::from_ref(&lease)).await.unwrap();
    assert_eq!(rig.keys().await, ["meta"]);
    assert_eq!(rig.bury(&[rejected(&lease)]).await.unwrap(), [Settled::Stale]);
}

#[tokio::test]
async fn purge_removes_all_ids_and_keeps_the_stream_and_what_is_known_of_the_queue() {
    let rig = Rig::new().await;
    rig.put("fired", T0, "").await;
    rig.when(T0).fire(STREAM, 10, None).await.unwrap();
    rig.buried("dead", "p").await;
    rig.leased("leased", "p").await;
    rig.put("scheduled", T0, "p").await;
    rig.pause(true).await.unwrap();
    let meta = async || rig.on_key::<BTreeMap<String, String>>("HGETALL", "meta", NOTHING).await;
    let before = meta().await;
    assert_eq!(before.keys().collect::<Vec<_>>(), ["canary", "paused", "schema", "token"]);
    rig.purge().await.unwrap();
    assert_eq!(rig.keys().await, ["fired", "meta"]);
    assert_eq!(meta().await, before);
    assert!(rig.exists().await.unwrap());
    assert!(!queue().exists().await.unwrap());
}
