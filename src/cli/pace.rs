//! How fast long work goes on.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::queue::MAX_IDS_PER_CALL;

/// With a rate, the steps that a second is cut into.
const STEPS_PER_SECOND: u32 = 10;

/// Spreads work evenly, at a rate in ids a second; without one it holds nothing back.
pub(super) struct Pace {
    rate: Option<u32>,
    begun: Instant,
    /// How many were let through.
    taken: usize,
}

impl Pace {
    pub(super) fn new(rate: Option<u32>) -> Self {
        Self { rate, begun: Instant::now(), taken: 0 }
    }

    /// How many to take on at a time.
    pub(super) fn step_len(&self) -> usize {
        let in_a_step = |rate: u32| usize::try_from(rate / STEPS_PER_SECOND).unwrap_or(usize::MAX);
        self.rate.map_or(MAX_IDS_PER_CALL, in_a_step).clamp(1, MAX_IDS_PER_CALL)
    }

    /// Waits until it is time for so many more.
    pub(super) async fn wait_for(&mut self, count: usize) {
        if let Some(rate) = self.rate {
            let taken_for = Duration::from_secs(1).mul_f64(self.taken as f64 / f64::from(rate));
            sleep_until(self.begun + taken_for).await;
        }
        self.taken += count;
    }
}
