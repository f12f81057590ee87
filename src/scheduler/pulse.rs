//! Whether a poller is alive, what it has noticed and what was done: for those who look from outside.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{canary::Loss, meter::Meter};

/// Beyond two poll intervals: longer than the pauses after errors, and than a slow answer of Redis.
const GRACE: Duration = Duration::from_secs(5);

/// Shows from outside whether a queue's poller works. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Pulse {
    state: Arc<Mutex<State>>,
    /// Whose poller tells this handle.
    shard: usize,
    meter: Meter,
}

#[derive(Debug)]
struct State {
    shards: Vec<Beat>,
    losses: Losses,
}

/// What the poller of a shard does.
#[derive(Debug, Clone, Copy)]
struct Beat {
    /// When the poll loop began its last turn, well or not.
    turned: Instant,
    last_good: Option<Instant>,
    /// True while the handlers have all they can take: nothing is polled then, and all is well.
    busy: bool,
}

/// How often a poller has noticed that Redis had lost data of its queue, since its process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// All of it: a flush, a deletion, a restart without persistence.
    pub data_lost: u64,
    /// What was written lately: a cut AOF, a failover to a replica that was behind.
    pub rolled_back: u64,
}

impl Default for State {
    fn default() -> Self {
        let first = Beat { turned: Instant::now(), last_good: None, busy: false };
        Self { shards: vec![first], losses: Losses::default() }
    }
}

impl Pulse {
    /// True if a poll of each shard succeeded lately, or none is wanted because the handlers are busy.
    #[must_use]
    pub fn is_good(&self, poll_interval: Duration) -> bool {
        let is_recent = |at: Instant| at.elapsed() <= poll_interval.saturating_mul(2) + GRACE;
        let is_good = |beat: &Beat| beat.last_good.is_some_and(|at| beat.busy || is_recent(at));
        self.state().shards.iter().all(is_good)
    }

    /// From now on so many shards count.
    pub(super) fn spread(&self, shards: usize) {
        let now = Instant::now();
        // The time in which a new one has to be polled begins.
        self.state().shards.resize(shards, Beat { turned: now, last_good: Some(now), busy: false });
    }

    /// The handle for the poller of a shard.
    pub(super) fn of_shard(&self, shard: usize) -> Self {
        Self { shard, ..self.clone() }
    }

    pub(super) fn beat(&self) {
        self.note(|beat| (beat.last_good, beat.busy) = (Some(Instant::now()), false));
    }

    pub(super) fn busy(&self, busy: bool) {
        self.note(|beat| beat.busy = busy);
    }

    pub(super) fn turn(&self) {
        self.note(|beat| beat.turned = Instant::now());
    }

    /// A shard that was retired does not count any more.
    fn note(&self, note: impl FnOnce(&mut Beat)) {
        self.state().shards.get_mut(self.shard).map(note);
    }

    /// True if the poll loops of all shards began a turn within this time.
    #[must_use]
    pub fn turned_within(&self, time: Duration) -> bool {
        self.state().shards.iter().all(|beat| beat.turned.elapsed() <= time)
    }

    /// How often data was lost, as far as this poller noticed.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.state().losses
    }

    pub(super) fn lost(&self, loss: Loss) {
        let losses = &mut self.state().losses;
        match loss {
            Loss::All => losses.data_lost += 1,
            Loss::RolledBack { .. } => losses.rolled_back += 1,
        }
    }

    /// What the queue's scheduler has done.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poller_is_well_after_a_good_poll_and_not_before() {
        let pulse = Pulse::default();
        assert!(!pulse.is_good(Duration::ZERO));
        pulse.busy(true);
        assert!(!pulse.is_good(Duration::ZERO));
        pulse.beat();
        assert!(pulse.clone().is_good(Duration::ZERO));
    }

    #[test]
    fn a_loop_that_hangs_shows() {
        let pulse = Pulse::default();
        assert!(pulse.turned_within(10 * GRACE));
        let Some(old) = Instant::now().checked_sub(20 * GRACE) else { return };
        pulse.state().shards[0].turned = old;
        assert!(!pulse.turned_within(10 * GRACE));
        pulse.turn();
        assert!(pulse.turned_within(10 * GRACE));
    }

    #[test]
    fn all_shards_count_and_retired_ones_do_not() {
        let pulse = Pulse::default();
        pulse.spread(2);
        assert!(!pulse.is_good(Duration::ZERO), "the first was not polled yet");
        pulse.beat();
        assert!(pulse.is_good(Duration::ZERO));
        let Some(old) = Instant::now().checked_sub(20 * GRACE) else { return };
        pulse.of_shard(1).note(|beat| (beat.turned, beat.last_good) = (old, Some(old)));
        assert!(!pulse.is_good(GRACE) && !pulse.turned_within(GRACE));
        pulse.spread(1);
        pulse.of_shard(1).turn();
        assert!(pulse.is_good(GRACE) && pulse.turned_within(GRACE));
    }

    #[test]
    fn an_old_poll_counts_only_while_the_handlers_are_busy() {
        let pulse = Pulse::default();
        let Some(old) = Instant::now().checked_sub(2 * GRACE) else { return };
        pulse.state().shards[0].last_good = Some(old);
        assert!(!pulse.is_good(GRACE / 2));
        assert!(pulse.is_good(2 * GRACE));
        pulse.busy(true);
        assert!(pulse.is_good(Duration::ZERO));
    }
}
