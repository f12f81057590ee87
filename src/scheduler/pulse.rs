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
    meter: Meter,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// When the poll loop began its last turn, well or not.
    turned: Instant,
    last_good: Option<Instant>,
    /// True while the handlers have all they can take: nothing is polled then, and all is well.
    busy: bool,
    losses: Losses,
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
        Self { turned: Instant::now(), last_good: None, busy: false, losses: Losses::default() }
    }
}

impl Pulse {
    /// True if a poll succeeded lately, or none is wanted because the handlers are busy.
    #[must_use]
    pub fn is_good(&self, poll_interval: Duration) -> bool {
        let State { last_good, busy, .. } = *self.state();
        last_good.is_some_and(|at| busy || at.elapsed() <= poll_interval.saturating_mul(2) + GRACE)
    }

    pub(super) fn beat(&self) {
        let mut state = self.state();
        (state.last_good, state.busy) = (Some(Instant::now()), false);
    }

    pub(super) fn busy(&self, busy: bool) {
        self.state().busy = busy;
    }

    pub(super) fn turn(&self) {
        self.state().turned = Instant::now();
    }

    /// True if the poll loop began a turn within this time.
    #[must_use]
    pub fn turned_within(&self, time: Duration) -> bool {
        self.state().turned.elapsed() <= time
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
        pulse.state().turned = old;
        assert!(!pulse.turned_within(10 * GRACE));
        pulse.turn();
        assert!(pulse.turned_within(10 * GRACE));
    }

    #[test]
    fn an_old_poll_counts_only_while_the_handlers_are_busy() {
        let pulse = Pulse::default();
        let Some(old) = Instant::now().checked_sub(2 * GRACE) else { return };
        pulse.state().last_good = Some(old);
        assert!(!pulse.is_good(GRACE / 2));
        assert!(pulse.is_good(2 * GRACE));
        pulse.busy(true);
        assert!(pulse.is_good(Duration::ZERO));
    }
}
