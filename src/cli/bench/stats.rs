//! What is said of the values of several runs.

use serde::Serialize;

/// Median, least and greatest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Stats {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Stats {
    /// Of at least one value.
    pub(super) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (lower, upper) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Self { median: f64::midpoint(lower, upper), min: sorted[0], max: sorted[sorted.len() - 1] }
    }

    /// Of the ratios within each run. The ratio of the medians would compare what ran minutes apart.
    pub(super) fn of_ratios(values: &[f64], to: &[f64]) -> Self {
        let ratios: Vec<f64> = values.iter().zip(to).map(|(value, to)| value / to).collect();
        Self::of(&ratios)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle_or_between_two() {
        assert_eq!(Stats::of(&[3.0, 1.0, 2.0]), Stats { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Stats::of(&[4.0, 1.0, 2.0, 8.0]), Stats { median: 3.0, min: 1.0, max: 8.0 });
        assert_eq!(Stats::of(&[5.0]), Stats { median: 5.0, min: 5.0, max: 5.0 });
    }

    #[test]
    fn ratios_are_those_of_each_run() {
        // The machine was twice as fast in the second run: the ratio does not see that.
        assert_eq!(
            Stats::of_ratios(&[80.0, 160.0, 90.0], &[100.0, 200.0, 100.0]),
            Stats { median: 0.8, min: 0.8, max: 0.9 }
        );
    }
}
