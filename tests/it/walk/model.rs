//! Where every id has to be after each verb: what the scripts promise, said again as plainly as possible.

use std::collections::{BTreeMap, HashMap};

use overdue::{
    queue::{Delivery, Lease, Mode},
    types::Token,
};

use crate::support::text;

/// What is remembered of the attempts of a registration.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Past {
    pub(super) due: i64,
    pub(super) first: Token,
    pub(super) failures: u32,
    pub(super) crashes: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) score: i64,
    /// With the score that it was written for: a foreign client may have moved the id since.
    pub(super) past: Option<(i64, Past)>,
}

#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) token: Token,
    pub(super) score: i64,
    pub(super) payload: Option<String>,
    pub(super) past: Past,
}

/// Where everything has to be.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) now: i64,
    pub(super) scheduled: BTreeMap<String, Waiting>,
    pub(super) leased: BTreeMap<String, Held>,
    pub(super) dead: BTreeMap<String, Past>,
    pub(super) payloads: BTreeMap<String, String>,
    pub(super) ends: HashMap<Token, i64>,
}

impl Model {
    pub(super) fn waiting(&mut self, id: &str, score: i64, past: Option<Past>) {
        self.scheduled.insert(id.to_owned(), Waiting { score, past: past.map(|past| (score, past)) });
    }

    /// Ends the lease, if that token has it. None: stale. Otherwise what it held, unless superseded.
    pub(super) fn unlease(&mut self, lease: &Lease) -> Option<Option<Held>> {
        let name = lease.id.as_str();
        let held = self.leased.get(name).filter(|held| held.token == lease.token).cloned()?;
        self.leased.remove(name);
        Some((!self.scheduled.contains_key(name)).then_some(held))
    }

    pub(super) fn put_back(&mut self, id: &str, payload: Option<String>) {
        if let Some(payload) = payload {
            self.payloads.entry(id.to_owned()).or_insert(payload);
        }
    }

    pub(super) fn register(&mut self, id: &str, due: i64, payload: &str, mode: Mode) {
        let old = self.scheduled.get(id).map(|waiting| waiting.score);
        let elsewhere = self.leased.contains_key(id) || self.dead.contains_key(id);
        let accepted = match (mode, old) {
            (Mode::Keep, None) => !elsewhere,
            (Mode::Replace, _) | (_, None) => true,
            (Mode::Keep, Some(_)) => false,
            (Mode::Earliest, Some(old)) => due < old,
            (Mode::Latest, Some(old)) => due > old,
        };
        if !accepted {
            return;
        }
        if !payload.is_empty() {
            self.payloads.insert(id.to_owned(), payload.to_owned());
        } else if old.is_none() {
            self.payloads.remove(id);
        }
        self.dead.remove(id);
        self.waiting(id, due, None);
    }

    fn lost(&self, held: &Held) -> bool {
        self.ends[&held.token] <= self.now
    }

    /// Takes over what Redis claimed, after checking that it was entitled to.
    pub(super) fn deliver(&mut self, delivery: &Delivery, lease_ms: i64) {
        let name = delivery.id.as_str();
        let (score, past, payload) = match self.leased.remove(name) {
            Some(held) => {
                assert!(self.lost(&held), "{name} is leased");
                if let Some(waiting) = self.scheduled.get(name).cloned() {
                    self.take(name, &waiting, delivery)
                } else {
                    let past = Past { crashes: held.past.crashes + 1, ..held.past };
                    (held.score, past, held.payload)
                }
            }
            None => {
                let waiting = self.scheduled.get(name).cloned();
                self.take(name, &waiting.expect("it is scheduled or was lost"), delivery)
            }
        };
        assert_eq!(delivery.due_at.as_ms(), past.due, "{name}");
        assert_eq!(delivery.attempt, past.failures + past.crashes + 1, "{name}");
        assert_eq!((delivery.failures, delivery.first_token), (past.failures, past.first), "{name}");
        assert_eq!(text(delivery.payload.as_ref()), payload.as_deref().unwrap_or_default(), "{name}");
        let token = delivery.token;
        self.ends.insert(token, self.now + lease_ms);
        self.leased.insert(name.to_owned(), Held { token, score, payload, past });
    }

    fn take(&mut self, name: &str, waiting: &Waiting, delivery: &Delivery) -> (i64, Past, Option<String>) {
        assert!(waiting.score <= self.now, "{name} is early");
        let fresh = Past { due: waiting.score, first: delivery.token, failures: 0, crashes: 0 };
        let past = waiting.past.clone().filter(|(score, _)| *score == waiting.score).map(|(_, past)| past);
        self.scheduled.remove(name);
        self.dead.remove(name);
        (waiting.score, past.unwrap_or(fresh), self.payloads.remove(name))
    }

    /// How many ids a claim without a limit would take.
    pub(super) fn claimable(&self) -> usize {
        let free = |id: &String| self.leased.get(id).is_none_or(|held| self.lost(held));
        let due = self.scheduled.iter().filter(|(id, waiting)| waiting.score <= self.now && free(id)).count();
        let lost =
            self.leased.iter().filter(|(id, held)| self.lost(held) && !self.scheduled.contains_key(*id));
        due + lost.count()
    }

    /// How many lost deliveries are over because their ids were registered anew.
    pub(super) fn superseded(&self) -> usize {
        self.leased.iter().filter(|(id, held)| self.lost(held) && self.scheduled.contains_key(*id)).count()
    }
}
