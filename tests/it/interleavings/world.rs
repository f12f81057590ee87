//! The world of the model: a Redis, two schedulers, a clock in ticks, and what a bystander who sees everything knows.

use super::parts::{
    Action, Broken, Fate, Flaw, Hand, Held, IDS, LEASE, Left, Redis, Seen, TOKENS_PER_TICK, Truth, WORKERS,
    Waiting,
};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct World {
    pub(super) now: u8,
    pub(super) redis: Redis,
    /// What the replica has, once it is behind.
    pub(super) replica: Option<Redis>,
    pub(super) rolled_back: bool,
    pub(super) hands: [[Option<Hand>; IDS]; WORKERS],
    pub(super) truth: [Truth; IDS],
    newest_token: u8,
    pub(super) seen: Seen,
    pub(super) broken: Broken,
    pub(super) left: Left,
}

impl World {
    pub(super) fn new(left: Left) -> Self {
        Self {
            now: 0,
            redis: Redis::default(),
            replica: None,
            rolled_back: false,
            hands: Default::default(),
            truth: Default::default(),
            newest_token: 0,
            seen: Seen::default(),
            broken: Broken::default(),
            left,
        }
    }

    /// Which scheduler is the first, and which id, makes no difference: the least of the four namings stands for all.
    pub(super) fn named_alike(&self) -> Self {
        let other_ids = |mut world: Self| {
            world.truth.swap(0, 1);
            world.hands.iter_mut().for_each(|hands| hands.swap(0, 1));
            for redis in [Some(&mut world.redis), world.replica.as_mut()].into_iter().flatten() {
                redis.scheduled.swap(0, 1);
                redis.leased.swap(0, 1);
            }
            world
        };
        let other_workers = |mut world: Self| {
            world.hands.swap(0, 1);
            for redis in [Some(&mut world.redis), world.replica.as_mut()].into_iter().flatten() {
                redis.leased.iter_mut().flatten().for_each(|held| held.holder = 1 - held.holder);
            }
            world
        };
        let both = other_workers(other_ids(self.clone()));
        let namings = [other_ids(self.clone()), other_workers(self.clone()), both];
        namings.into_iter().fold(self.clone(), Ord::min)
    }

    pub(super) fn step(&mut self, flaw: Flaw, action: Action) {
        self.seen = Seen::default();
        match action {
            Action::Tick => {
                self.left.ticks -= 1;
                self.now += 1;
            }
            Action::Register(id) => self.register(id),
            Action::Cancel(id) => self.cancel(flaw, id),
            Action::Claim(worker, fate) => self.claim(flaw, worker, fate),
            Action::Handle(worker, id) => self.handle(worker, id),
            Action::Ack(worker, id, fate) => self.ack(flaw, worker, id, fate),
            Action::Retry(worker, id) => self.retry(flaw, worker, id),
            Action::Extend(worker) => self.extend(worker),
            Action::Crash(worker) => {
                self.left.faults -= 1;
                self.hands[worker] = Default::default();
            }
            Action::FallBehind => self.replica = Some(self.redis.clone()),
            Action::Failover => self.fail_over(flaw),
        }
    }

    /// Due in the next tick, as a plain ZADD does it.
    fn register(&mut self, id: usize) {
        self.left.registrations -= 1;
        let (truth, due) = (&mut self.truth[id], self.now + 1);
        let generation = truth.registered;
        truth.registered += 1;
        truth.due[usize::from(generation)] = due;
        truth.owed = Some(generation);
        self.redis.scheduled[id] = Some(Waiting { due, generation });
    }

    fn cancel(&mut self, flaw: Flaw, id: usize) {
        self.left.cancels -= 1;
        let held = self.redis.leased[id];
        let waiting = self.redis.scheduled[id].take();
        if flaw != Flaw::CancelLeavesLease {
            self.redis.leased[id] = None;
        }
        if held.is_some() || waiting.is_some() {
            // Answered `cancelled` or `in flight`: either way there is no further attempt.
            let truth = &mut self.truth[id];
            truth.owed = None;
            for generation in
                held.map(|held| held.generation).into_iter().chain(waiting.map(|it| it.generation))
            {
                truth.called_off[usize::from(generation)] = true;
            }
        }
    }

    /// What a claim at this instant would take.
    pub(super) fn takes(&self, flaw: Flaw, id: usize) -> Option<Waiting> {
        let now = self.now + u8::from(flaw == Flaw::ClockOfScheduler);
        let due = self.redis.scheduled[id].filter(|waiting| waiting.due <= now);
        match self.redis.leased[id] {
            None => due,
            Some(_) if flaw == Flaw::ClaimTakesLeased => due,
            Some(held) if held.end > now || flaw == Flaw::LostLeasesStay => None,
            // Registered anew: the old delivery is over, and the new deadline stands.
            Some(_) if self.redis.scheduled[id].is_some() => due,
            Some(held) => Some(Waiting { due: held.end, generation: held.generation }),
        }
    }

    fn claim(&mut self, flaw: Flaw, worker: usize, fate: Fate) {
        if fate != Fate::Answered {
            self.left.faults -= 1;
        }
        let token = match flaw {
            Flaw::TokenWithoutTime => self.redis.last_token + 1,
            _ => (self.redis.last_token + 1).max(self.now * TOKENS_PER_TICK),
        };
        for id in 0..IDS {
            let Some(taken) = self.takes(flaw, id) else { continue };
            let before = self.redis.leased[id];
            self.watch_claim(id, before, taken);
            self.seen.retaken |= before.is_some_and(|held| held.generation == taken.generation);
            self.seen.superseded |= before.is_some_and(|held| held.generation != taken.generation);
            let held = Held { token, end: self.now + LEASE, generation: taken.generation, holder: worker };
            let (source_goes, is_leased) = match (fate, flaw) {
                (Fate::Cut, Flaw::SourceFirst) => (true, false),
                (Fate::Cut, _) => (false, true),
                _ => (true, true),
            };
            if source_goes {
                self.redis.scheduled[id] = None;
            }
            if is_leased {
                self.redis.leased[id] = Some(held);
            }
            if fate == Fate::Answered {
                self.hands[worker][id] =
                    Some(Hand { token, until: held.end, generation: taken.generation, handled: false });
            }
        }
        self.broken.token_repeats |= token <= self.newest_token;
        self.newest_token = self.newest_token.max(token);
        self.redis.last_token = token;
    }

    fn watch_claim(&mut self, id: usize, before: Option<Held>, taken: Waiting) {
        let (truth, generation) = (&self.truth[id], usize::from(taken.generation));
        self.broken.early |= self.now < truth.due[generation];
        self.broken.after_cancel |= truth.called_off[generation];
        self.broken.two_leases |= before.is_some_and(|held| held.end > self.now);
    }

    /// A handler runs to its end. A scheduler starts none when the lease is over by its own reckoning.
    fn handle(&mut self, worker: usize, id: usize) {
        let Some(hand) = &mut self.hands[worker][id] else { return };
        hand.handled = true;
        let (truth, generation) = (&mut self.truth[id], hand.generation);
        let handled = &mut truth.handled[usize::from(generation)];
        self.seen.handled_twice = std::mem::replace(handled, true);
        if truth.owed == Some(generation) {
            truth.owed = None;
        }
    }

    /// True if the scheduler may run a handler of the id.
    pub(super) fn may_handle(&self, worker: usize, id: usize) -> bool {
        self.hands[worker][id].is_some_and(|hand| !hand.handled && hand.until > self.now)
    }

    /// Whether Redis hears the hand of a scheduler, and whether it may.
    fn heard(&mut self, flaw: Flaw, worker: usize, id: usize) -> bool {
        let (Some(hand), Some(held)) = (self.hands[worker][id], self.redis.leased[id]) else {
            self.seen.stale = true;
            return false;
        };
        let heard = match flaw {
            Flaw::AckAsksForNoToken => true,
            Flaw::AckAsksForAnyLease => held.end > self.now,
            _ => held.token == hand.token,
        };
        self.seen.stale |= !heard;
        self.broken.stale_heard |= heard && held.holder != worker;
        heard
    }

    fn ack(&mut self, flaw: Flaw, worker: usize, id: usize, fate: Fate) {
        if self.heard(flaw, worker, id) {
            self.redis.leased[id] = None;
            if flaw == Flaw::AckTakesNewRegistration {
                self.redis.scheduled[id] = None;
            }
        }
        match fate {
            Fate::ReplyLost => self.left.faults -= 1, // it will ask again
            _ => self.hands[worker][id] = None,
        }
    }

    fn retry(&mut self, flaw: Flaw, worker: usize, id: usize) {
        self.left.faults -= 1;
        if self.heard(flaw, worker, id)
            && let Some(held) = self.redis.leased[id].take()
            && (self.redis.scheduled[id].is_none() || flaw == Flaw::RetryOverNewRegistration)
        {
            self.redis.scheduled[id] = Some(Waiting { due: self.now + 1, generation: held.generation });
        }
        self.hands[worker][id] = None;
    }

    /// All that the scheduler still holds.
    fn extend(&mut self, worker: usize) {
        self.left.faults -= 1;
        for id in 0..IDS {
            if let (Some(hand), Some(held)) = (&mut self.hands[worker][id], &mut self.redis.leased[id])
                && hand.token == held.token
            {
                (held.end, hand.until) = (self.now + LEASE, self.now + LEASE);
            }
        }
    }

    /// The replica takes over with what it has, which takes time. What it has not is lost, whoever was told yes; what it
    /// has is owed, also if it was cancelled since.
    fn fail_over(&mut self, flaw: Flaw) {
        self.left.failovers -= 1;
        self.now = if flaw == Flaw::ClockOfReplicaBehind { self.now.saturating_sub(1) } else { self.now + 1 };
        self.rolled_back = true;
        self.redis = self.replica.take().unwrap_or_default();
        for id in 0..IDS {
            let waiting = self.redis.scheduled[id].map(|waiting| waiting.generation);
            let has = waiting.or(self.redis.leased[id].map(|held| held.generation));
            let truth = &mut self.truth[id];
            self.seen.forgotten |= truth.owed.is_some() && has.is_none();
            if let Some(generation) = has {
                let called_off = &mut truth.called_off[usize::from(generation)];
                self.seen.cancel_undone |= std::mem::take(called_off);
            }
            truth.owed = has.filter(|generation| !truth.handled[usize::from(*generation)]);
        }
    }

    /// P1 as a question to any world: all schedulers die now, nothing else goes wrong, and one that is new polls on. Does
    /// it handle all that is owed?
    pub(super) fn all_is_handled_in_the_end(&self, flaw: Flaw) -> bool {
        let mut world = self.clone();
        world.hands = Default::default();
        for _ in 0..2 * (LEASE + 2) {
            if world.truth.iter().all(|truth| truth.owed.is_none()) {
                return true;
            }
            world.claim(flaw, 0, Fate::Answered);
            for id in 0..IDS {
                if world.may_handle(0, id) {
                    world.handle(0, id);
                    world.ack(flaw, 0, id, Fate::Answered);
                }
            }
            world.now += 1;
        }
        false
    }

    /// P5 as the schedulers see it: two who may run a handler of one id at a time. One that was called off, and cannot
    /// know it, does not count.
    pub(super) fn is_held_twice(&self) -> bool {
        (0..IDS).any(|id| {
            let called_off = |hand: &Hand| self.truth[id].called_off[usize::from(hand.generation)];
            let may_run = |worker: &usize| {
                self.may_handle(*worker, id) && !self.hands[*worker][id].as_ref().is_some_and(called_off)
            };
            (0..WORKERS).filter(may_run).count() > 1
        })
    }
}
