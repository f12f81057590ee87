//! Histograms of how long something took, in µs.

use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram;

/// Ten minutes; what took longer counts as that.
const MAX_US: u64 = 600_000_000;
/// Values are right to so many digits.
const DIGITS: u8 = 3;

/// Many threads may note what they saw.
#[derive(Debug)]
pub(super) struct Latencies(Mutex<Histogram<u64>>);

/// What is said of many latencies, in ms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Percentiles(pub(super) [f64; 4]);

impl Percentiles {
    /// Their names, in order.
    pub(super) const NAMES: [&'static str; 4] = ["p50", "p99", "p99.9", "max"];
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Histogram::new_with_bounds(1, MAX_US, DIGITS).expect("the bounds are sound")))
    }

    /// Notes one; less than a microsecond, or an instant that is yet to come, counts as one.
    pub(super) fn note(&self, us: i64) {
        let us = u64::try_from(us).unwrap_or(0).max(1);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(us);
    }

    pub(super) fn percentiles(&self) -> Percentiles {
        let histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |quantile| histogram.value_at_quantile(quantile);
        Percentiles([at(0.5), at(0.99), at(0.999), histogram.max()].map(|us| us as f64 / 1000.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_ms_and_bounded() {
        let latencies = Latencies::new();
        (1..=1000).for_each(|us| latencies.note(us));
        let Percentiles([p50, p99, p999, max]) = latencies.percentiles();
        assert!((p50 - 0.5).abs() < 0.002 && (p99 - 0.99).abs() < 0.002, "{p50} {p99}");
        assert!((p999 - 0.999).abs() < 0.002 && (max - 1.0).abs() < 0.002, "{p999} {max}");
        latencies.note(-5);
        latencies.note(i64::MAX);
        assert!(latencies.percentiles().0[3] <= 601_000.0);
    }
}
