//! What the measurements share: where they run, what with, and how runs are put together.

use std::time::Duration;

use indicatif::ProgressBar;

use super::{plan::Plan, rig::Rig, workload::Workload};
use crate::{
    queue::Queue,
    scheduler::Settings,
    types::{DueAt, Payload},
};

/// The share of the ids that a warm-up gets, and how many at most: enough to load scripts and to fill caches.
const WARM_UP_SHARE: u64 = 20;
const WARM_UP_MAX: u64 = 20_000;
/// Longer than usual: a machine that stalls is to show in the figures, not to deliver ids again.
const LEASE: Duration = Duration::from_secs(60);
/// Deadlines that are far from due are at least this far ahead: no benchmark lasts so long.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
const FAR_SPAN: Duration = Duration::from_secs(30 * 24 * 3600);
/// Their numbers are beyond those of all that is due, so that no id is both.
const FIRST_FAR: u64 = 100_000_000;

/// What a measurement works with.
pub(super) struct Lab<'a> {
    pub(super) rig: &'a Rig,
    pub(super) plan: &'a Plan,
    pub(super) bar: &'a ProgressBar,
}

/// One of several runs, or the warm-up before them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// A seed of its own, the same for all that is compared in it.
    pub(super) seed: u64,
    is_warm_up: bool,
}

impl Round {
    /// How much of the work is done in it.
    pub(super) fn share(self, count: u64) -> u64 {
        if self.is_warm_up { (count / WARM_UP_SHARE).clamp(1, WARM_UP_MAX) } else { count.max(1) }
    }

    /// How long it lasts.
    pub(super) fn span(self, span: Duration) -> Duration {
        if self.is_warm_up { span / WARM_UP_SHARE as u32 } else { span }
    }
}

impl Lab<'_> {
    /// Does each of `ways` once in each run, one right after the other, in an order that turns round with every run;
    /// a warm-up before. Answers the values of the runs for each way.
    pub(super) async fn rounds<W: Copy, T>(
        &self,
        what: &str,
        ways: &[W],
        once: impl AsyncFnMut(W, Round) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<Vec<T>>> {
        self.rounds_of(self.plan.runs, what, ways, once).await
    }

    /// The same with another number of runs.
    pub(super) async fn rounds_of<W: Copy, T>(
        &self,
        runs: u32,
        what: &str,
        ways: &[W],
        mut once: impl AsyncFnMut(W, Round) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<Vec<T>>> {
        let warm_up = Round { seed: self.plan.seed, is_warm_up: true };
        for way in ways {
            self.show(&format!("{what}: warm-up"), 0);
            once(*way, warm_up).await?;
        }
        let mut values: Vec<Vec<T>> = ways.iter().map(|_| Vec::new()).collect();
        for run in 0..runs {
            for index in order(ways.len(), run) {
                self.show(&format!("{what}: run {} of {runs}", run + 1), 0);
                let round = Round { seed: self.plan.seed + u64::from(run), is_warm_up: false };
                values[index].push(once(ways[index], round).await?);
            }
        }
        Ok(values)
    }

    /// Says what is being done, and how many steps it has; 0 if that is not known.
    pub(super) fn show(&self, what: &str, steps: u64) {
        self.bar.set_position(0);
        self.bar.set_length(steps);
        self.bar.set_message(what.to_owned());
    }

    /// The settings of a scheduler, but for the batch size.
    pub(super) fn settings(&self) -> Settings {
        Settings { concurrency: self.plan.concurrency, lease: LEASE, ..Settings::default() }
    }

    /// The time by the clock of Redis.
    pub(super) async fn now(&self) -> anyhow::Result<DueAt> {
        Ok(DueAt::from_ms(self.rig.redis().time().await?.as_ms())?)
    }

    /// Ids that have been due for a while.
    pub(super) async fn due(&self, count: u64, seed: u64) -> anyhow::Result<Workload> {
        let span = Duration::from_secs(60);
        let from = DueAt::from_ms(self.now().await?.as_ms() - span.as_millis() as i64)?;
        Ok(Workload::new(count, from, span, seed))
    }

    /// Ids that are due in a year.
    pub(super) async fn far(&self, count: u64) -> anyhow::Result<Workload> {
        let from = self.now().await?.saturating_add(FAR);
        Ok(Workload { first: FIRST_FAR, ..Workload::new(count, from, FAR_SPAN, self.plan.seed) })
    }

    /// Registers a workload that is not measured, and says so.
    pub(super) async fn fill(
        &self,
        queue: &Queue,
        workload: Workload,
        payload: Option<&Payload>,
    ) -> anyhow::Result<()> {
        self.bar.set_position(0);
        self.bar.set_length(workload.count);
        Ok(workload.fill(queue, payload, self.bar).await?)
    }
}

/// The order of a run: forth, then back.
fn order(ways: usize, run: u32) -> impl Iterator<Item = usize> {
    (0..ways).map(move |place| if run.is_multiple_of(2) { place } else { ways - 1 - place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_turns_round_with_every_run() {
        assert_eq!(order(3, 0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(order(3, 1).collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!(order(3, 2).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn a_warm_up_is_small_and_never_nothing() {
        let warm_up = Round { seed: 1, is_warm_up: true };
        assert_eq!([1_000_000, 2000, 3].map(|count| warm_up.share(count)), [20_000, 100, 1]);
        assert_eq!(Round { seed: 1, is_warm_up: false }.share(2000), 2000);
    }
}
