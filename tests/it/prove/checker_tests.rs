//! The checker finds what it is there to find: histories made by hand, one for each way to break a promise.

use overdue::Token;

use super::{
    checker::{Clock, Verdict, check},
    history::{Entry, Event, Outcome, Verb},
};

/// The deadline of the one id, in ms. Times below are in ms after it.
const DUE: i64 = 1_767_225_600_000;

fn at(began_ms: i64, ended_ms: i64, event: Event) -> Entry {
    Entry { began_us: (DUE + began_ms) * 1000, ended_us: (DUE + ended_ms) * 1000, event }
}

fn token(ms: i64) -> Token {
    Token::new(((DUE + ms) * 1000) as u64)
}

fn registered(outcome: Outcome) -> Entry {
    at(-1000, -999, Event::Registered { id: "a".into(), due_ms: DUE, outcome })
}

fn cancelled(began_ms: i64, ended_ms: i64, removed: bool, outcome: Outcome) -> Entry {
    at(began_ms, ended_ms, Event::Cancelled { id: "a".into(), removed, in_flight: false, outcome })
}

/// Handled `ms` after the deadline, under a claim a millisecond before.
fn handled(ms: i64, claimed_ms: i64) -> Entry {
    let token = Some(token(claimed_ms));
    at(ms, ms + 1, Event::Handled { id: "a".into(), due_ms: DUE, token, done: true })
}

fn claimed(ms: i64, lease_ms: i64) -> Entry {
    let lease_end_us = (DUE + ms + lease_ms) * 1000;
    at(ms, ms, Event::Claimed { id: "a".into(), due_ms: DUE, token: token(ms), lease_end_us })
}

fn acked(ms: i64, claimed_ms: i64, accepted: bool) -> Entry {
    let (token, verb, outcome) = (token(claimed_ms), Verb::Ack, Outcome::Ok);
    at(ms, ms, Event::Settled { id: "a".into(), due_ms: DUE, token, verb, accepted, outcome })
}

fn judged(entries: &[Entry]) -> Verdict {
    check(entries, Clock::Shared)
}

#[test]
fn a_history_without_fault_has_no_violations() {
    let verdict = judged(&[registered(Outcome::Ok), claimed(0, 100), handled(3, 0), acked(5, 0, true)]);
    assert_eq!(verdict.violations(), [""; 0]);
    assert_eq!((verdict.registered, verdict.handled, verdict.duplicates), (1, 1, 0));
    assert_eq!(verdict.lateness_at(0.5), Some(3));
}

#[test]
fn what_was_registered_and_never_handled_is_lost() {
    assert_eq!(judged(&[registered(Outcome::Ok)]).lost.len(), 1);
    // Nobody knows, or somebody took it back, or may have.
    assert!(judged(&[registered(Outcome::Unknown)]).lost.is_empty());
    assert!(judged(&[registered(Outcome::Ok), cancelled(-9, -8, true, Outcome::Ok)]).lost.is_empty());
    assert!(judged(&[registered(Outcome::Ok), cancelled(-9, -8, false, Outcome::Unknown)]).lost.is_empty());
    // A cancel that found nothing, and one that was over before, took nothing back.
    assert_eq!(judged(&[registered(Outcome::Ok), cancelled(-9, -8, false, Outcome::Ok)]).lost.len(), 1);
    assert_eq!(judged(&[registered(Outcome::Ok), cancelled(-2000, -1999, true, Outcome::Ok)]).lost.len(), 1);
}

#[test]
fn a_handling_that_did_not_do_its_work_does_not_count() {
    let failed = at(1, 2, Event::Handled { id: "a".into(), due_ms: DUE, token: None, done: false });
    assert_eq!(judged(&[registered(Outcome::Ok), failed]).lost.len(), 1);
}

#[test]
fn what_began_before_the_deadline_is_early() {
    assert_eq!(judged(&[registered(Outcome::Ok), handled(-1, -2)]).early.len(), 1);
    assert_eq!(judged(&[registered(Outcome::Ok), handled(1, -1)]).early.len(), 1, "claimed before it");
    assert!(check(&[registered(Outcome::Ok), handled(1, -1)], Clock::Faked).early.is_empty());
}

#[test]
fn what_was_claimed_after_a_cancel_breaks_the_promise_and_what_was_under_way_does_not() {
    let cancel = cancelled(1, 2, true, Outcome::Ok);
    let after = judged(&[registered(Outcome::Ok), cancel.clone(), handled(4, 3)]);
    assert_eq!((after.after_cancel.len(), after.late_starts), (1, 0));
    let under_way = judged(&[registered(Outcome::Ok), cancel.clone(), handled(4, 0)]);
    assert_eq!((under_way.after_cancel.len(), under_way.late_starts), (0, 1));
    let again = at(3, 4, Event::Registered { id: "a".into(), due_ms: DUE, outcome: Outcome::Ok });
    let anew = judged(&[registered(Outcome::Ok), cancel, again, handled(6, 5)]);
    assert!(anew.after_cancel.is_empty(), "{anew:?}");
}

#[test]
fn what_nobody_registered_is_invented() {
    assert_eq!(judged(&[registered(Outcome::Failed), handled(2, 1)]).invented.len(), 1);
    assert!(judged(&[registered(Outcome::Unknown), handled(2, 1)]).invented.is_empty());
}

#[test]
fn a_second_handling_is_a_duplicate() {
    assert_eq!(judged(&[registered(Outcome::Ok), handled(2, 1), handled(12, 11)]).duplicates, 1);
}

#[test]
fn a_settlement_after_the_lease_passed_on_is_stale() {
    let entries = [registered(Outcome::Ok), claimed(0, 100), claimed(101, 100), acked(105, 0, true)];
    assert_eq!(judged(&entries).stale_accepted.len(), 1);
    let refused = [registered(Outcome::Ok), claimed(0, 100), claimed(101, 100), acked(105, 0, false)];
    assert!(judged(&refused).stale_accepted.is_empty());
    let twice = [registered(Outcome::Ok), claimed(0, 100), acked(5, 0, true), acked(6, 0, true)];
    assert_eq!(judged(&twice).stale_accepted.len(), 1);
}

#[test]
fn a_claim_under_a_live_lease_is_a_second_lease() {
    assert_eq!(judged(&[registered(Outcome::Ok), claimed(0, 100), claimed(99, 100)]).two_leases.len(), 1);
    let settled = [registered(Outcome::Ok), claimed(0, 100), acked(50, 0, true), claimed(99, 100)];
    assert!(judged(&settled).two_leases.is_empty());
}
