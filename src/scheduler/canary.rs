//! Notices when Redis has lost data. Nothing else would: a queue that was emptied looks like one that is idle.

use super::Pulse;
use crate::{
    queue::{Canary, Sighting},
    types::{DueAt, QueueName, ServerTime},
};

/// How data can be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The canary is gone, and so is the queue: a flush, a deletion, a restart without persistence, another server.
    All,
    /// The canary is older than it was: a cut AOF, a backup, a failover to a replica that was behind.
    RolledBack {
        /// What was written before is there. None if another process wrote since, which has told.
        since: Option<DueAt>,
        /// How long before the last good poll that was.
        lost_ms: Option<u64>,
    },
}

/// What one poller knows of the canary of its queue.
pub(super) struct Watcher {
    queue: QueueName,
    pulse: Pulse,
    /// The canary as the last poll left it, and when that was.
    last: Option<(Canary, ServerTime)>,
}

impl Watcher {
    pub(super) fn new(queue: &QueueName, pulse: Pulse) -> Self {
        Self { queue: queue.clone(), pulse, last: None }
    }

    /// Takes note of what a poll saw, and says so if data was lost.
    pub(super) fn note(&mut self, now: ServerTime, canary: Sighting) {
        let loss = self.last.and_then(|(left, at)| judge(left, at, canary.found));
        // From here on this one counts, so a loss is told once.
        self.last = Some((canary.left, now));
        let Some(loss) = loss else { return };
        self.pulse.lost(loss);
        let queue = &self.queue;
        match loss {
            Loss::All => tracing::error!(
                %queue,
                kind = "data_lost",
                "Redis has lost this queue: register again what your own database says is pending"
            ),
            Loss::RolledBack { since, lost_ms } => tracing::error!(
                %queue,
                kind = "rolled_back",
                lost_ms,
                since = since.map(tracing::field::display),
                "Redis went back in time: deadlines registered since then may be missing, and what was handled, \
                 moved or cancelled since then may fire again; compare with your own database"
            ),
        }
    }
}

/// What happened between a poll that left a canary, at an instant of Redis' clock, and the next one, which found that.
fn judge(left: Canary, polled: ServerTime, found: Option<Canary>) -> Option<Loss> {
    let Some(found) = found.filter(|found| found.born_us == left.born_us) else { return Some(Loss::All) };
    // The same count at another time: one was undone, and another process has written since.
    if found.count > left.count || found == left {
        return None;
    }
    let since = found.written_at().filter(|_| found.at <= left.at);
    let lost_ms = since.map(|since| polled.since(since).as_millis() as u64);
    Some(Loss::RolledBack { since, lost_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: i64 = 1_767_225_600_000;

    fn canary(born_us: u64, count: u64, at_ms: i64) -> Canary {
        Canary { born_us, count, at: ServerTime::from_ms(T0 + at_ms) }
    }

    /// What becomes of a canary that was left with count 40 at 20 s, and seen last half a second later.
    fn after(found: Option<Canary>) -> Option<Loss> {
        judge(canary(7, 40, 20_000), ServerTime::from_ms(T0 + 20_500), found)
    }

    #[test]
    fn the_same_canary_and_a_later_one_are_well_whatever_the_clock_does() {
        assert_eq!(after(Some(canary(7, 40, 20_000))), None);
        assert_eq!(after(Some(canary(7, 41, 21_000))), None);
        for hour_ms in [3_600_000, -3_600_000] {
            assert_eq!(after(Some(canary(7, 41, hour_ms))), None);
        }
    }

    #[test]
    fn no_canary_and_another_one_mean_that_all_is_gone() {
        assert_eq!(after(None), Some(Loss::All));
        assert_eq!(after(Some(canary(8, 1, 22_000))), Some(Loss::All));
        // Even if others have written it more often since.
        assert_eq!(after(Some(canary(8, 50, 90_000))), Some(Loss::All));
    }

    #[test]
    fn an_older_canary_tells_since_when_writes_are_lost() {
        let since = DueAt::from_ms(T0 + 17_000).ok();
        let loss = Loss::RolledBack { since, lost_ms: Some(3_500) };
        assert_eq!(after(Some(canary(7, 37, 17_000))), Some(loss));
    }

    #[test]
    fn one_that_others_wrote_after_the_loss_tells_of_it_and_not_since_when() {
        let loss = Some(Loss::RolledBack { since: None, lost_ms: None });
        assert_eq!(after(Some(canary(7, 38, 30_000))), loss);
        assert_eq!(after(Some(canary(7, 40, 30_000))), loss);
    }
}
