//! What a handler outside this process gets: the body of a webhook, the standard input of a command.

use serde::Serialize;
use utoipa::ToSchema;

use super::Delivery;
use crate::{
    queue::TraceParent,
    types::{Companion, DueAt, Id, Payload, Token, rfc3339_ms},
};

/// The body as the contract words it. The fields are in the order in which they are written.
#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    /// When the deadline was claimed, by the clock of Redis.
    timestamp: String,
    data: EventData<'a>,
}

/// A delivery as everybody outside this process gets it.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(crate) struct EventData<'a> {
    queue: &'a str,
    #[schema(value_type = Id)]
    id: &'a Id,
    /// The deadline as it was registered.
    due_at: DueAt,
    /// 1 for the first attempt.
    #[schema(minimum = 1)]
    attempt: u32,
    token: Token,
    /// The trace that it was registered in, if one was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    traceparent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Payload>)]
    payload: Option<&'a Payload>,
}

impl<'a> EventData<'a> {
    pub(crate) fn of(delivery: &'a Delivery) -> Self {
        Self {
            queue: delivery.queue.base(),
            id: &delivery.id,
            due_at: delivery.due_at,
            attempt: delivery.attempt,
            token: delivery.token,
            traceparent: delivery.traceparent.as_ref().map(TraceParent::as_str),
            payload: delivery.payload.as_ref(),
        }
    }
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
        data: EventData::of(delivery),
    };
    serde_json::to_vec(&event).expect("text and numbers always have a JSON form")
}
