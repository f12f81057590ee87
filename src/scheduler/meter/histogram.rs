//! Durations by size.

use std::time::Duration;

/// Upper bounds of the buckets in µs: six in each power of ten, from 0.1 ms to 10,000 s. The error of a percentile is the
/// width of a bucket, half of its value at most.
const BOUNDS_US: [u64; BOUNDS] = bounds();

/// Eight powers of ten, and the bound of the last.
const BOUNDS: usize = 8 * STEPS.len() + 1;

const STEPS: [u64; 6] = [10, 15, 20, 30, 50, 70];

const fn bounds() -> [u64; BOUNDS] {
    let (mut bounds, mut place, mut scale) = ([0; BOUNDS], 0, 10);
    while place < BOUNDS - 1 {
        bounds[place] = STEPS[place % 6] * scale;
        place += 1;
        if place % 6 == 0 {
            scale *= 10;
        }
    }
    bounds[BOUNDS - 1] = STEPS[0] * scale;
    bounds
}

/// How many durations were how long. The last place is for what is longer than all bounds.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: [u64; BOUNDS + 1],
    sum_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BOUNDS + 1], sum_us: 0 }
    }
}

impl Histogram {
    /// So many of one length.
    pub(crate) fn add(&mut self, value: Duration, count: u64) {
        let us = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.counts[BOUNDS_US.partition_point(|bound| *bound < us)] += count;
        self.sum_us = self.sum_us.saturating_add(us.saturating_mul(count));
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together, in s.
    #[must_use]
    pub fn sum_s(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// The bounds of 1, 2 and 5 in each power of ten, in s, each with how many are no longer.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut so_far = 0;
        BOUNDS_US.iter().zip(self.counts).enumerate().filter_map(move |(place, (bound_us, count))| {
            so_far += count;
            matches!(place % 6, 0 | 2 | 4).then_some((*bound_us as f64 / 1e6, so_far))
        })
    }

    /// What a share (0 to 1) of them is no longer than: the bound of the bucket it is in, so rather too much than too little.
    /// None if there are none.
    #[must_use]
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        let wanted = ((count as f64 * share).ceil() as u64).max(1);
        let mut so_far = 0;
        let place = self.counts.iter().position(|count| {
            so_far += count;
            so_far >= wanted
        })?;
        Some(Duration::from_micros(BOUNDS_US[place.min(BOUNDS - 1)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_grow_from_a_tenth_of_a_millisecond_to_ten_thousand_seconds() {
        assert_eq!(BOUNDS_US[..7], [100, 150, 200, 300, 500, 700, 1000]);
        assert_eq!(BOUNDS_US[48], 10_000_000_000);
        assert!(BOUNDS_US.is_sorted());
    }

    #[test]
    fn a_percentile_is_the_bound_above() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(0.5), None);
        histogram.add(Duration::from_micros(900), 98);
        histogram.add(Duration::from_secs(2), 2);
        assert_eq!(histogram.percentile(0.5), Some(Duration::from_millis(1)));
        assert_eq!(histogram.percentile(0.99), Some(Duration::from_secs(2)));
        histogram.add(Duration::from_secs(1_000_000), 100);
        assert_eq!(histogram.percentile(1.0), Some(Duration::from_secs(10_000)), "longer than all bounds");
    }

    #[test]
    fn the_bounds_that_are_told_count_all_that_is_below() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::from_micros(150), 1);
        histogram.add(Duration::from_millis(40), 2);
        let told: Vec<_> = histogram.cumulative().collect();
        assert_eq!(told.len(), 25);
        assert_eq!(told[..2], [(0.0001, 0), (0.0002, 1)]);
        assert_eq!(told.iter().find(|(bound, _)| *bound >= 0.05), Some(&(0.05, 3)));
        assert!((histogram.sum_s() - 0.08015).abs() < 1e-9);
    }
}
