//! What a handler outside this process gets: the body of a webhook, the standard input of a command.

use serde::Serialize;

use super::Delivery;
use crate::types::{Companion, DueAt, Id, Payload, Token, rfc3339_ms};

/// The body as the contract words it. The fields are in the order in which they are written.
#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    /// When the deadline was claimed, by the clock of Redis.
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    queue: &'a str,
    id: &'a Id,
    due_at: DueAt,
    attempt: u32,
    token: Token,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a Payload>,
}

/// What tells of an expired order has the order as its payload, and the queue of orders as its queue.
fn event_type(delivery: &Delivery) -> &'static str {
    match delivery.queue.as_companion() {
        Some(Companion::Notify) => "order.expired",
        Some(Companion::Intake) | None => "deadline.expired",
    }
}

/// The delivery as one JSON document. Its payload is in it as it was registered, so that no number loses a digit.
pub(super) fn body(delivery: &Delivery) -> Vec<u8> {
    let event = Event {
        r#type: event_type(delivery),
        timestamp: rfc3339_ms(delivery.claimed_at.as_ms()),
        data: Data {
            queue: delivery.queue.base(),
            id: &delivery.id,
            due_at: delivery.due_at,
            attempt: delivery.attempt,
            token: delivery.token,
            payload: delivery.payload.as_ref(),
        },
    };
    serde_json::to_vec(&event).expect("text and numbers always have a JSON form")
}
