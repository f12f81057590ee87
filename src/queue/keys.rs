//! The only place that spells a key. The braces are a hash tag: all keys of a queue live in one cluster slot.

use crate::types::QueueName;

/// The parts of the eight keys that every script gets, in the order of `lib.lua`, with their types.
const PARTS: [(&str, &str); 8] = [
    ("scheduled", "zset"),
    ("payload", "hash"),
    ("leased", "zset"),
    ("leases", "zset"),
    ("batches", "hash"),
    ("attempts", "hash"),
    ("dead", "zset"),
    ("meta", "hash"),
];

/// The stream that the `stream` sink writes to. It belongs to its readers, so purging a queue leaves it.
const FIRED: (&str, &str) = ("fired", "stream");

/// The keys of one queue.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// What all of them begin with.
    base: String,
    /// The eight of `lib.lua`, then `fired`.
    all: Vec<String>,
}

impl Keys {
    pub(super) fn new(prefix: &str, queue: &QueueName) -> Self {
        let base = format!("{prefix}:{{{queue}}}:");
        let all = PARTS.iter().chain([&FIRED]).map(|(part, _)| format!("{base}{part}")).collect();
        Self { base, all }
    }

    /// For messages.
    pub(super) fn pattern(&self) -> String {
        format!("{}*", self.base)
    }

    /// What every script gets.
    pub(super) fn common(&self) -> &[String] {
        &self.all[..PARTS.len()]
    }

    /// The same and the stream, for `fire_stream`.
    pub(super) fn with_stream(&self) -> &[String] {
        &self.all
    }

    /// Every key with the type that overdue keeps there.
    pub(super) fn typed(&self) -> impl Iterator<Item = (&String, &'static str)> {
        self.all.iter().zip(PARTS.iter().chain([&FIRED]).map(|(_, expected)| *expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frozen_keys_are_spelled_as_in_the_contract() {
        let keys = Keys::new("overdue", &QueueName::new("orders").unwrap());
        assert_eq!(keys.common()[0], "overdue:{orders}:scheduled");
        assert_eq!(keys.common()[1], "overdue:{orders}:payload");
        assert_eq!(keys.with_stream()[8], "overdue:{orders}:fired");
    }
}
