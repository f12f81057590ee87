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

/// What the sinks write to. It belongs to its readers, so purging a queue leaves it. Its type is the sink's.
const FIRED: &str = "fired";

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
        let parts = PARTS.iter().map(|(part, _)| *part).chain([FIRED]);
        let all = parts.map(|part| format!("{base}{part}")).collect();
        Self { base, all }
    }

    /// True if a key belongs to any queue under this prefix.
    pub(super) fn are_of_the_kind_of(&self, key: &[u8]) -> bool {
        let scheduled = &self.all[0];
        let brace = scheduled.rfind('{').expect("every key has its tag, and no queue's name a brace");
        key.starts_with(&scheduled.as_bytes()[..=brace])
    }

    /// For messages.
    pub(super) fn pattern(&self) -> String {
        format!("{}*", self.base)
    }

    /// What every script gets.
    pub(super) fn common(&self) -> &[String] {
        &self.all[..PARTS.len()]
    }

    /// The same and `fired`, for the sinks.
    pub(super) fn with_fired(&self) -> &[String] {
        &self.all
    }

    /// Every key with the type that overdue keeps there; `fired` counts only where a sink's type is given.
    pub(super) fn typed(&self, fired: Option<&'static str>) -> impl Iterator<Item = (&String, &'static str)> {
        self.all.iter().zip(PARTS.iter().map(|(_, expected)| *expected).chain(fired))
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
        assert_eq!(keys.with_fired()[8], "overdue:{orders}:fired");
    }

    #[test]
    fn keys_of_other_queues_are_told_from_foreign_ones() {
        let keys = Keys::new("shop", &QueueName::new("orders").unwrap());
        assert!(keys.are_of_the_kind_of(b"shop:{other}:payload"));
        assert!(
            !keys.are_of_the_kind_of(b"shop:42") && !keys.are_of_the_kind_of(b"overdue:{orders}:payload")
        );
    }
}
