//! The promises, held against one step: what Redis held before and after it, and what it answered. They know nothing of
//! the reference, so a mistake that reference and scripts have in common does not pass.

use overdue::{
    DueAt,
    queue::{Cancelled, Retried, Scheduled, Settled},
};
use proptest::{prelude::*, test_runner::TestCaseResult};

use super::{
    reference::{Answer, Reference},
    stored::Stored,
    transition::{Hold, Transition},
};

/// What one step did.
pub(super) struct Step<'a> {
    /// For the time, and for which token a hold means.
    pub(super) reference: &'a Reference,
    pub(super) transition: &'a Transition,
    pub(super) answer: &'a Answer,
    pub(super) before: &'a Stored,
    pub(super) after: &'a Stored,
}

/// Fails with the number of a promise that the step broke.
pub(super) fn kept(step: &Step) -> TestCaseResult {
    step.nothing_is_lost()?;
    step.nothing_comes_back()?;
    step.what_is_handed_out_may_be()?;
    step.only_holders_are_heard()?;
    step.every_lease_ends()
}

impl Step<'_> {
    /// P1: an id leaves the queue, and a registration its place, only by what may end it.
    fn nothing_is_lost(&self) -> TestCaseResult {
        for id in self.before.ids().filter(|id| !self.after.has(id)) {
            prop_assert!(self.may_end(id), "P1: {id} is lost");
        }
        for id in self.before.scheduled.keys().filter(|id| !self.after.scheduled.contains_key(*id)) {
            let went_on = self.was_claimed(id) || self.after.dead.contains_key(id);
            prop_assert!(
                went_on || self.was_called_off(id) || self.was_fired(id),
                "P1: the new {id} is lost"
            );
        }
        Ok(())
    }

    fn may_end(&self, id: &str) -> bool {
        let said_done = match self.transition {
            Transition::Ack { .. } => self.heard().any(|hold| hold.id == id),
            Transition::AckClaim { hold } => self.before.holds(id, self.reference.token_of(*hold)),
            _ => false,
        };
        let acked = said_done && !self.before.scheduled.contains_key(id);
        let deleted = match (self.transition, self.answer) {
            (Transition::DeleteDead { ids }, Answer::Settled(verdicts)) => {
                ids.iter().zip(verdicts).any(|(name, verdict)| *name == id && *verdict == Settled::Done)
            }
            (Transition::TrimDead { retention_ms }, _) => {
                self.before.dead.get(id).is_some_and(|at| at + retention_ms < self.reference.now)
            }
            _ => false,
        };
        acked || deleted || self.was_called_off(id) || self.was_fired(id)
    }

    fn was_called_off(&self, id: &str) -> bool {
        match (self.transition, self.answer) {
            (Transition::Zrem { id: name }, _) => *name == id,
            (Transition::Cancel { ids }, Answer::Cancelled(verdicts)) => {
                let went = |verdict: &Cancelled| {
                    matches!(verdict, Cancelled::Cancelled { .. } | Cancelled::InFlight { .. })
                };
                ids.iter().zip(verdicts).any(|(name, verdict)| *name == id && went(verdict))
            }
            _ => false,
        }
    }

    fn was_claimed(&self, id: &str) -> bool {
        self.handed_out().any(|handed| handed == id) && self.after.leased.contains_key(id)
    }

    fn was_fired(&self, id: &str) -> bool {
        matches!(self.transition, Transition::Fire { .. }) && self.handed_out().any(|handed| handed == id)
    }

    /// The ids that this step handed to somebody.
    fn handed_out(&self) -> impl Iterator<Item = &str> {
        let claimed = match self.answer {
            Answer::Claimed(claimed) => claimed.deliveries.as_slice(),
            _ => &[],
        };
        let fired = self.after.fired.iter().skip(self.before.fired.len()).map(|entry| entry.id.as_str());
        claimed.iter().map(|handed| handed.id.as_str()).chain(fired)
    }

    /// P3: what was cancelled, or done, is not there again unless somebody registers it.
    fn nothing_comes_back(&self) -> TestCaseResult {
        if let Transition::Cancel { ids } = self.transition {
            for id in ids.iter().filter(|id| self.was_called_off(id)) {
                prop_assert!(!self.after.has(id), "P3: {id} was cancelled and is still there");
            }
        }
        for id in self.after.ids().filter(|id| !self.before.has(id)) {
            let registered = match (self.transition, self.answer) {
                (Transition::Zadd { id: name, .. }, _) => name == id,
                (Transition::Schedule { items, .. }, Answer::Scheduled(verdicts)) => {
                    let new = |verdict: &Scheduled| matches!(verdict, Scheduled::Created { .. });
                    items.iter().zip(verdicts).any(|(item, verdict)| item.id == id && new(verdict))
                }
                _ => false,
            };
            prop_assert!(registered, "P3: {id} is back");
        }
        Ok(())
    }

    /// P2, P5 and P6: what is handed out is due, nobody else has it, and a sink gets it once.
    fn what_is_handed_out_may_be(&self) -> TestCaseResult {
        let now = self.reference.now;
        for id in self.handed_out() {
            let held = self.before.leased.get(id);
            let lost = held.and_then(|held| self.before.ends.get(&held.token)).is_some_and(|end| *end <= now);
            let score = self.before.scheduled.get(id);
            let is_due = score.is_some_and(|score| (DueAt::MIN_MS as f64..=now as f64).contains(score));
            prop_assert!(is_due || lost, "P2: {id} is early");
            if let Answer::Claimed(_) = self.answer {
                prop_assert!(held.is_none() || lost, "P5: {id} is leased already");
            } else {
                let again = self.handed_out().filter(|other| *other == id).count();
                let gone = !self.after.scheduled.contains_key(id);
                prop_assert!(again == 1 && gone, "P6: {id} is fired more than once");
            }
        }
        if let Answer::Fired(fired) = self.answer {
            prop_assert_eq!(fired.count, self.handed_out().count(), "P6: what was fired");
        }
        if let Answer::Claimed(claimed) = self.answer
            && let Some(token) = claimed.token
        {
            prop_assert!(token > self.before.last_token, "P4: the token does not grow");
            prop_assert!(self.after.last_token >= token, "P4: the token is not kept");
        }
        Ok(())
    }

    /// P4: who does not hold the id is told so.
    fn only_holders_are_heard(&self) -> TestCaseResult {
        for hold in self.heard() {
            let token = self.reference.token_of(*hold);
            prop_assert!(self.before.holds(hold.id, token), "P4: a stale hold of {} is heard", hold.id);
        }
        Ok(())
    }

    /// The holds that were not told `stale`. A whole claim is extended for whom it still holds, so it names no id.
    fn heard(&self) -> impl Iterator<Item = &Hold> {
        let (holds, heard): (&[Hold], Vec<bool>) = match (self.transition, self.answer) {
            (Transition::Begin { hold } | Transition::Extend { hold, whole_claim: false, .. }, _) => {
                (std::slice::from_ref(hold), self.done())
            }
            (
                Transition::Ack { holds } | Transition::Release { holds } | Transition::Bury { holds },
                Answer::Settled(_),
            ) => (holds, self.done()),
            (Transition::Retry { holds, .. }, Answer::Retried(verdicts)) => {
                (holds, verdicts.iter().map(|verdict| *verdict != Retried::Stale).collect())
            }
            _ => (&[], Vec::new()),
        };
        holds.iter().zip(heard).filter(|(_, heard)| *heard).map(|(hold, _)| hold)
    }

    fn done(&self) -> Vec<bool> {
        match self.answer {
            Answer::Settled(verdicts) => verdicts.iter().map(|verdict| *verdict == Settled::Done).collect(),
            _ => Vec::new(),
        }
    }

    /// P7: what is leased has an end to its lease, and is not dead as well.
    fn every_lease_ends(&self) -> TestCaseResult {
        for (id, held) in &self.after.leased {
            prop_assert!(self.after.ends.contains_key(&held.token), "P7: the lease of {id} never ends");
            prop_assert!(!self.after.dead.contains_key(id), "P7: {id} is leased and dead");
        }
        Ok(())
    }
}
