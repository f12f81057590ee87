//! How long a benchmark takes and how much memory it needs, roughly: said before it begins.

use std::{fmt, fs, time::Duration};

use anyhow::bail;

use super::{What, fire::Kind, plan::Plan};
use crate::duration;

/// Ids in a second on a machine with two cores, as this benchmark has them: filled in and taken out again by whatever
/// handler, and the slow ones among them.
const FILLED: f64 = 200_000.0;
const FIRED: f64 = 120_000.0;
const ORDERS: f64 = 15_000.0;
const WEBHOOKS: f64 = 6000.0;
/// All shapes of `register` together, bare clients too.
const REGISTERED: f64 = 30_000.0;
/// Bytes of Redis for a pending id of 13 bytes, for one of 36 bytes with a payload, and for an order.
const ID_BYTES: f64 = 125.0;
const LONG_BYTES: f64 = 360.0;
const ORDER_BYTES: f64 = 700.0;

/// What to expect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    seconds: f64,
    bytes: f64,
}

/// Adds up the seconds of what is measured, and takes the most memory of any.
pub(super) fn of(what: &[What], plan: &Plan) -> Estimate {
    let all = what.iter().map(|what| of_one(*what, plan));
    all.fold(Estimate { seconds: 0.0, bytes: 0.0 }, |sum, one| Estimate {
        seconds: sum.seconds + one.seconds,
        bytes: sum.bytes.max(one.bytes),
    })
}

fn of_one(what: What, plan: &Plan) -> Estimate {
    let (ids, backlog, runs) = (plan.ids as f64, plan.backlog as f64, f64::from(plan.runs));
    let span = plan.span.as_secs_f64();
    let (batches, rates) = (plan.batch_sizes.len() as f64, &plan.rates);
    let (seconds, bytes) = match what {
        What::Register => (runs * ids / REGISTERED, ids * ID_BYTES),
        What::Fire => {
            let each = plan.handlers.iter().map(|kind| match kind {
                Kind::Order => kind.share(plan.ids) as f64 / ORDERS,
                Kind::Webhook => kind.share(plan.ids) as f64 / WEBHOOKS,
                Kind::InProcess | Kind::Stream | Kind::List => {
                    ids * kind.ways().len() as f64 * (1.0 / FILLED + 1.0 / FIRED)
                }
            });
            (runs * batches * each.sum::<f64>(), ids * ID_BYTES + ids / 5.0 * ORDER_BYTES)
        }
        What::Lateness => {
            let each =
                rates.iter().map(|rate| 2.0 * (span + *rate as f64 * span / FILLED + 1.0)).sum::<f64>();
            (backlog / FILLED + runs * each, backlog * ID_BYTES)
        }
        What::Storm => (runs * (2.0 * ids / FILLED + ids / FIRED + 2.0), ids * 2.0 * ID_BYTES),
        What::Memory => (backlog * 1.1 * 12.0 / FILLED + ids / FIRED + 10.0, backlog * LONG_BYTES),
        What::Idle => (backlog / FILLED + runs * 2.0 * (span + 2.0), backlog * ID_BYTES),
        What::Scale => {
            let each = 6.0 * (ids / FILLED + ids / FIRED) + 3.0 * ids / 10.0 * (3.0 / FILLED + 1.0 / FIRED);
            (backlog * 1.11 / FILLED + runs * each, backlog * 1.11 * ID_BYTES)
        }
        What::Shards => (runs * 3.0 * (ids / FILLED + ids / FIRED) + 5.0, ids * ID_BYTES),
    };
    Estimate { seconds, bytes }
}

impl Estimate {
    /// Refuses what this machine has no memory for: Redis would be killed, and others with it.
    pub(super) fn check_memory(&self) -> anyhow::Result<()> {
        let Some(available) = available_bytes() else { return Ok(()) };
        if self.bytes > available {
            bail!(
                "this needs {}, and {} are free on this machine: choose a smaller --backlog or --ids",
                gigabytes(self.bytes),
                gigabytes(available)
            );
        }
        Ok(())
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = if self.seconds < 100.0 { self.seconds } else { (self.seconds / 60.0).round() * 60.0 };
        let length = duration::format(Duration::from_secs(seconds.ceil() as u64));
        write!(f, "about {length}, and {} in Redis", gigabytes(self.bytes))
    }
}

fn gigabytes(bytes: f64) -> String {
    if bytes < 1e8 { "less than 0.1 GB".to_owned() } else { format!("{:.1} GB", bytes / 1e9) }
}

/// None where the system does not tell.
fn available_bytes() -> Option<f64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? * 1024.0)
}
