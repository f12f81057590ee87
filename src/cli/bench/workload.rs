//! Ids and deadlines, the same for the same seed.

use std::time::Duration;

use futures_util::{TryStreamExt as _, stream};
use indicatif::ProgressBar;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    error::Result,
    queue::{Due, Expected, MAX_IDS_PER_CALL, Mode, Queue, Registration},
    types::{DueAt, Id, Payload},
};

/// Calls under way at once while a queue is filled: enough to keep Redis busy.
const FILLING_CALLS: usize = 4;

/// How long ids are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// 13 bytes: `order-` and a number.
    Short,
    /// 36 bytes: a UUID.
    Long,
}

impl Width {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Short => 13,
            Self::Long => 36,
        }
    }
}

/// How many ids of what kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Workload {
    pub(super) count: u64,
    pub(super) width: Width,
    /// Deadlines are spread at random from here …
    pub(super) from: DueAt,
    /// … over this.
    pub(super) span: Duration,
    pub(super) seed: u64,
    /// The number of the first id, to keep two workloads of one queue apart.
    pub(super) first: u64,
}

impl Workload {
    /// Short ids from number 0, due at random within `span`.
    pub(super) fn new(count: u64, from: DueAt, span: Duration, seed: u64) -> Self {
        Self { count, width: Width::Short, from, span, seed, first: 0 }
    }

    /// Ids and deadlines in ms.
    pub(super) fn entries(self) -> impl Iterator<Item = (String, i64)> + Send {
        let mut random = StdRng::seed_from_u64(self.seed);
        let span_ms = self.span.as_millis() as u64;
        (self.first..self.first + self.count).map(move |number| {
            let id = match self.width {
                Width::Short => format!("order-{number:07x}"),
                Width::Long => uuid(random.random()),
            };
            let later = Duration::from_millis(random.random_range(0..=span_ms));
            (id, self.from.saturating_add(later).as_ms())
        })
    }

    /// The same as the engine takes them.
    pub(super) fn registrations(
        self,
        payload: Option<&Payload>,
    ) -> impl Iterator<Item = Registration> + Send {
        self.entries().map(move |(id, due_ms)| Registration {
            id: Id::new(id).expect("letters and digits"),
            due: Due::At(DueAt::from_ms(due_ms).expect("it saturates")),
            payload: payload.cloned(),
        })
    }

    /// Registers all of it, as fast as it goes.
    pub(super) async fn fill(
        self,
        queue: &Queue,
        payload: Option<&Payload>,
        bar: &ProgressBar,
    ) -> Result<()> {
        let mut registrations = self.registrations(payload);
        let steps = std::iter::from_fn(|| {
            let step: Vec<Registration> = registrations.by_ref().take(MAX_IDS_PER_CALL).collect();
            (!step.is_empty()).then_some(step)
        });
        stream::iter(steps.map(Ok))
            .try_for_each_concurrent(FILLING_CALLS, async |step| {
                queue.schedule(&step, Mode::Replace, Expected::Anything).await?;
                bar.inc(step.len() as u64);
                Ok(())
            })
            .await
    }
}

fn uuid(random: u128) -> String {
    let hex = format!("{random:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(width: Width, seed: u64) -> Vec<(String, i64)> {
        let from = DueAt::from_ms(1_767_225_600_000).unwrap();
        let workload = Workload::new(1000, from, Duration::from_secs(10), seed);
        Workload { width, ..workload }.entries().collect()
    }

    #[test]
    fn ids_have_their_length_and_no_two_are_the_same() {
        for width in [Width::Short, Width::Long] {
            let mut entries = entries(width, 1);
            assert!(entries.iter().all(|(id, _)| id.len() == width.bytes()));
            assert!(entries.iter().all(|(_, due)| (1_767_225_600_000..=1_767_225_610_000).contains(due)));
            entries.sort();
            entries.dedup_by(|one, other| one.0 == other.0);
            assert_eq!(entries.len(), 1000);
        }
    }

    #[test]
    fn a_seed_makes_the_same_again_and_another_does_not() {
        assert_eq!(entries(Width::Long, 7), entries(Width::Long, 7));
        assert_ne!(entries(Width::Short, 7), entries(Width::Short, 8));
    }
}
