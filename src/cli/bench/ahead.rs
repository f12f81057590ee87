//! Registering deadlines that are yet to come, in time before the first of them.

use std::time::Duration;

use anyhow::bail;

use super::{lab::Lab, workload::Workload};
use crate::{queue::Queue, types::DueAt};

/// The rate at which registering is thought to go; where it is slower, it is tried again with more time.
const IDS_PER_SECOND: u64 = 150_000;
/// Between the last registration and the first deadline, at least: the schedulers that start then have connected.
const MARGIN: Duration = Duration::from_millis(300);
const MAX_TRIES: u32 = 6;

/// Fills the queue with `count` ids that are due at random within `span`, and answers when that begins: at least
/// `margin` from now.
pub(super) async fn fill(
    lab: &Lab<'_>,
    queue: &Queue,
    count: u64,
    span: Duration,
    seed: u64,
    margin: Duration,
) -> anyhow::Result<DueAt> {
    let margin = margin.max(MARGIN);
    let mut lead = Duration::from_secs(1).mul_f64(count as f64 / IDS_PER_SECOND as f64);
    for _ in 0..MAX_TRIES {
        let from = lab.now().await?.saturating_add(lead + margin);
        // The same ids each time: what is left of a try that was too slow is moved.
        lab.fill(queue, Workload::new(count, from, span, seed), None).await?;
        if lab.now().await?.saturating_add(margin) <= from {
            return Ok(from);
        }
        lead = lead * 2 + margin;
    }
    bail!("this machine is too slow to register {count} ids before the first is due")
}
