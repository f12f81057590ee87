//! What a receiver gets: the body, and the id by which it can tell a repetition.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Delivery;
use crate::types::{DueAt, Payload, Token, rfc3339_ms};

/// Bytes of the hash that make the id: 128 bits do not collide.
const ID_BYTES: usize = 16;

#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    queue: &'a str,
    id: &'a str,
    due_at: DueAt,
    attempt: u32,
    token: Token,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a Payload>,
}

/// The body of the call. `timestamp` is when the delivery was claimed, by the clock of Redis.
pub(super) fn body(delivery: &Delivery) -> Vec<u8> {
    let event = Event {
        r#type: "deadline.expired",
        timestamp: rfc3339_ms(delivery.claimed_at.as_ms()),
        data: Data {
            queue: delivery.queue.as_str(),
            id: delivery.id.as_str(),
            due_at: delivery.due_at,
            attempt: delivery.attempt,
            token: delivery.token,
            payload: delivery.payload.as_ref(),
        },
    };
    serde_json::to_vec(&event).expect("text and numbers always have a JSON form")
}

/// The same for every attempt of one registration, and for no other; it says nothing and has no `.`, which
/// separates what is signed. None of the hashed parts can hold a zero byte.
pub(super) fn webhook_id(delivery: &Delivery) -> String {
    let parts = format!("{}\0{}\0{}", delivery.queue, delivery.id, delivery.first_token);
    let hash = Sha256::digest(parts);
    let hex = hash[..ID_BYTES].iter().map(|byte| format!("{byte:02x}"));
    format!("msg_{}", hex.collect::<String>())
}
