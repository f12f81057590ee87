//! The figures of a replay.

use std::{collections::HashMap, fs::File, time::Duration};

use serde::Serialize;

use super::{
    orders::{Order, OrdersFile},
    tally::Tally,
};
use crate::{
    cli::output::{block, or_dash},
    duration,
    types::{DueAt, Id},
};

/// What a replay found.
#[derive(Serialize)]
pub(super) struct Report {
    timeout: String,
    orders: usize,
    paid_in_time: usize,
    expired: usize,
    unreadable: usize,
    peak_pending: usize,
    #[serde(flatten)]
    lateness: Option<Lateness>,
}

/// By how much deadlines fired late, in real time; none if nothing fired.
#[derive(Serialize)]
struct Lateness {
    lateness_p50_ms: Option<f64>,
    lateness_p99_ms: Option<f64>,
    lateness_max_ms: Option<f64>,
}

impl Report {
    pub(super) fn new(file: &OrdersFile, tally: Tally, timeout: Duration, in_real_time: bool) -> Self {
        Self {
            timeout: duration::format(timeout),
            orders: file.orders.len(),
            paid_in_time: tally.paid_in_time,
            expired: tally.expired.len(),
            unreadable: file.unreadable,
            peak_pending: tally.peak_pending,
            lateness: in_real_time.then(|| Lateness::of(tally.latenesses)),
        }
    }

    pub(super) fn for_people(&self) -> String {
        let share = |count: usize| match self.orders {
            0 => "0".to_owned(),
            orders => format!("{count} ({:.1} %)", 100.0 * count as f64 / orders as f64),
        };
        let mut pairs = vec![
            ("timeout", self.timeout.clone()),
            ("orders", self.orders.to_string()),
            ("paid_in_time", share(self.paid_in_time)),
            ("expired", share(self.expired)),
            ("unreadable", self.unreadable.to_string()),
            ("peak_pending", self.peak_pending.to_string()),
        ];
        if let Some(lateness) = &self.lateness {
            pairs.push(("lateness_p50_ms", or_dash(lateness.lateness_p50_ms)));
            pairs.push(("lateness_p99_ms", or_dash(lateness.lateness_p99_ms)));
            pairs.push(("lateness_max_ms", or_dash(lateness.lateness_max_ms)));
        }
        block(&pairs)
    }
}

impl Lateness {
    fn of(mut latenesses: Vec<Duration>) -> Self {
        latenesses.sort_unstable();
        // The smallest that `percent` of all do not exceed.
        let percentile = |percent: usize| {
            let rank = (latenesses.len() * percent).div_ceil(100);
            Some(latenesses.get(rank.checked_sub(1)?)?.as_micros() as f64 / 1000.0)
        };
        Self {
            lateness_p50_ms: percentile(50),
            lateness_p99_ms: percentile(99),
            lateness_max_ms: percentile(100),
        }
    }
}

/// The expired orders as CSV, with their deadlines as they were in the past.
pub(super) fn write_expired(out: File, expired: &[Id], orders: &[Order]) -> csv::Result<()> {
    let due_at: HashMap<&Id, DueAt> = orders.iter().map(|order| (&order.id, order.due_at)).collect();
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(["id", "due_at"])?;
    for id in expired {
        writer.write_record([id.as_str(), &due_at[id].to_string()])?;
    }
    Ok(writer.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let of = |values: &[u64]| {
            let lateness = Lateness::of(values.iter().map(|us| Duration::from_micros(*us)).collect());
            (lateness.lateness_p50_ms, lateness.lateness_p99_ms, lateness.lateness_max_ms)
        };
        assert_eq!(of(&[]), (None, None, None));
        assert_eq!(of(&[1500]), (Some(1.5), Some(1.5), Some(1.5)));
        assert_eq!(of(&[4000, 1000, 3000, 2000]), (Some(2.0), Some(4.0), Some(4.0)));
        let hundred: Vec<u64> = (1..=100).map(|ms| ms * 1000).collect();
        assert_eq!(of(&hundred), (Some(50.0), Some(99.0), Some(100.0)));
    }
}
