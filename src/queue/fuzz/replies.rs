//! Every verb against every reply: it answers one verdict for each item and only what is within the contract, or an
//! [`Error::Reply`] that names the script. Good replies are read as what they say.

use std::{collections::HashSet, time::Duration};

use proptest::{collection::vec, sample::Index};

use super::*;
use crate::redis::{
    ScanCursor,
    lying::{Liar, bulk, ints},
};

const MS: std::ops::Range<i64> = DueAt::MIN_MS..DueAt::MAX_MS;

fn ids(count: usize) -> Vec<Id> {
    (0..count).map(|n| Id::new(format!("id-{n}")).expect("an id")).collect()
}

fn leases() -> Vec<Lease> {
    ids(3).into_iter().map(|id| Lease { id, token: Token::new(7) }).collect()
}

fn ms() -> impl Strategy<Value = Value> + Clone {
    MS.prop_map(Value::Int)
}

fn score() -> impl Strategy<Value = Value> + Clone {
    prop_oneof![4 => MS.prop_map(|ms| bulk(ms.to_string())), 1 => Just(bulk("inf")), 1 => Just(Value::Nil)]
}

fn small() -> BoxedStrategy<Value> {
    (0..3i64).prop_map(Value::Int).boxed()
}

fn string() -> impl Strategy<Value = Value> + Clone {
    bytes(2).prop_map(bulk)
}

fn or_nil(value: impl Strategy<Value = Value> + Clone) -> impl Strategy<Value = Value> + Clone {
    prop_oneof![2 => value, 1 => Just(Value::Nil)]
}

/// As `lib.lua` writes it, and as somebody may have damaged it.
fn record() -> impl Strategy<Value = Value> + Clone {
    let sound = (MS, 0..9u32, any::<u32>(), 1..u64::MAX).prop_map(|(due, failures, crashes, first)| {
        format!(r#"{{"due":"{due}","retry":"{due}","failures":{failures},"crashes":{crashes},"first":"{first}","reason":"rejected","error":"no\nway"}}"#)
    });
    prop_oneof![2 => sound, 1 => mutated_text("\\{\"failures\":[0-9]{1,3},\"due\":\"[0-9]{13}\"\\}")]
        .prop_map(bulk)
}

fn array(parts: impl Strategy<Value = Vec<Value>> + Clone) -> impl Strategy<Value = Value> + Clone {
    parts.prop_map(Value::Array)
}

fn codes(len: usize) -> BoxedStrategy<Value> {
    vec(prop_oneof![-2..8i64, MS], len).prop_map(ints).boxed()
}

/// As `claim` packs it, and as it may be damaged.
fn batch(count: usize) -> BoxedStrategy<Value> {
    let score = prop_oneof![4 => MS.prop_map(|ms| ms.to_string().into_bytes()), 1 => Just(b"inf".to_vec())];
    let parts = (vec((bytes(2), score), count), vec((bytes(2), bytes(3)), 0..=count));
    let sound = parts.prop_map(|(entries, payloads)| packed::tests::pack(&entries, &payloads));
    let damaged = (sound.clone(), any::<Index>(), any::<u8>()).prop_map(|(mut batch, place, byte)| {
        let place = place.index(batch.len());
        batch[place] = byte;
        batch
    });
    prop_oneof![4 => sound, 1 => damaged, 1 => bytes(6)].prop_map(bulk).boxed()
}

fn claim_form() -> BoxedStrategy<Value> {
    (0..4usize)
        .prop_flat_map(|count| {
            let records = prop_oneof![Just(Value::Array(Vec::new())), array(vec(or_nil(record()), count))];
            let head = (any::<i64>().prop_map(Value::Int), ms(), score(), small(), small());
            let canary = "[0-9]{1,3} [0-9]{1,3} 17[0-9]{11}".prop_map(bulk);
            (head, batch(count), records, canary, shards()).prop_map(
                |((now, token, next, impossible, more), batch, records, canary, shards)| {
                    let none = Value::Array(Vec::new());
                    let found = Value::Nil;
                    Value::Array(vec![
                        now, token, next, impossible, more, batch, none, records, found, canary, shards,
                    ])
                },
            )
        })
        .boxed()
}

/// As `meta` has them.
fn shards() -> BoxedStrategy<Value> {
    prop_oneof![mutated_text("[1-9][0-9]{0,3} [1-9] [1-9] [01]").prop_map(bulk), Just(Value::Nil)].boxed()
}

fn list_form() -> BoxedStrategy<Value> {
    let row = (string(), score(), or_nil(record()), score(), score(), or_nil(string())).prop_map(
        |(id, score, record, claimed, end, payload)| vec![id, score, record, claimed, end, payload],
    );
    (small(), vec(row, 0..4))
        .prop_map(|(more, rows)| Value::Array(vec![more, Value::Array(rows.concat())]))
        .boxed()
}

fn show_form() -> BoxedStrategy<Value> {
    (ms(), score(), or_nil(ms()), score(), score(), score(), or_nil(record()), or_nil(string()))
        .prop_map(|(now, at, token, end, claimed, buried, record, payload)| {
            Value::Array(vec![now, at, token, end, claimed, buried, record, payload])
        })
        .boxed()
}

fn numbers_with_score_at(place: usize, len: usize) -> BoxedStrategy<Value> {
    (vec(small(), len), score())
        .prop_map(move |(mut numbers, score)| {
            numbers[place] = score;
            Value::Array(numbers)
        })
        .boxed()
}

/// What is shown has no control character but in texts that people have written.
fn check_row(row: &Shown) {
    assert!(!row.id.contains(char::is_control), "{row:?}");
    assert!(row.valid_id.as_ref().is_none_or(|id| id.as_str() == row.id), "{row:?}");
    serde_json::to_string(row).expect("a JSON form");
}

/// A server, and the queue that asks it.
fn set_up() -> (Liar, Queue) {
    let liar = Liar::start();
    let queue = Queue::new(liar.redis.clone(), "overdue", QueueName::new("orders").unwrap());
    (liar, queue)
}

const SECOND: Duration = Duration::from_secs(1);
const IN_A_SECOND: Due = Due::In(SECOND);

#[test]
fn the_verbs_of_those_who_register() {
    let (liar, queue) = set_up();
    let registration = |id| Registration { id, due: IN_A_SECOND, payload: None };
    let registrations: Vec<_> = ids(2).into_iter().map(registration).collect();
    let schedule = async || queue.schedule(&registrations, Mode::Replace, Expected::Anything).await;
    liar.tell(&["schedule"], &[codes(6)], schedule, |answers| assert_eq!(answers.len(), 2));
    let reschedule = async || queue.reschedule(&ids(1)[0], IN_A_SECOND, Expected::Anything).await;
    liar.tell(&["reschedule"], &[codes(3)], reschedule, drop);
    let cancel = async || queue.cancel(&ids(2)).await;
    liar.tell(&["cancel"], &[codes(6)], cancel, |answers| assert_eq!(answers.len(), 2));
    let candidates: Vec<_> = ids(2).into_iter().map(|id| Candidate { key: id.to_string(), id }).collect();
    let shard = queue.shard(0);
    let adopt = async || shard.adopt(&candidates, Takeover::Move).await;
    liar.tell(&["adopt"], &[codes(4)], adopt, |answers| assert_eq!(answers.len(), 2));
}

#[test]
fn the_verbs_of_those_who_claim() {
    let (liar, queue) = set_up();
    let claim = async || queue.claim(10, SECOND).await;
    liar.tell(&["claim"], &[claim_form()], claim, |claim| {
        let some = !claim.deliveries.is_empty() || !claim.unreadable.is_empty();
        assert!(!some || claim.token.is_some(), "ids without a token");
        for delivery in &claim.deliveries {
            assert_eq!(Some(delivery.token), claim.token);
            assert!(delivery.attempt > 0 && Id::new(delivery.id.as_str()).is_ok());
        }
        for unreadable in &claim.unreadable {
            readable(&unreadable.error).unwrap();
        }
    });
    for (kind, script) in [(SinkKind::Stream, "fire_stream"), (SinkKind::List, "fire_list")] {
        let fire = async || queue.fire(Sink { kind, max_len: None }, 10, None).await;
        liar.tell(&[script], &[numbers_with_score_at(2, 6)], fire, drop);
    }
    liar.tell(&["begin"], &[small()], async || queue.begin(&leases()[0]).await, drop);
    liar.tell(&["reject"], &[small()], async || queue.reject().await, drop);
}

#[test]
fn the_verbs_of_those_who_settle() {
    let (liar, queue) = set_up();
    let three = |answers: usize| assert_eq!(answers, 3, "not one answer for each item");
    liar.tell(&["ack"], &[codes(3)], async || queue.ack(&leases()).await, |answers| three(answers.len()));
    let tokens = [Token::new(7); 3];
    liar.tell(&["ack"], &[codes(3)], async || queue.ack_claims(&tokens).await, |counts| three(counts.len()));
    liar.tell(
        &["release"],
        &[codes(3)],
        async || queue.release(&leases()).await,
        |answers| three(answers.len()),
    );
    let retry = |lease| Retry { lease, delay: SECOND, error: "no".to_owned() };
    let retries: Vec<_> = leases().into_iter().map(retry).collect();
    liar.tell(
        &["retry"],
        &[codes(3)],
        async || queue.retry(&retries, 3).await,
        |answers| three(answers.len()),
    );
    let rejected = |Lease { id, token }: Lease| {
        let (id, error) = (id.as_str().into(), String::new());
        Rejected { id, token, reason: "rejected", error }
    };
    let rejected: Vec<_> = leases().into_iter().map(rejected).collect();
    liar.tell(&["bury"], &[codes(3)], async || queue.bury(&rejected).await, |answers| three(answers.len()));
    let tokens = [1, 2, 3].map(Token::new);
    let extend = async || queue.extend(&tokens, SECOND).await;
    liar.tell(&["extend"], &[codes(3)], extend, |answers| three(answers.len()));
    let extend_ids = async || queue.extend_ids(&leases(), SECOND).await;
    liar.tell(&["extend"], &[codes(3)], extend_ids, |answers| three(answers.len()));
}

#[test]
fn the_verbs_of_those_who_look_after_a_queue() {
    let (liar, queue) = set_up();
    // As a whole it would ask for its shards now and then.
    let queue = queue.shard(0);
    let two = |answers: Vec<Settled>| assert_eq!(answers.len(), 2, "not one answer for each item");
    liar.tell(&["retry_dead"], &[codes(2)], async || queue.retry_dead(&ids(2)).await, two);
    liar.tell(&["delete_dead"], &[codes(2)], async || queue.delete_dead(&ids(2)).await, two);
    liar.tell(&["trim_dead"], &[small()], async || queue.trim_dead(SECOND).await, drop);
    liar.tell(&["pause"], &[small()], async || queue.pause(true).await, drop);
    liar.tell(&["EXISTS"], &[small()], async || queue.exists().await, drop);
    liar.tell(&["counts"], &[numbers_with_score_at(7, 9)], async || queue.counts().await, drop);
    let show = async || queue.show(&ids(1)[0]).await;
    liar.tell(&["show"], &[show_form()], show, |shown| shown.iter().for_each(check_row));
    let list = async || queue.list_with_payloads(State::Leased, 10, None).await;
    liar.tell(&["list"], &[list_form()], list, |page| page.rows.iter().for_each(check_row));
    let list_where = async || queue.list_where(State::Dead, 2, None, |row| row.id.len() < 5).await;
    liar.tell(&["list"], &[list_form()], list_where, |page| assert!(page.rows.len() <= 2));
    liar.tell(
        &["list"],
        &[list_form()],
        async || queue.list(State::Scheduled, 10, None).await,
        |page| {
            let again = page.next.map(|cursor| (cursor.to_string().parse(), cursor));
            assert!(
                again.is_none_or(|(again, cursor)| again == Ok(cursor)),
                "a cursor that is not read again"
            );
        },
    );
}

#[test]
fn what_tells_whether_a_queue_is_whole() {
    let (liar, queue) = set_up();
    const WORDS: [&str; 4] = ["scheduled_and_dead", "not_in_batch", "payload_of_nobody", "no_such_finding"];
    let pair = (proptest::sample::select(&WORDS[..]), string()).prop_map(|(word, id)| [bulk(word), id]);
    let found = vec(pair, 0..4).prop_map(|pairs| Value::Array(pairs.concat()));
    let verified = (string(), 0..1000i64, found)
        .prop_map(|(next, count, found)| Value::Array(vec![next, Value::Int(count), found]))
        .boxed();
    liar.tell(
        &["verify"],
        std::slice::from_ref(&verified),
        async || queue.verify(Part::Leased, None, true).await,
        drop,
    );
    let orphans = [b"a".to_vec()];
    liar.tell(&["verify"], &[verified], async || queue.verify_orphans(&orphans, false).await, drop);
    let looked = vec(prop_oneof![3 => score(), 1 => string()], 8).prop_map(Value::Array).boxed();
    let ids = ["a", "b"].map(|id| Id::new(id).unwrap());
    liar.tell(&["look"], &[looked], async || queue.look(&ids).await, |shown| assert_eq!(shown.len(), 2));
}

#[test]
fn what_is_asked_without_a_script() {
    let (liar, queue) = set_up();
    let two_numbers = vec(any::<i64>().prop_map(|n| bulk(n.to_string())), 2).prop_map(Value::Array).boxed();
    liar.tell(&["TIME"], &[two_numbers], async || queue.redis().time().await, drop);
    let page = (any::<u64>(), vec(string(), 0..4));
    let page =
        page.prop_map(|(next, keys)| Value::Array(vec![bulk(next.to_string()), Value::Array(keys)])).boxed();
    let scan = async || queue.redis().scan(ScanCursor::START, "*").await;
    liar.tell(&["SCAN"], &[page], scan, |page| assert!(page.keys.is_sorted()));
    liar.tell(&["DBSIZE"], &[small()], async || queue.redis().key_count().await, drop);
}

/// One id of a claim as the script would answer it.
#[derive(Debug, Clone)]
struct Claimed {
    id: String,
    due_ms: i64,
    payload: Option<String>,
    /// Failures, crashes, token of the first claim.
    past: Option<(u32, u32, u64)>,
}

fn claimed() -> impl Strategy<Value = Claimed> {
    let id = text(2).prop_filter("an id", |text| Id::new(text).is_ok());
    let payload = proptest::option::of(text(3).prop_filter("a payload", |text| !text.is_empty()));
    let past = proptest::option::of((0..9u32, 0..9u32, 1..1u64 << 53));
    (id, MS, payload, past).prop_map(|(id, due_ms, payload, past)| Claimed { id, due_ms, payload, past })
}

#[test]
fn a_claim_is_read_as_the_script_says_it() {
    let (liar, queue) = set_up();
    let different = |claimed: &Vec<Claimed>| {
        let ids: HashSet<_> = claimed.iter().map(|one| &one.id).collect();
        ids.len() == claimed.len()
    };
    let claimed = vec(claimed(), 1..5).prop_filter("an id is in a claim once", different);
    run(200, (claimed, 0..1i64 << 53, 1..1i64 << 53), |(claimed, now_us, token)| {
        let pair = |id: &str, text: String| (id.into(), text.into());
        let entries: Vec<_> = claimed.iter().map(|one| pair(&one.id, one.due_ms.to_string())).collect();
        let payloads = claimed.iter().filter_map(|one| Some(pair(&one.id, one.payload.clone()?)));
        let batch = bulk(packed::tests::pack(&entries, &payloads.collect::<Vec<_>>()));
        let record = |(failures, crashes, first): (u32, u32, u64)| {
            bulk(format!(r#"{{"failures":{failures},"crashes":{crashes},"first":"{first}"}}"#))
        };
        let records = claimed.iter().map(|one| one.past.map_or(Value::Nil, record)).collect();
        let reply = [Value::Int(now_us), Value::Int(token), Value::Nil, Value::Int(0), Value::Int(1)];
        let ids = [batch, Value::Array(Vec::new()), Value::Array(records)];
        let canary = [Value::Nil, bulk("17 1 1767225600000")];
        let reply = Value::Array(reply.into_iter().chain(ids).chain(canary).chain([Value::Nil]).collect());
        let (claim, heard) = liar.ask(&[reply], queue.claim(10, Duration::from_secs(1)));
        let claim = claim.unwrap();
        prop_assert_eq!((heard.len(), &heard[0][0][..]), (1, &b"EVALSHA"[..]));
        prop_assert_eq!(claim.token, Some(Token::new(token.unsigned_abs())));
        prop_assert_eq!((claim.deliveries.len(), claim.more), (claimed.len(), true));
        for (delivery, one) in claim.deliveries.iter().zip(claimed) {
            let (failures, crashes, first) = one.past.unwrap_or((0, 0, token.unsigned_abs()));
            prop_assert_eq!(delivery.id.as_str(), one.id);
            prop_assert_eq!(delivery.due_at.as_ms(), one.due_ms);
            prop_assert_eq!(delivery.payload.as_ref().map(Payload::as_str), one.payload.as_deref());
            prop_assert_eq!((delivery.attempt, delivery.failures), (failures + crashes + 1, failures));
            prop_assert_eq!(delivery.first_token.get(), first);
        }
        Ok(())
    });
}
