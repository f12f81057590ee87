//! The reference: what each verb has to do, said once more on plain maps, and as plainly as possible. This file has
//! the verbs of those who register and look after a queue, [`delivering`](super::delivering) the others.

use std::collections::BTreeMap;

use overdue::{
    DueAt, ServerTime,
    queue::{Cancelled, Counts, Mode, Rescheduled, Retried, Scheduled, Settled, SinkKind, State},
    types::Token,
};
use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use super::{
    stored::{Record, Stored},
    transition::{self, Hold, Item, Name, Score, Transition, Wanted},
};
use crate::support::{T0, at_ms};

/// The trace of every registration that has one.
pub(crate) const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What Redis has to hold and to answer.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) now: i64,
    pub(crate) sink: SinkKind,
    pub(crate) stored: Stored,
    /// What the last step has to answer.
    pub(crate) answer: Answer,
    /// Every token that ever held an id, in order.
    pub(super) tokens: BTreeMap<Name, Vec<u64>>,
}

/// What a step answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Nothing,
    Scheduled(Vec<Scheduled>),
    Rescheduled(Rescheduled),
    Cancelled(Vec<Cancelled>),
    Claimed(Claimed),
    Fired(Fired),
    Settled(Vec<Settled>),
    Retried(Vec<Retried>),
    Moved(u64),
    Changed(bool),
    Counted(Counts),
}

/// What a claim answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claimed {
    pub(crate) token: Option<u64>,
    pub(crate) deliveries: Vec<Handed>,
    pub(crate) next: Option<DueAt>,
    pub(crate) more: bool,
    pub(crate) impossible: u64,
}

/// What a sink answers. The canary, which a claim tells of too, has tests of its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fired {
    pub(crate) count: usize,
    pub(crate) earliest: Option<DueAt>,
    pub(crate) next: Option<DueAt>,
    pub(crate) more: bool,
    pub(crate) impossible: u64,
}

/// One id of a claim.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Handed {
    pub(crate) id: String,
    pub(crate) due_at: i64,
    pub(crate) attempt: u32,
    pub(crate) failures: u32,
    pub(crate) kills: u32,
    pub(crate) token: u64,
    pub(crate) first_token: u64,
    pub(crate) payload: Option<String>,
    pub(crate) trace: Option<String>,
}

impl ReferenceStateMachine for Reference {
    type State = Self;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<Self> {
        let begin = |sink| Self {
            now: T0,
            sink,
            stored: Stored::default(),
            answer: Answer::Nothing,
            tokens: BTreeMap::new(),
        };
        transition::sink().prop_map(begin).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Transition> {
        transition::next(state)
    }

    fn apply(mut state: Self, transition: &Transition) -> Self {
        state.answer = state.step(transition);
        state
    }
}

/// The earliest whole millisecond at which a score is due, if it can be one at all.
pub(super) fn due_of(score: f64) -> Option<i64> {
    DueAt::from_ms(score.ceil() as i64).ok().map(DueAt::as_ms)
}

fn known(score: f64) -> Option<DueAt> {
    due_of(score).map(at_ms)
}

impl Score {
    /// The number that it stands for.
    pub(crate) fn at(self, now: i64) -> f64 {
        match self {
            Self::In(ms) => (now + ms) as f64,
            Self::InAndABit(ms) => (now + ms) as f64 + 0.25,
            Self::Seconds => (now / 1000) as f64,
            Self::PastTheYear9999 => 253_402_300_800_000.0,
            Self::Infinite => f64::INFINITY,
            Self::MinusInfinite => f64::NEG_INFINITY,
        }
    }
}

impl Wanted {
    fn is_met_by(self, now: i64, score: Option<f64>) -> bool {
        match self {
            Self::Anything => true,
            Self::Absent => score.is_none(),
            Self::DueIn(ms) => score == Some((now + ms) as f64),
        }
    }
}

impl Reference {
    fn step(&mut self, transition: &Transition) -> Answer {
        match transition {
            Transition::Pass { ms } => {
                self.now += ms;
                Answer::Nothing
            }
            Transition::Zadd { id, score } => {
                self.stored.scheduled.insert((*id).to_owned(), score.at(self.now));
                Answer::Nothing
            }
            Transition::Hset { id, payload } => {
                self.stored.payloads.insert((*id).to_owned(), payload.clone());
                Answer::Nothing
            }
            Transition::Zrem { id } => Answer::Changed(self.stored.scheduled.remove(*id).is_some()),
            Transition::Schedule { mode, expected, items } => {
                Answer::Scheduled(items.iter().map(|item| self.schedule(*mode, *expected, item)).collect())
            }
            Transition::Reschedule { id, due_in, expected } => {
                Answer::Rescheduled(self.reschedule(id, self.now + due_in, *expected))
            }
            Transition::Cancel { ids } => Answer::Cancelled(ids.iter().map(|id| self.cancel(id)).collect()),
            Transition::Reject => Answer::Moved(self.reject()),
            Transition::RetryDead { ids } => {
                Answer::Settled(ids.iter().map(|id| settled(self.retry_dead(id))).collect())
            }
            Transition::DeleteDead { ids } => {
                Answer::Settled(ids.iter().map(|id| settled(self.forget_dead(id))).collect())
            }
            Transition::TrimDead { retention_ms } => Answer::Moved(self.trim_dead(*retention_ms)),
            Transition::Pause { paused } => {
                let was = std::mem::replace(&mut self.stored.paused, *paused);
                Answer::Changed(was != *paused)
            }
            Transition::Count => Answer::Counted(self.counts()),
            delivering => self.deliver(delivering),
        }
    }

    /// The token that a hold has, or had.
    pub(crate) fn token_of(&self, hold: Hold) -> u64 {
        let tokens = self.tokens.get(hold.id).map(Vec::as_slice).unwrap_or_default();
        tokens.len().checked_sub(hold.back + 1).map_or(1, |at| tokens[at])
    }

    /// The holds that are in force.
    pub(super) fn live_holds(&self) -> impl Iterator<Item = Hold> {
        transition::NAMES
            .into_iter()
            .filter(|id| self.stored.leased.contains_key(*id))
            .map(|id| Hold { id, back: 0 })
    }

    /// When deadlines are, and leases end.
    pub(super) fn instants(&self) -> impl Iterator<Item = i64> {
        let deadlines = self.stored.scheduled.values().filter_map(|score| due_of(*score));
        deadlines.chain(self.stored.ends.values().copied())
    }

    fn schedule(&mut self, mode: Mode, expected: Wanted, item: &Item) -> Scheduled {
        let (id, due, stored) = (item.id.to_owned(), self.now + item.due_in, &mut self.stored);
        // An impossible score counts as none.
        let old = stored.scheduled.get(&id).and_then(|score| due_of(*score));
        let held = old.map(at_ms);
        if !expected.is_met_by(self.now, old.map(|old| old as f64)) {
            return Scheduled::Conflict { due_at: held };
        }
        let elsewhere = match () {
            () if stored.leased.contains_key(&id) => Some(State::Leased),
            () if stored.dead.contains_key(&id) => Some(State::Dead),
            () => None,
        };
        let keeps = match (mode, old) {
            (Mode::Keep, None) => elsewhere,
            (Mode::Keep, Some(_)) => Some(State::Scheduled),
            (Mode::Earliest, Some(old)) => (due >= old).then_some(State::Scheduled),
            (Mode::Latest, Some(old)) => (due <= old).then_some(State::Scheduled),
            (Mode::Replace, _) | (_, None) => None,
        };
        if let Some(state) = keeps {
            return Scheduled::Kept { due_at: held, state };
        }

        if let Some(payload) = &item.payload {
            stored.payloads.insert(id.clone(), payload.clone());
        } else if old.is_none() {
            stored.payloads.remove(&id);
        }
        stored.records.remove(&id);
        if item.traced {
            stored.records.insert(id.clone(), traced(due));
        }
        stored.dead.remove(&id);
        stored.scheduled.insert(id, due as f64);
        match held {
            None => Scheduled::Created { due_at: at_ms(due) },
            old => Scheduled::Replaced { due_at: at_ms(due), old },
        }
    }

    fn reschedule(&mut self, id: Name, due: i64, expected: Wanted) -> Rescheduled {
        let stored = &mut self.stored;
        let Some(old) = stored.scheduled.get(id).copied() else {
            return match () {
                () if stored.leased.contains_key(id) => Rescheduled::InFlight,
                () if stored.dead.contains_key(id) => Rescheduled::Dead,
                () => Rescheduled::NotFound,
            };
        };
        if !expected.is_met_by(self.now, Some(old)) {
            return Rescheduled::Conflict { due_at: known(old) };
        }
        stored.scheduled.insert(id.to_owned(), due as f64);
        if let Some(record) = stored.records.remove(id)
            && record.trace.is_some()
            && record.retry == Some(old)
        {
            stored.records.insert(id.to_owned(), traced(due));
        }
        stored.dead.remove(id);
        Rescheduled::Moved { due_at: at_ms(due), old: known(old) }
    }

    fn cancel(&mut self, id: Name) -> Cancelled {
        let stored = &mut self.stored;
        let (score, held) = (stored.scheduled.remove(id), stored.leased.get(id).cloned());
        if score.is_none() && held.is_none() {
            return if stored.dead.contains_key(id) { Cancelled::Dead } else { Cancelled::NotFound };
        }
        stored.payloads.remove(id);
        stored.dead.remove(id);
        let record = stored.records.remove(id);
        if let Some(held) = held {
            let left = (stored.ends[&held.token] - self.now).max(0);
            self.unlease(id);
            let lease_left = std::time::Duration::from_millis(left as u64);
            return Cancelled::InFlight { token: Token::new(held.token), lease_left };
        }
        let retries = record.filter(|record| record.retry == score).and_then(|record| record.due);
        Cancelled::Cancelled { due_at: retries.map(at_ms).or(score.and_then(known)) }
    }

    fn reject(&mut self) -> u64 {
        let impossible =
            |(_, score): &(&String, &f64)| **score < DueAt::MIN_MS as f64 || **score > DueAt::MAX_MS as f64;
        let found: Vec<(String, f64)> = self
            .stored
            .scheduled
            .iter()
            .filter(impossible)
            .filter(|(id, _)| !self.stored.leased.contains_key(*id))
            .map(|(id, score)| (id.clone(), *score))
            .collect();
        for (id, score) in &found {
            let why = match *score < DueAt::MIN_MS as f64 {
                true => "it is below 1e11, as a time in seconds is",
                false => "it is past the year 9999",
            };
            let error = format!("score {score} cannot be milliseconds since the epoch: {why}");
            let reason = Some("impossible_score".to_owned());
            let record = Record { reason, error: Some(error), ..Record::default() };
            self.stored.scheduled.remove(id);
            self.stored.records.insert(id.clone(), record);
            self.stored.dead.insert(id.clone(), self.now);
        }
        found.len() as u64
    }

    fn retry_dead(&mut self, id: Name) -> bool {
        let (stored, now) = (&mut self.stored, self.now as f64);
        if stored.dead.remove(id).is_none() {
            return false;
        }
        let record = stored.records.remove(id).filter(|record| record.due.is_some());
        let scheduled = stored.scheduled.contains_key(id);
        if let Some(record) = record.filter(|_| !scheduled) {
            let fresh = Record {
                failures: 0,
                crashes: 0,
                kills: 0,
                retry: Some(now),
                reason: None,
                error: None,
                ..record
            };
            stored.records.insert(id.to_owned(), fresh);
        }
        stored.scheduled.entry(id.to_owned()).or_insert(now);
        true
    }

    fn forget_dead(&mut self, id: &str) -> bool {
        let stored = &mut self.stored;
        let was_dead = stored.dead.remove(id).is_some();
        if was_dead && !stored.scheduled.contains_key(id) {
            stored.records.remove(id);
            stored.payloads.remove(id);
        }
        was_dead
    }

    fn trim_dead(&mut self, retention_ms: i64) -> u64 {
        let before = self.now - retention_ms;
        let old = self.stored.dead.iter().filter(|(_, at)| **at < before);
        let old: Vec<String> = old.map(|(id, _)| id.clone()).collect();
        for id in &old {
            self.forget_dead(id);
        }
        old.len() as u64
    }

    fn counts(&self) -> Counts {
        let stored = &self.stored;
        let deadlines = || stored.scheduled.values().filter_map(|score| due_of(*score));
        Counts {
            now: ServerTime::from_ms(self.now),
            scheduled: stored.scheduled.len() as u64,
            due: deadlines().filter(|due| *due <= self.now).count() as u64,
            leased: stored.leased.len() as u64,
            lost_leases: stored.ends.values().filter(|end| **end <= self.now).count() as u64,
            dead: stored.dead.len() as u64,
            impossible: self.impossible(),
            next_due_at: deadlines().min().map(at_ms),
            paused: stored.paused,
        }
    }

    pub(super) fn impossible(&self) -> u64 {
        self.stored.scheduled.values().filter(|score| due_of(**score).is_none()).count() as u64
    }

    /// Ends the lease of an id, and that of its claim with the last one.
    pub(super) fn unlease(&mut self, id: &str) {
        let Stored { leased, ends, .. } = &mut self.stored;
        if let Some(gone) = leased.remove(id)
            && !leased.values().any(|held| held.token == gone.token)
        {
            ends.remove(&gone.token);
        }
    }
}

fn traced(due: i64) -> Record {
    Record { trace: Some(TRACE.to_owned()), retry: Some(due as f64), ..Record::default() }
}

pub(super) fn settled(done: bool) -> Settled {
    if done { Settled::Done } else { Settled::Stale }
}
