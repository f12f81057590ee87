//! The `log` handler.

use super::{Delivery, Handler, Outcome};

/// Writes one structured line for each expiry and is done. The payload stays out of the log.
#[derive(Debug, Clone, Copy)]
pub struct Log;

impl Handler for Log {
    async fn handle(&self, delivery: &Delivery) -> Outcome {
        tracing::info!(
            queue = %delivery.queue,
            id = %delivery.id,
            due_at = %delivery.due_at,
            attempt = delivery.attempt,
            lateness_ms = delivery.lateness().as_millis() as u64,
            "deadline expired"
        );
        Outcome::Done
    }
}
