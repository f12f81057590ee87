//! Judges a history by the promises. Everything here is said of single registrations: an id and its deadline.

use std::collections::{BTreeMap, HashMap};

use overdue::types::Token;

use super::history::{Entry, Event, Outcome};

/// What a history says. The lists name what broke a promise; they are to be empty.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) registered: u64,
    pub(crate) cancelled: u64,
    /// Deliveries that a handler did its work for.
    pub(crate) handled: u64,
    /// P1: registered for certain, not cancelled, never handled.
    pub(crate) lost: Vec<String>,
    /// P2: handled or claimed before the deadline.
    pub(crate) early: Vec<String>,
    /// P3: claimed (or fired by a sink) after a cancel that had answered.
    pub(crate) after_cancel: Vec<String>,
    /// P4: settled with success under a lease that somebody else had taken over, or settled twice.
    pub(crate) stale_accepted: Vec<String>,
    /// P5: claimed while another lease was live.
    pub(crate) two_leases: Vec<String>,
    /// Handled though nobody registered it.
    pub(crate) invented: Vec<String>,
    /// Handlings beyond the first of a registration. At-least-once allows them after a fault.
    pub(crate) duplicates: u64,
    /// Handlings that had been claimed before a cancel and began after it: a delivery under way is not stopped.
    pub(crate) late_starts: u64,
    /// How late the first handling of each registration was, sorted, in ms.
    pub(crate) lateness_ms: Vec<i64>,
    pub(crate) strikes: BTreeMap<String, u64>,
}

impl Verdict {
    /// Everything that broke a promise, in words.
    pub(crate) fn violations(&self) -> Vec<String> {
        let lists = [
            ("lost", &self.lost),
            ("early", &self.early),
            ("handled after its cancel", &self.after_cancel),
            ("stale accepted", &self.stale_accepted),
            ("two live leases", &self.two_leases),
            ("invented", &self.invented),
        ];
        let named = |(what, list): (&str, &Vec<String>)| {
            (!list.is_empty())
                .then(|| format!("{what}: {} such as {:?}", list.len(), &list[..list.len().min(3)]))
        };
        lists.into_iter().filter_map(named).collect()
    }

    /// The lateness below which this share of the registrations were handled, in ms.
    pub(crate) fn lateness_at(&self, share: f64) -> Option<i64> {
        let last = self.lateness_ms.len().checked_sub(1)?;
        self.lateness_ms.get((last as f64 * share).round() as usize).copied()
    }
}

/// Which clocks can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Redis has this machine's clock: everything can be compared.
    Shared,
    /// Redis has a clock of its own, which a fault steps: nothing is compared with it. Lateness means nothing.
    Faked,
}

#[derive(Default)]
struct OfId<'a> {
    registered: Vec<&'a Entry>,
    cancelled: Vec<&'a Entry>,
    claimed: Vec<&'a Entry>,
    handled: Vec<&'a Entry>,
    settled: Vec<&'a Entry>,
}

/// Judges a history.
pub(crate) fn check(entries: &[Entry], clock: Clock) -> Verdict {
    let mut verdict = Verdict::default();
    let mut by_id: HashMap<&str, OfId<'_>> = HashMap::new();
    for entry in entries {
        match &entry.event {
            Event::Registered { id, .. } => by_id.entry(id).or_default().registered.push(entry),
            Event::Cancelled { id, .. } => by_id.entry(id).or_default().cancelled.push(entry),
            Event::Claimed { id, .. } => by_id.entry(id).or_default().claimed.push(entry),
            Event::Handled { id, .. } => by_id.entry(id).or_default().handled.push(entry),
            Event::Settled { id, .. } => by_id.entry(id).or_default().settled.push(entry),
            Event::Struck { fault } => *verdict.strikes.entry(fault.clone()).or_default() += 1,
        }
    }
    for (id, of_id) in &by_id {
        of_id.check(id, clock, &mut verdict);
    }
    verdict.lateness_ms.sort_unstable();
    verdict
}

impl OfId<'_> {
    fn check(&self, id: &str, clock: Clock, verdict: &mut Verdict) {
        verdict.cancelled += self.cancels().count() as u64;
        for entry in &self.registered {
            let Event::Registered { due_ms, outcome, .. } = entry.event else { continue };
            verdict.registered += u64::from(outcome != Outcome::Failed);
            self.check_registration(id, entry, due_ms, outcome, clock, verdict);
        }
        for (due_ms, _, _) in self.handlings() {
            if !self.registered.iter().any(|entry| entry.may_be_of(due_ms)) {
                verdict.invented.push(format!("{id} due {due_ms}"));
            }
        }
        if clock == Clock::Shared {
            self.check_claims(id, verdict);
        }
        self.check_settled(id, verdict);
    }

    /// The cancels that removed something.
    fn cancels(&self) -> impl Iterator<Item = &Entry> {
        let removed = |entry: &&&Entry| matches!(entry.event, Event::Cancelled { removed: true, .. });
        self.cancelled.iter().filter(removed).copied()
    }

    /// What handlers did their work for: deadline, token, entry.
    fn handlings(&self) -> impl Iterator<Item = (i64, Option<Token>, &Entry)> {
        self.handled.iter().filter_map(|entry| match entry.event {
            Event::Handled { due_ms, token, done: true, .. } => Some((due_ms, token, *entry)),
            _ => None,
        })
    }

    fn check_registration(
        &self,
        id: &str,
        registered: &Entry,
        due: i64,
        outcome: Outcome,
        clock: Clock,
        verdict: &mut Verdict,
    ) {
        let mut handlings: Vec<_> = self.handlings().filter(|(due_ms, ..)| *due_ms == due).collect();
        handlings.sort_by_key(|(_, _, entry)| entry.began_us);
        verdict.handled += handlings.len() as u64;
        verdict.duplicates += (handlings.len() as u64).saturating_sub(1);
        let named = format!("{id} due {due}");
        // A cancel, or another registration, that was not over when this one began may have taken its place.
        let may_be_later = |entry: &&&Entry| entry.ended_us >= registered.began_us;
        let taken_back = self.cancelled.iter().filter(may_be_later).any(|entry| match entry.event {
            Event::Cancelled { removed, outcome, .. } => removed || outcome == Outcome::Unknown,
            _ => false,
        });
        let superseded = self.registered.iter().filter(may_be_later).any(|entry| match entry.event {
            Event::Registered { due_ms, outcome, .. } => due_ms != due && outcome != Outcome::Failed,
            _ => false,
        });
        if handlings.is_empty() && outcome == Outcome::Ok && !taken_back && !superseded {
            verdict.lost.push(named.clone());
        }
        if clock == Clock::Faked {
            return;
        }
        if let Some((_, _, first)) = handlings.first() {
            verdict.lateness_ms.push(first.began_us / 1000 - due);
        }
        for (_, token, entry) in &handlings {
            let claimed_us = token.map_or(entry.began_us, |token| token.get() as i64);
            if entry.began_us / 1000 < due || claimed_us / 1000 < due {
                verdict.early.push(named.clone());
            }
            let cancel = self.cancels().find(|cancel| {
                cancel.began_us > registered.ended_us
                    && entry.began_us > cancel.ended_us
                    && !self.registered_again(registered, cancel, due)
            });
            if let Some(cancel) = cancel {
                if claimed_us > cancel.ended_us {
                    verdict.after_cancel.push(named.clone());
                } else {
                    verdict.late_starts += 1;
                }
            }
        }
    }

    /// True if the same deadline was registered once more around a cancel, so that the cancel may not have
    /// been its end.
    fn registered_again(&self, registered: &Entry, cancel: &Entry, due: i64) -> bool {
        let again = |entry: &&&Entry| {
            !std::ptr::eq(**entry, registered) && entry.may_be_of(due) && entry.ended_us > cancel.began_us
        };
        self.registered.iter().any(|entry| again(&entry))
    }

    /// P5, and P2 of in-process claims.
    fn check_claims(&self, id: &str, verdict: &mut Verdict) {
        let mut claims: Vec<(u64, i64, i64)> = Vec::new();
        for entry in &self.claimed {
            let Event::Claimed { due_ms, token, lease_end_us, .. } = entry.event else { continue };
            claims.push((token.get(), due_ms, lease_end_us));
            if (token.get() as i64) / 1000 < due_ms {
                verdict.early.push(format!("{id} due {due_ms}"));
            }
        }
        claims.sort_unstable();
        for pair in claims.windows(2) {
            let [(token, _, lease_end_us), (next, ..)] = *pair else { continue };
            let next_us = next as i64;
            // A lease ends early when it is settled or cancelled, or may have been.
            let ended = self.settled.iter().any(|entry| match entry.event {
                Event::Settled { token: settled, outcome, accepted, .. } => {
                    settled.get() == token
                        && (accepted || outcome == Outcome::Unknown)
                        && entry.began_us <= next_us
                }
                _ => false,
            });
            let cancelled = self
                .cancelled
                .iter()
                .any(|entry| entry.began_us <= next_us && entry.ended_us >= token as i64);
            if next_us < lease_end_us && !ended && !cancelled {
                verdict.two_leases.push(format!("{id}: {next} while {token} was live"));
            }
        }
    }

    /// P4: what was settled with success is settled once, and by nobody whose lease had passed on.
    fn check_settled(&self, id: &str, verdict: &mut Verdict) {
        let mut settled: Vec<u64> = Vec::new();
        for entry in &self.settled {
            let Event::Settled { token, accepted: true, .. } = entry.event else { continue };
            settled.push(token.get());
            let passed_on = self.claimed.iter().any(|claimed| match claimed.event {
                Event::Claimed { token: later, .. } => later > token && claimed.ended_us < entry.began_us,
                _ => false,
            });
            if passed_on {
                verdict.stale_accepted.push(format!("{id}: {token:?}"));
            }
        }
        settled.sort_unstable();
        if settled.windows(2).any(|pair| pair[0] == pair[1]) {
            verdict.stale_accepted.push(format!("{id}: settled twice under one token"));
        }
    }
}

impl Entry {
    /// True for a registration of this deadline that may have happened.
    fn may_be_of(&self, due: i64) -> bool {
        match self.event {
            Event::Registered { due_ms, outcome, .. } => due_ms == due && outcome != Outcome::Failed,
            _ => false,
        }
    }
}
