//! Keeps the dead set within its retention, where the queue's owner has set one.

use std::time::{Duration, Instant};

use super::Settings;
use crate::{
    error::Result,
    queue::{MAX_IDS_PER_CALL, Queue},
};

/// How often to look: far more often than the shortest retention, an hour, asks for.
const INTERVAL: Duration = Duration::from_secs(60);

/// When the dead set was last looked at.
#[derive(Default)]
pub(super) struct Trimmer {
    looked: Option<Instant>,
}

impl Trimmer {
    /// Removes what has been dead for longer than the retention: at most one call a minute, and one for each
    /// poll as long as there is more than one call takes.
    pub(super) async fn trim(&mut self, queue: &Queue, settings: &Settings) -> Result<()> {
        let Some(retention) = settings.dead_retention else { return Ok(()) };
        if self.looked.is_some_and(|looked| looked.elapsed() < INTERVAL) {
            return Ok(());
        }
        let trimmed = queue.trim_dead(retention).await?;
        if trimmed > 0 {
            tracing::info!(queue = %queue.name(), trimmed, "dead for longer than dead_retention; removed");
        }
        self.looked = (trimmed < MAX_IDS_PER_CALL as u64).then(Instant::now);
        Ok(())
    }
}
