//! The reference's verbs of those who deliver.

use overdue::{
    DueAt,
    queue::{Retried, Settled},
};

use super::{
    reference::{Answer, Claimed, Fired, Handed, Reference, due_of, settled},
    stored::{Entry, Held, Record, as_json},
    transition::{Hold, NAMES, Name, Transition},
};
use crate::support::at_ms;

/// A delivery whose lease ran out.
struct Lost {
    id: String,
    held: Held,
    record: Record,
}

impl Reference {
    pub(super) fn deliver(&mut self, transition: &Transition) -> Answer {
        let each = |holds: &[Hold], verdict: &mut dyn FnMut(&Hold) -> bool| {
            Answer::Settled(holds.iter().map(|hold| settled(verdict(hold))).collect())
        };
        match transition {
            Transition::Claim { limit, lease_ms, max_crashes } => {
                Answer::Claimed(self.claim(*limit, *lease_ms, *max_crashes))
            }
            Transition::Fire { limit } => Answer::Fired(self.fire(*limit)),
            Transition::Begin { hold } => each(&[*hold], &mut |hold| self.begin(*hold)),
            Transition::Ack { holds } => Answer::Settled(self.ack(holds)),
            Transition::AckClaim { hold } => Answer::Moved(self.ack_claim(*hold)),
            Transition::Retry { holds, delay_ms, max_attempts } => {
                let retry = |hold: &Hold| self.retry(*hold, *delay_ms, *max_attempts);
                Answer::Retried(holds.iter().map(retry).collect())
            }
            Transition::Release { holds } => each(holds, &mut |hold| self.release(*hold)),
            Transition::Bury { holds } => each(holds, &mut |hold| self.bury(*hold)),
            Transition::Extend { hold, lease_ms, whole_claim } => {
                each(&[*hold], &mut |hold| self.extend(*hold, *lease_ms, *whole_claim))
            }
            other => unreachable!("{other:?} delivers nothing"),
        }
    }

    fn claim(&mut self, limit: usize, lease_ms: i64, max_crashes: Option<u32>) -> Claimed {
        let token = (self.stored.last_token + 1).max(self.now as u64 * 1000);
        let mut deliveries = Vec::new();
        if !self.stored.paused {
            for Lost { id, held, mut record } in self.lost(limit) {
                record.crashes += 1;
                record.kills += u32::from(record.begun == Some(held.token));
                record.begun = None;
                if max_crashes.is_some_and(|max| record.kills >= max) {
                    self.bury_crashed(&id, held, record);
                } else {
                    record.retry = Some(held.score);
                    self.stored.records.insert(id.clone(), record.clone());
                    self.unlease(&id);
                    deliveries.push(self.hand(id, token, held.score, held.payload, Some(record)));
                }
            }
            while let Some(id) = self.first_free().filter(|_| deliveries.len() < limit) {
                let (score, payload, record) = self.take(&id);
                deliveries.push(self.hand(id, token, score, payload, record));
            }
        }
        if !deliveries.is_empty() {
            self.stored.ends.insert(token, self.now + lease_ms);
            self.stored.last_token = token;
        }
        Claimed {
            token: (!deliveries.is_empty()).then_some(token),
            next: self.next(),
            more: deliveries.len() == limit,
            impossible: self.impossible(),
            deliveries,
        }
    }

    fn bury_crashed(&mut self, id: &str, held: Held, record: Record) {
        let error = format!("its process died {} times while it was known to run", record.kills);
        let reason = Some("max_crashes".to_owned());
        self.set_aside(id, held, Record { reason, error: Some(error), ..record });
    }

    /// From leased to dead.
    fn set_aside(&mut self, id: &str, held: Held, record: Record) {
        self.unlease(id);
        self.put_back(id, held.payload);
        self.stored.records.insert(id.to_owned(), Record { retry: None, ..record });
        self.stored.dead.insert(id.to_owned(), self.now);
    }

    fn hand(
        &mut self,
        id: String,
        token: u64,
        score: f64,
        payload: Option<String>,
        record: Option<Record>,
    ) -> Handed {
        self.stored.leased.insert(id.clone(), Held { token, score, payload: payload.clone() });
        let name = NAMES.into_iter().find(|name| **name == *id).expect("there are no others");
        self.tokens.entry(name).or_default().push(token);
        let record = record.unwrap_or_default();
        Handed {
            due_at: record.due.or(due_of(score)).expect("it was due"),
            attempt: record.failures + record.crashes + 1,
            failures: record.failures,
            kills: record.kills,
            token,
            first_token: record.first.unwrap_or(token),
            payload,
            trace: record.trace,
            id,
        }
    }

    /// True if a claim now would find something to do.
    pub(super) fn may_take(&self) -> bool {
        self.first_free().is_some() || self.stored.ends.values().any(|end| *end <= self.now)
    }

    /// True if a delivery is known to run.
    pub(super) fn somebody_began(&self) -> bool {
        let began = |id: &String, held: &Held| {
            self.stored.records.get(id).is_some_and(|record| record.begun == Some(held.token))
        };
        self.stored.leased.iter().any(|(id, held)| began(id, held))
    }

    /// The due id that comes first and is not leased.
    fn first_free(&self) -> Option<String> {
        self.due().into_iter().find(|id| !self.stored.leased.contains_key(id))
    }

    /// Due ids, the earliest first, and by name where they are equal.
    fn due(&self) -> Vec<String> {
        let is_due = |score: f64| due_of(score).is_some_and(|due| due <= self.now);
        let mut due: Vec<_> = self.stored.scheduled.iter().filter(|(_, score)| is_due(**score)).collect();
        due.sort_by(|(_, one), (_, other)| one.total_cmp(other));
        due.into_iter().map(|(id, _)| id.clone()).collect()
    }

    /// Takes a due id with its payload, and its record if that is one of this registration.
    fn take(&mut self, id: &str) -> (f64, Option<String>, Option<Record>) {
        let stored = &mut self.stored;
        let score = stored.scheduled.remove(id).expect("it is due");
        let record = stored.records.get(id).cloned();
        let own = record.clone().filter(|record| record.retry == Some(score));
        if record.is_some() && own.is_none() {
            stored.records.remove(id);
            stored.dead.remove(id); // a plain ZADD had revived it
        }
        (score, stored.payloads.remove(id), own)
    }

    /// At most `limit` deliveries whose lease ran out, by the end of their lease. Those whose ids were registered anew
    /// are over, and end here.
    fn lost(&mut self, limit: usize) -> Vec<Lost> {
        let mut ended: Vec<(i64, u64)> = self
            .stored
            .ends
            .iter()
            .map(|(token, end)| (*end, *token))
            .filter(|(end, _)| *end <= self.now)
            .collect();
        ended.sort_unstable();
        let mut found = Vec::new();
        for (_, token) in ended {
            let held: Vec<_> =
                self.stored.leased.clone().into_iter().filter(|(_, held)| held.token == token).collect();
            for (id, held) in held.into_iter().take(limit - found.len()) {
                if !self.superseded(&id) {
                    let record = self.record_of(&id, &held);
                    found.push(Lost { id, held, record });
                }
            }
        }
        found
    }

    /// Ends a delivery whose id was registered anew: the new deadline stands.
    fn superseded(&mut self, id: &str) -> bool {
        let Some(score) = self.stored.scheduled.get(id).copied() else { return false };
        self.drop_record(id, score);
        self.unlease(id);
        true
    }

    /// Drops the record of a delivery that is over, but not that of the new registration.
    fn drop_record(&mut self, id: &str, score: f64) {
        let is_old = |record: &Record| record.first.is_some() || record.retry != Some(score);
        if self.stored.records.get(id).is_some_and(is_old) {
            self.stored.records.remove(id);
        }
    }

    fn record_of(&self, id: &str, held: &Held) -> Record {
        let record = self.stored.records.get(id).cloned().unwrap_or_default();
        Record { due: record.due.or(due_of(held.score)), first: record.first.or(Some(held.token)), ..record }
    }

    fn put_back(&mut self, id: &str, payload: Option<String>) {
        if let Some(payload) = payload {
            self.stored.payloads.entry(id.to_owned()).or_insert(payload);
        }
    }

    /// The next deadline that is still to come.
    fn next(&self) -> Option<DueAt> {
        if self.stored.paused {
            return None;
        }
        let later = self.stored.scheduled.values().filter(|score| **score > self.now as f64);
        later.filter_map(|score| due_of(*score)).min().map(at_ms)
    }

    fn fire(&mut self, limit: usize) -> Fired {
        let mut entries = Vec::new();
        let fired_at = self.now;
        let entry = |id: String, due_at: Option<i64>, payload: Option<String>, trace| {
            let payload = payload.map(|text| as_json(&text));
            Entry { id, due_at: due_at.expect("it was due"), fired_at, payload, trace }
        };
        if !self.stored.paused {
            for Lost { id, held, record } in self.lost(limit) {
                self.unlease(&id);
                self.stored.records.remove(&id);
                entries.push(entry(id, record.due, held.payload, record.trace));
            }
            let room = limit - entries.len();
            for id in self.due().into_iter().take(room) {
                let (score, payload, record) = self.take(&id);
                self.stored.records.remove(&id);
                let record = record.unwrap_or_default();
                entries.push(entry(id, record.due.or(due_of(score)), payload, record.trace));
            }
        }
        let fired = Fired {
            count: entries.len(),
            earliest: entries.iter().map(|entry| entry.due_at).min().map(at_ms),
            next: self.next(),
            more: entries.len() == limit,
            impossible: self.impossible(),
        };
        self.stored.fired.extend(entries);
        fired
    }

    /// What a hold has, if it is still in force.
    fn held(&self, hold: Hold) -> Option<Held> {
        let token = self.token_of(hold);
        self.stored.leased.get(hold.id).filter(|held| held.token == token).cloned()
    }

    fn begin(&mut self, hold: Hold) -> bool {
        let held = self.held(hold);
        let record = self.stored.records.get_mut(hold.id);
        let Some((held, record)) = held.zip(record) else { return false };
        record.begun = Some(held.token);
        true
    }

    fn ack(&mut self, holds: &[Hold]) -> Vec<Settled> {
        // A hold that is named twice is done twice.
        let answers: Vec<bool> = holds.iter().map(|hold| self.held(*hold).is_some()).collect();
        for (hold, _) in holds.iter().zip(&answers).filter(|(_, done)| **done) {
            self.end(hold.id);
        }
        answers.into_iter().map(settled).collect()
    }

    fn ack_claim(&mut self, hold: Hold) -> u64 {
        let token = self.token_of(hold);
        let held = NAMES.into_iter().filter(|id| self.stored.holds(id, token)).collect::<Vec<_>>();
        held.iter().for_each(|id| self.end(id));
        held.len() as u64
    }

    fn end(&mut self, id: &str) {
        self.unlease(id);
        match self.stored.scheduled.get(id).copied() {
            Some(score) => self.drop_record(id, score),
            None => drop(self.stored.records.remove(id)),
        }
    }

    fn retry(&mut self, hold: Hold, delay_ms: i64, max_attempts: u32) -> Retried {
        let Some(held) = self.held(hold) else { return Retried::Stale };
        if self.superseded(hold.id) {
            return Retried::Superseded;
        }
        let record = self.record_of(hold.id, &held);
        let failures = record.failures + 1;
        let record = Record { failures, error: Some("it failed".to_owned()), ..record };
        if failures >= max_attempts {
            let reason = Some("attempts_spent".to_owned());
            self.set_aside(hold.id, held, Record { reason, ..record });
            return Retried::Dead;
        }
        let at = self.now + delay_ms;
        self.back_to_scheduled(hold.id, held, at as f64);
        let record = Record { reason: None, retry: Some(at as f64), ..record };
        self.stored.records.insert(hold.id.to_owned(), record);
        Retried::Scheduled { at: at_ms(at) }
    }

    fn back_to_scheduled(&mut self, id: Name, held: Held, score: f64) {
        self.unlease(id);
        self.put_back(id, held.payload);
        self.stored.scheduled.insert(id.to_owned(), score);
    }

    fn release(&mut self, hold: Hold) -> bool {
        let Some(held) = self.held(hold) else { return false };
        if !self.superseded(hold.id) {
            let score = held.score;
            self.back_to_scheduled(hold.id, held, score);
        }
        true
    }

    fn bury(&mut self, hold: Hold) -> bool {
        let Some(held) = self.held(hold) else { return false };
        if !self.superseded(hold.id) {
            let record = self.record_of(hold.id, &held);
            let (reason, error) = (Some("rejected".to_owned()), Some("the handler said so".to_owned()));
            let record = Record { failures: record.failures + 1, reason, error, ..record };
            self.set_aside(hold.id, held, record);
        }
        true
    }

    fn extend(&mut self, hold: Hold, lease_ms: i64, whole_claim: bool) -> bool {
        let token = self.token_of(hold);
        let live = self.stored.ends.contains_key(&token) && (whole_claim || self.held(hold).is_some());
        if live {
            self.stored.ends.insert(token, self.now + lease_ms);
        }
        live
    }
}
