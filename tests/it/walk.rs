//! P7 and P9 by a random walk: all verbs on a few ids, beside a model of where each id has to be.

mod model;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{Model, Past, Waiting};
use overdue::{
    DueAt,
    queue::{Cancelled, Expected, Lease, Mode, Rescheduled, Retried, Scheduled, Settled},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::support::{LEASE_MS, NOTHING, Rig, T0, at_ms, due, id, registration, rejected, retry_of};

const IDS: u32 = 30;
const STEPS: u32 = 1500;
const MAX_ATTEMPTS: u32 = 3;

struct Walk {
    rig: Rig,
    model: Model,
    dice: StdRng,
    /// Every hold that ever was, the lost ones included.
    holds: Vec<Lease>,
}

impl Walk {
    fn some_id(&mut self) -> String {
        format!("id{}", self.dice.random_range(0..IDS))
    }

    fn some_due(&mut self) -> i64 {
        self.model.now + self.dice.random_range(-2 * LEASE_MS..2 * LEASE_MS)
    }

    fn some_payload(&mut self) -> String {
        if self.dice.random() { format!("payload {}", self.dice.random::<u16>()) } else { String::new() }
    }

    fn some_hold(&mut self) -> Lease {
        let recent = self.holds.len().saturating_sub(40);
        self.holds[self.dice.random_range(recent..self.holds.len())].clone()
    }

    async fn step(&mut self) {
        let verbs = if self.holds.is_empty() { 10 } else { 21 }; // the first ten need no hold
        match self.dice.random_range(0..verbs) {
            0..=2 => self.schedule().await,
            3 => self.plain_zadd().await,
            4 => self.reschedule().await,
            5 => self.cancel().await,
            6..=9 => self.claim().await,
            10..=12 => self.ack().await,
            13..=14 => self.retry().await,
            15 => self.release().await,
            16 => self.bury().await,
            17 => self.extend().await,
            18 => self.retry_dead().await,
            19 => self.delete_dead().await,
            _ => self.trim_dead().await,
        }
        self.model.now += self.dice.random_range(0..LEASE_MS / 4);
    }

    async fn schedule(&mut self) {
        let modes = [Mode::Replace, Mode::Replace, Mode::Keep, Mode::Earliest, Mode::Latest];
        let mode = modes[self.dice.random_range(0..modes.len())];
        let bulk: Vec<(String, i64, String)> =
            (0..3).map(|_| (self.some_id(), self.some_due(), self.some_payload())).collect();
        let registrations: Vec<_> =
            bulk.iter().map(|(id, due, payload)| registration(id, *due, payload)).collect();
        let queue = self.rig.when(self.model.now);
        let answers = queue.schedule(&registrations, mode, Expected::Anything).await.unwrap();
        for ((id, due, payload), answer) in bulk.iter().zip(answers) {
            let had = self.model.scheduled.contains_key(id);
            self.model.register(id, *due, payload, mode);
            match answer {
                Scheduled::Created { due_at } => assert!(!had && due_at.as_ms() == *due),
                Scheduled::Replaced { due_at, .. } => assert!(had && due_at.as_ms() == *due),
                Scheduled::Kept { .. } => assert!(mode != Mode::Replace),
                Scheduled::Conflict { .. } => panic!("nothing was expected"),
            }
        }
    }

    /// As any Redis client registers: the payload first.
    async fn plain_zadd(&mut self) {
        let (id, score, payload) = (self.some_id(), self.some_due(), self.some_payload());
        if !payload.is_empty() {
            self.rig.hset(&id, &payload).await;
            self.model.payloads.insert(id.clone(), payload);
        }
        self.rig.zadd(&id, score).await;
        let past = self.model.scheduled.get(&id).and_then(|waiting| waiting.past.clone());
        self.model.scheduled.insert(id, Waiting { score, past });
    }

    async fn reschedule(&mut self) {
        let (name, to) = (self.some_id(), self.some_due());
        let queue = self.rig.when(self.model.now);
        let answer = queue.reschedule(&id(&name), due(to), Expected::Anything).await.unwrap();
        let model = &mut self.model;
        match answer {
            Rescheduled::Moved { old, .. } => {
                assert_eq!(old.map(DueAt::as_ms), model.scheduled.get(&name).map(|waiting| waiting.score));
                model.dead.remove(&name);
                model.waiting(&name, to, None);
            }
            Rescheduled::InFlight => assert!(model.leased.contains_key(&name)),
            Rescheduled::Dead => assert!(model.dead.contains_key(&name)),
            Rescheduled::NotFound => assert!(!model.dead.contains_key(&name)),
            Rescheduled::Conflict { .. } => panic!("nothing was expected"),
        }
        assert_eq!(matches!(answer, Rescheduled::Moved { .. }), model.scheduled.contains_key(&name));
    }

    async fn cancel(&mut self) {
        let name = self.some_id();
        let verdict = self.rig.when(self.model.now).cancel(&[id(&name)]).await.unwrap()[0];
        let model = &mut self.model;
        let (waiting, held) = (model.scheduled.remove(&name), model.leased.remove(&name));
        match verdict {
            Cancelled::InFlight { token, .. } => assert_eq!(Some(token), held.map(|held| held.token)),
            Cancelled::Cancelled { .. } => assert!(held.is_none() && waiting.is_some()),
            Cancelled::Dead => return assert!(held.is_none() && waiting.is_none()),
            Cancelled::NotFound => return assert!(!model.dead.contains_key(&name)),
        }
        model.dead.remove(&name);
        model.payloads.remove(&name);
    }

    async fn claim(&mut self) {
        let (limit, lease_ms) = (self.dice.random_range(1..40), self.dice.random_range(1..2 * LEASE_MS));
        let lease = Duration::from_millis(lease_ms as u64);
        let claim = self.rig.when(self.model.now).claim(limit, lease).await.unwrap();
        let (expected, superseded) = (self.model.claimable(), self.model.superseded());
        assert!(claim.deliveries.len() <= limit);
        // Of more than sixteen lost leases, and behind lost deliveries that are over, the rest waits for the next.
        let may_be_short = superseded > 0 || self.model.ends.len() > 16;
        assert!(claim.deliveries.len() == expected.min(limit) || may_be_short, "{expected} are due");
        for delivery in &claim.deliveries {
            self.model.deliver(delivery, lease_ms);
            self.holds.push(delivery.lease());
        }
        // Lost deliveries of ids that were registered anew end here.
        let left = self.rig.members("leased").await;
        let Model { leased, ends, scheduled, now, .. } = &mut self.model;
        leased.retain(|id, held| {
            left.contains(id) || !(ends[&held.token] <= *now && scheduled.contains_key(id))
        });
        let later = scheduled.values().map(|waiting| waiting.score).filter(|score| *score > *now).min();
        assert_eq!(claim.next.map(DueAt::as_ms), later);
        ends.retain(|token, _| leased.values().any(|held| held.token == *token));
    }

    async fn ack(&mut self) {
        let lease = self.some_hold();
        let answer = self.rig.ack(std::slice::from_ref(&lease)).await.unwrap()[0];
        let expected = self.model.unlease(&lease).map_or(Settled::Stale, |_| Settled::Done);
        assert_eq!(answer, expected);
    }

    async fn retry(&mut self) {
        let lease = self.some_hold();
        let delay = self.dice.random_range(0..LEASE_MS);
        let queue = self.rig.when(self.model.now);
        let answer = queue.retry(&[retry_of(&lease, delay as u64)], MAX_ATTEMPTS).await.unwrap()[0];
        let (model, name) = (&mut self.model, lease.id.as_str());
        let Some(held) = model.unlease(&lease) else {
            return assert_eq!(answer, Retried::Stale);
        };
        let Some(held) = held else {
            return assert_eq!(answer, Retried::Superseded);
        };
        let past = Past { failures: held.past.failures + 1, ..held.past };
        model.put_back(name, held.payload);
        if past.failures >= MAX_ATTEMPTS {
            assert_eq!(answer, Retried::Dead);
            model.dead.insert(name.to_owned(), past);
        } else {
            let at = model.now + delay;
            assert_eq!(answer, Retried::Scheduled { at: at_ms(at) });
            model.waiting(name, at, Some(past));
        }
    }

    async fn release(&mut self) {
        let lease = self.some_hold();
        let answer = self.rig.release(std::slice::from_ref(&lease)).await.unwrap()[0];
        let (model, name) = (&mut self.model, lease.id.as_str());
        let Some(held) = model.unlease(&lease) else {
            return assert_eq!(answer, Settled::Stale);
        };
        if let Some(held) = held {
            model.put_back(name, held.payload);
            let tried = held.past.failures + held.past.crashes > 0 || held.past.first != held.token;
            model.waiting(name, held.score, tried.then_some(held.past));
        }
    }

    async fn bury(&mut self) {
        let lease = self.some_hold();
        let answer = self.rig.when(self.model.now).bury(&[rejected(&lease)]).await.unwrap()[0];
        let (model, name) = (&mut self.model, lease.id.as_str());
        let Some(held) = model.unlease(&lease) else {
            return assert_eq!(answer, Settled::Stale);
        };
        if let Some(held) = held {
            model.put_back(name, held.payload);
            model.dead.insert(name.to_owned(), Past { failures: held.past.failures + 1, ..held.past });
        }
    }

    async fn extend(&mut self) {
        let lease = self.some_hold();
        let to = Duration::from_millis(LEASE_MS as u64);
        let queue = self.rig.when(self.model.now);
        let answer = queue.extend_ids(std::slice::from_ref(&lease), to).await.unwrap()[0];
        let holds = self.model.leased.get(lease.id.as_str()).is_some_and(|held| held.token == lease.token);
        assert_eq!(answer == Settled::Done, holds);
        if holds {
            self.model.ends.insert(lease.token, self.model.now + LEASE_MS);
        }
    }

    async fn retry_dead(&mut self) {
        let name = self.some_id();
        let answer = self.rig.when(self.model.now).retry_dead(&[id(&name)]).await.unwrap()[0];
        let model = &mut self.model;
        let past = model.dead.remove(&name);
        assert_eq!(answer == Settled::Done, past.is_some());
        if let Some(past) = past.filter(|_| !model.scheduled.contains_key(&name)) {
            let past = Past { failures: 0, crashes: 0, ..past };
            model.waiting(&name, model.now, Some(past));
        }
    }

    async fn delete_dead(&mut self) {
        let name = self.some_id();
        let answer = self.rig.delete_dead(&[id(&name)]).await.unwrap()[0];
        let was_dead = self.model.dead.remove(&name).is_some();
        assert_eq!(answer == Settled::Done, was_dead);
        if was_dead && !self.model.scheduled.contains_key(&name) {
            self.model.payloads.remove(&name);
        }
    }

    /// The model does not know when an id died, so the scripts' answer is what it learns from.
    async fn trim_dead(&mut self) {
        let retention = Duration::from_millis(LEASE_MS as u64 * 5);
        let trimmed = self.rig.when(self.model.now).trim_dead(retention).await.unwrap();
        let left = self.rig.members("dead").await;
        let Model { dead, scheduled, payloads, .. } = &mut self.model;
        let gone: Vec<String> = dead.keys().filter(|id| !left.contains(id)).cloned().collect();
        assert_eq!(trimmed, gone.len() as u64);
        for name in gone {
            dead.remove(&name);
            if !scheduled.contains_key(&name) {
                payloads.remove(&name);
            }
        }
    }

    /// Every id is exactly where the model has it.
    async fn check(&self) {
        let model = &self.model;
        let set = async |part: &str| BTreeSet::from_iter(self.rig.members(part).await);
        let of = |ids: Vec<&String>| ids.into_iter().cloned().collect::<BTreeSet<String>>();
        assert_eq!(set("scheduled").await, of(model.scheduled.keys().collect()), "scheduled");
        assert_eq!(set("leased").await, of(model.leased.keys().collect()), "leased");
        assert_eq!(set("dead").await, of(model.dead.keys().collect()), "dead");
        let payloads: BTreeMap<String, String> = self.rig.on_key("HGETALL", "payload", NOTHING).await;
        assert_eq!(payloads, model.payloads);
        assert!(model.leased.keys().all(|id| !model.dead.contains_key(id)));

        let tokens: BTreeSet<String> = model.leased.values().map(|held| held.token.to_string()).collect();
        assert_eq!(set("leases").await, tokens, "every lease holds something");
        let batches: Vec<String> = self.rig.on_key("HKEYS", "batches", NOTHING).await;
        assert_eq!(BTreeSet::from_iter(batches), tokens, "every batch belongs to a lease");
        for part in self.rig.keys().await {
            assert_eq!(self.rig.on_key::<i64>("PTTL", &part, NOTHING).await, -1, "{part} has a TTL");
        }
    }
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "a failure shows it, and it repeats the walk")]
async fn p7_p9_a_random_walk_leaves_every_id_in_the_state_it_has_to_be_in() {
    let seed = std::env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
    println!("SEED={seed}");
    let dice = StdRng::seed_from_u64(seed);
    let model = Model { now: T0, ..Model::default() };
    let mut walk = Walk { rig: Rig::new().await, model, dice, holds: Vec::new() };
    for _ in 0..STEPS {
        walk.step().await;
        walk.check().await;
    }

    let all: Vec<_> = (0..IDS).map(|n| id(&format!("id{n}"))).collect();
    walk.rig.cancel(&all).await.unwrap();
    walk.rig.delete_dead(&all).await.unwrap();
    assert_eq!(walk.rig.keys().await, ["meta"], "nothing is left behind");
}
