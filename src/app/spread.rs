//! Spreads a queue that never was over as many shards as the configuration says.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    error::Result,
    queue::{Queue, Shards},
};

/// How long to wait before looking again, while Redis is away or another process spreads the queue.
const PAUSE: Duration = Duration::from_secs(5);
/// How many of these may pass before it is told that nothing came of it.
const QUIET_PAUSES: u32 = 12;

/// Ends when the queue is spread, in whatever way, or the stop is cancelled.
pub(super) async fn spread(queue: Queue, wanted: u16, stop: CancellationToken) {
    // Not `failed`: that a part of `serve` ends tells of a fault.
    let _ = stop.run_until_cancelled(until_spread(&queue, wanted)).await;
    stop.cancelled().await;
}

async fn until_spread(queue: &Queue, wanted: u16) {
    for pauses in 0.. {
        match once(queue, wanted).await {
            Ok(true) => return,
            Ok(false) if pauses == QUIET_PAUSES => tracing::warn!(
                queue = %queue.name(),
                "a reshard is under way or was broken off: if nobody is at it, run `overdue queue reshard` again"
            ),
            Err(cause) if pauses % QUIET_PAUSES == 1 => {
                tracing::warn!(queue = %queue.name(), wanted, %cause, "the queue is not spread over its shards yet");
            }
            Ok(false) | Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Answers whether there is nothing left to do.
async fn once(queue: &Queue, wanted: u16) -> Result<bool> {
    let shards = queue.ask_shards().await?;
    if shards == Shards::ONE {
        let done = queue.reshard(wanted, |_| {}).await?;
        tracing::info!(queue = %queue.name(), shards = wanted, moved = done.moved, "queue spread over its shards");
    } else if shards.is_moving() {
        return Ok(false);
    } else if shards.homes() != wanted {
        let (queue, has) = (queue.name(), shards.homes());
        tracing::warn!(
            %queue, has, wanted,
            "the queue has other shards than the configuration says: `overdue queue reshard` changes that"
        );
    }
    Ok(true)
}
