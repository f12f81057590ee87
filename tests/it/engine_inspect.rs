//! show, list, counts, and the verbs of the dead set.

use overdue::queue::{Counts, Cursor, Page, Registration, Settled, State};

use crate::support::{
    LEASE_MS, Rig, T0, at_ms, id, ids, leases, many, registration, rejected, retry_of, text,
};

impl Rig {
    async fn page(&self, state: State, limit: usize, after: Option<&Cursor>) -> Page {
        self.list(state, limit, after).await.unwrap()
    }

    /// All rows, page by page, with `between` in between. Cursors go through their text form.
    async fn paged(&self, state: State, limit: usize, mut between: impl AsyncFnMut(&Page)) -> Vec<String> {
        let mut all = Vec::new();
        let mut page = self.page(state, limit, None).await;
        loop {
            assert!(page.rows.len() <= limit && all.len() < 20_000, "pages of at most {limit}, and an end");
            all.extend(page.rows.iter().map(|row| row.id.clone()));
            let Some(cursor) = &page.next else {
                return all;
            };
            between(&page).await;
            let cursor: Cursor = cursor.to_string().parse().unwrap();
            page = self.page(state, limit, Some(&cursor)).await;
        }
    }

    async fn bury_all(&self, registrations: &[Registration]) {
        self.schedule_all(registrations).await;
        let held = leases(&self.claim_at(T0, 1000).await);
        self.when(T0).bury(&held.iter().map(rejected).collect::<Vec<_>>()).await.unwrap();
    }
}

#[tokio::test]
async fn an_id_that_is_nowhere_is_not_shown() {
    let rig = Rig::new().await;
    assert!(rig.shown("a").await.is_none());
    let lease = rig.leased("a", "p").await.lease();
    rig.ack(&[lease]).await.unwrap();
    assert!(rig.shown("a").await.is_none());
}

#[tokio::test]
async fn show_tells_every_state() {
    let rig = Rig::new().await;
    rig.put("a", T0, r#"{"n":1}"#).await;
    let shown = rig.shown("a").await.unwrap();
    assert_eq!((shown.state, shown.attempt, shown.due_at), (State::Scheduled, 0, Some(at_ms(T0))));
    assert!(shown.lease.is_none() && shown.next_attempt_at.is_none() && shown.buried_at.is_none());

    let delivery = rig.claim_one(T0).await;
    let shown = rig.shown("a").await.unwrap();
    let lease = shown.lease.unwrap();
    assert_eq!((shown.state, shown.attempt, shown.due_at), (State::Leased, 1, Some(at_ms(T0))));
    assert_eq!((lease.token, lease.expires_at), (delivery.token, Some(at_ms(T0 + LEASE_MS))));
    assert_eq!(text(shown.payload.as_ref()), r#"{"n":1}"#, "the payload is shown while leased, too");

    rig.when(T0).retry(&[retry_of(&delivery.lease(), 5)], 10).await.unwrap();
    let shown = rig.shown("a").await.unwrap();
    assert_eq!((shown.state, shown.attempt, shown.failures), (State::Scheduled, 1, 1));
    assert_eq!((shown.due_at, shown.next_attempt_at), (Some(at_ms(T0)), Some(at_ms(T0 + 5))));
    let json = serde_json::to_value(&shown).unwrap();
    assert_eq!(json["state"], "scheduled");
    assert_eq!(json["payload"]["n"], 1);
    assert_eq!(json["next_attempt_at"], "2026-01-01T00:00:00.005Z");
    assert!(json.get("lease").is_none() && json.get("buried_at").is_none());
}

#[tokio::test]
async fn lists_come_in_order_page_by_page_even_where_all_scores_are_equal() {
    let rig = Rig::new().await;
    let mut expected: Vec<String> = (0..100).map(|n| format!("n{n}")).collect();
    expected.sort();
    rig.schedule_all(&many(100)).await;
    rig.put("earlier", T0 - 1, "").await;
    rig.put("later", T0 + 1, "").await;
    expected.insert(0, "earlier".to_owned());
    expected.push("later".to_owned());
    for limit in [1, 7, 51, 102, 1000] {
        assert_eq!(rig.paged(State::Scheduled, limit, async |_| ()).await, expected, "pages of {limit}");
    }
    assert!(rig.page(State::Dead, 10, None).await.rows.is_empty());
}

#[tokio::test]
async fn ties_are_ordered_byte_by_byte_as_redis_does() {
    let rig = Rig::new().await;
    for name in ["Z", "a", "\u{e9}", "B", "b", "_", "~", "a ", "\u{8ba2}", "10", "9"] {
        rig.put(name, T0, "").await;
    }
    assert_eq!(rig.paged(State::Scheduled, 1, async |_| ()).await, rig.members("scheduled").await);
}

#[tokio::test]
async fn rows_that_vanish_between_pages_hide_no_others() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(50)).await;
    let all = rig.members("scheduled").await;
    let listed = rig
        .paged(State::Scheduled, 5, async |page| {
            let seen: Vec<_> = page.rows.iter().map(|row| id(&row.id)).collect();
            rig.cancel(&seen).await.unwrap();
            rig.put("a0", T0 - 1, "").await; // and one that appears where pages have been
        })
        .await;
    assert_eq!(listed, all);
}

#[tokio::test]
async fn fractional_and_infinite_scores_have_their_place_in_a_list() {
    let rig = Rig::new().await;
    for (name, score) in [("c", "1767225600000.5"), ("b", "1767225600000"), ("a", "-inf"), ("d", "inf")] {
        rig.zadd(name, score).await;
    }
    assert_eq!(rig.paged(State::Scheduled, 1, async |_| ()).await, ["a", "b", "c", "d"]);
    let dues: Vec<_> = rig.page(State::Scheduled, 9, None).await.rows.iter().map(|row| row.due_at).collect();
    assert_eq!(dues, [None, Some(at_ms(T0)), Some(at_ms(T0 + 1)), None]);
}

#[tokio::test]
async fn leased_rows_tell_deadline_token_and_end_of_the_lease() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(20)).await;
    let first = rig.claim_at(T0 + 1, 12).await;
    let second = rig.claim_at(T0 + 2, 12).await;
    let rows = rig.page(State::Leased, 100, None).await.rows;
    assert_eq!(rows.len(), 20);
    for (n, row) in rows.iter().enumerate() {
        let claim = if n < 12 { &first } else { &second };
        let lease = row.lease.unwrap();
        assert_eq!(Some(lease.token), claim.token);
        assert_eq!(lease.expires_at, Some(at_ms(claim.now.as_ms() + LEASE_MS)));
        assert_eq!((row.state, row.due_at, row.attempt), (State::Leased, Some(at_ms(T0)), 1));
        assert!(row.payload.is_none());
    }
    let listed = rig.paged(State::Leased, 3, async |_| ()).await;
    assert_eq!(listed, rows.into_iter().map(|row| row.id).collect::<Vec<_>>());
}

#[tokio::test]
async fn leased_pages_may_be_short_and_are_complete_all_the_same() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(8000)).await;
    for _ in 0..8 {
        rig.claim_at(T0, 1000).await;
    }
    let first = rig.page(State::Leased, 1000, None).await;
    assert!(first.next.is_some());
    let listed = rig.paged(State::Leased, 1000, async |_| ()).await;
    assert_eq!(listed, rig.members("leased").await);
}

#[tokio::test]
async fn dead_rows_come_in_the_order_of_burial_with_reason_and_error() {
    let rig = Rig::new().await;
    for (name, at) in [("b", 1), ("a", 2), ("c", 2)] {
        let lease = rig.leased(name, "p").await.lease();
        rig.when(T0 + at).bury(&[rejected(&lease)]).await.unwrap();
    }
    let rows = rig.page(State::Dead, 10, None).await.rows;
    let told: Vec<_> = rows.iter().map(|row| (row.id.as_str(), row.buried_at)).collect();
    assert_eq!(told, [("b", Some(at_ms(T0 + 1))), ("a", Some(at_ms(T0 + 2))), ("c", Some(at_ms(T0 + 2)))]);
    assert!(rows.iter().all(|row| row.reason.as_deref() == Some("rejected")
        && row.error.as_deref() == Some("the handler said so")
        && row.due_at == Some(at_ms(T0))
        && row.attempt == 1));
    assert_eq!(rig.paged(State::Dead, 1, async |_| ()).await, ["b", "a", "c"]);
}

#[tokio::test]
async fn a_cursor_that_list_did_not_make_is_refused() {
    for text in ["", "a", "1_2", "x_61", "1_6g", "1_\u{e9}\u{e9}"] {
        assert!(text.parse::<Cursor>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn counts_tell_how_much_is_where() {
    let rig = Rig::new().await;
    let counted = async |now_ms: i64| {
        let Counts { scheduled, due, leased, lost_leases, dead, impossible, .. } =
            rig.when(now_ms).counts().await.unwrap();
        [scheduled, due, leased, lost_leases, dead, impossible]
    };
    assert_eq!(counted(T0).await, [0; 6]);
    rig.buried("dead", "").await;
    rig.schedule_all(&many(3)).await;
    rig.claim_at(T0, 2).await;
    rig.put("later", T0 + 5, "").await;
    rig.zadd("seconds", 1_767_225_600).await;
    assert_eq!(counted(T0).await, [3, 1, 2, 0, 1, 1]);
    assert_eq!(counted(T0 + 5).await, [3, 2, 2, 0, 1, 1]);
    assert_eq!(counted(T0 + LEASE_MS).await, [3, 2, 2, 1, 1, 1]);
    let counts = rig.when(T0 + 7).counts().await.unwrap();
    assert_eq!((counts.now.as_ms(), counts.next_due_at), (T0 + 7, Some(at_ms(T0))), "the oldest overdue");
}

#[tokio::test]
async fn retry_dead_brings_ids_back_with_all_attempts_before_them() {
    let rig = Rig::new().await;
    let first = rig.leased("a", "p").await;
    rig.when(T0).retry(&[retry_of(&first.lease(), 0)], 1).await.unwrap();
    let now = T0 + 60_000;
    let answers = rig.when(now).retry_dead(&ids(&["a", "none"])).await.unwrap();
    assert_eq!(answers, [Settled::Done, Settled::Stale]);
    let shown = rig.shown("a").await.unwrap();
    assert_eq!((shown.state, shown.reason, shown.error), (State::Scheduled, None, None));
    assert_eq!((shown.due_at, shown.next_attempt_at), (Some(at_ms(T0)), Some(at_ms(now))));

    let again = rig.claim_one(now).await;
    assert_eq!((again.due_at, again.attempt, again.failures), (at_ms(T0), 1, 0));
    assert_eq!((again.first_token, text(again.payload.as_ref())), (first.token, "p"));
    rig.ack(&[again.lease()]).await.unwrap();
    assert_eq!(rig.keys().await, ["meta"]);
}

#[tokio::test]
async fn retry_dead_and_delete_dead_leave_other_states_alone() {
    let rig = Rig::new().await;
    let lease = rig.leased("leased", "p").await.lease();
    rig.put("scheduled", T0 + 9, "p").await;
    let others = ids(&["leased", "scheduled", "none"]);
    assert_eq!(rig.when(T0).retry_dead(&others).await.unwrap(), [Settled::Stale; 3]);
    assert_eq!(rig.delete_dead(&others).await.unwrap(), [Settled::Stale; 3]);
    assert_eq!(rig.ack(&[lease]).await.unwrap(), [Settled::Done]);
    assert_eq!(text(rig.claim_one(T0 + 9).await.payload.as_ref()), "p");
}

#[tokio::test]
async fn thousands_of_dead_ids_are_retried_and_deleted_in_one_call() {
    let rig = Rig::new().await;
    let bulk: Vec<_> = (0..1500).map(|n| registration(&format!("n{n}"), T0, "p")).collect();
    rig.bury_all(&bulk[..1000]).await;
    rig.bury_all(&bulk[1000..]).await;
    let all: Vec<_> = bulk.into_iter().map(|registration| registration.id).collect();
    assert_eq!(rig.when(T0).retry_dead(&all[..1200]).await.unwrap(), vec![Settled::Done; 1200]);
    let deleted = rig.delete_dead(&all).await.unwrap();
    assert_eq!(deleted.iter().filter(|answer| **answer == Settled::Done).count(), 300);
    assert_eq!((rig.payloads().await, rig.counts().await.unwrap().scheduled), (1200, 1200));
}

#[tokio::test]
async fn reject_takes_a_thousand_at_a_time() {
    let rig = Rig::new().await;
    let entries: Vec<(i64, String)> = (0..1300).map(|n| (n, format!("n{n}"))).collect();
    let _: i64 = rig.on_key("ZADD", "scheduled", &entries).await;
    for (moved, left) in [(1000, 300), (300, 0), (0, 0)] {
        assert_eq!(rig.when(T0).reject().await.unwrap(), moved);
        assert_eq!(rig.counts().await.unwrap().impossible, left);
    }
    assert_eq!(rig.counts().await.unwrap().dead, 1300);
}

#[tokio::test]
async fn a_damaged_record_hides_no_id_and_keeps_none_from_being_delivered() {
    let rig = Rig::new().await;
    for (name, record) in [("a", "no json"), ("b", "[1]"), ("c", "{\"failures\":\"many\"}")] {
        rig.put(name, T0, "").await;
        let _: i64 = rig.on_key("HSET", "attempts", (name, record)).await;
        assert!(rig.shown(name).await.is_some());
    }
    let claim = rig.claim_at(T0, 10).await;
    assert_eq!(claim.deliveries.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(rig.ack(&leases(&claim)).await.unwrap(), vec![Settled::Done; 3]);
    assert_eq!(rig.keys().await, ["meta"]);
}
