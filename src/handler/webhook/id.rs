//! The id by which a receiver can tell a repetition.

use sha2::{Digest as _, Sha256};

use super::Delivery;

/// Bytes of the hash that make the id: 128 bits do not collide.
const ID_BYTES: usize = 16;

/// The same for every attempt of one registration, and for no other; it says nothing and has no `.`, which
/// separates what is signed. None of the hashed parts can hold a zero byte.
pub(super) fn webhook_id(delivery: &Delivery) -> String {
    let parts = format!("{}\0{}\0{}", delivery.queue, delivery.id, delivery.first_token);
    let hash = Sha256::digest(parts);
    let hex = hash[..ID_BYTES].iter().map(|byte| format!("{byte:02x}"));
    format!("msg_{}", hex.collect::<String>())
}
