//! Tells somebody of expired orders, with the order as it was when it expired.

use super::Order;
use crate::{
    handler::{Delivery, Handler, Outcome, SharedHandler},
    queue::Queue,
    types::{Companion, Payload, QueueName},
};

/// The handler of the queue that tells of expired orders: hands each on to another handler, with the whole order as
/// the payload. At least once, after the status has changed.
pub struct Notify {
    handler: SharedHandler,
}

impl Notify {
    /// Tells `handler`.
    pub fn new(handler: impl Handler) -> Self {
        Self { handler: std::sync::Arc::new(handler) }
    }

    pub(crate) fn shared(handler: SharedHandler) -> Self {
        Self { handler }
    }

    /// The queue that this is the handler of, for the orders of `queue`.
    #[must_use]
    pub fn queue(queue: &Queue) -> Queue {
        queue.companion(Companion::Notify)
    }
}

impl Handler for Notify {
    async fn handle(&self, delivery: &Delivery) -> Outcome {
        match with_order(delivery) {
            Ok(delivery) => self.handler.handle_dyn(&delivery).await,
            Err(error) => Outcome::dead(error),
        }
    }
}

/// The payload that `order_expire.lua` writes is the hash as JSON; a handler gets it in the form of all orders.
pub(super) fn with_order(delivery: &Delivery) -> Result<Delivery, String> {
    let text = delivery.payload.as_ref().ok_or("it has no order")?.as_str();
    let fields: std::collections::BTreeMap<String, String> =
        serde_json::from_str(text).map_err(|cause| format!("no order: {cause}"))?;
    let queue = QueueName::new(delivery.queue.base()).map_err(|cause| cause.to_string())?;
    let order = Order::from_pairs(&queue, &delivery.id, fields.into_iter().collect())
        .ok_or("no order: it has no status")?;
    let json = serde_json::to_string(&order).expect("texts always have a JSON form");
    let payload = Payload::new(json).map_err(|cause| format!("too large to be handed on: {cause}"))?;
    let mut delivery = delivery.clone();
    delivery.payload = Some(payload);
    Ok(delivery)
}
