//! The only place that spells a key. The braces are a hash tag: all keys of a queue live in one cluster slot.

use std::sync::Arc;

use crate::types::{Companion, QueueName};

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

/// The parts of the keys that every order verb gets after the eight, in the order of `order_lib.lua`; two keys of
/// the companion `notify` follow them.
const ORDER_PARTS: [(&str, &str); 4] =
    [("events", "stream"), ("paid", "zset"), ("cancelled", "zset"), ("expired", "zset")];

/// What left a shard for another one and has not arrived there yet.
const MOVING: &str = "moving";

/// What the sinks write to. It belongs to its readers, so purging a queue leaves it. Its type is the sink's.
const FIRED: &str = "fired";

/// The keys of one queue, or of one of its shards.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: Arc<str>,
    queue: QueueName,
    shard: u16,
    /// The eight of `lib.lua`, then `fired`.
    all: Arc<[String]>,
}

impl Keys {
    pub(super) fn new(prefix: &str, queue: &QueueName) -> Self {
        Self::spelled(prefix.into(), queue.clone(), 0)
    }

    /// The keys of a shard of the same queue. Those of the first are those of a queue that has no others.
    pub(super) fn shard(&self, shard: u16) -> Self {
        Self::spelled(Arc::clone(&self.prefix), self.queue.clone(), shard)
    }

    fn spelled(prefix: Arc<str>, queue: QueueName, shard: u16) -> Self {
        let mut keys = Self { prefix, queue, shard, all: Arc::default() };
        let parts = PARTS.iter().map(|(part, _)| *part).chain([FIRED]);
        keys.all = parts.map(|part| keys.spell(keys.queue.as_companion(), part)).collect();
        keys
    }

    /// The keys of a companion of the same queue.
    pub(super) fn companion(&self, companion: Companion) -> Self {
        Self::new(&self.prefix, &self.queue.companion(companion))
    }

    fn spell(&self, companion: Option<Companion>, part: &str) -> String {
        let (prefix, queue) = (&self.prefix, self.queue.base());
        let tag = if self.shard == 0 { queue.to_owned() } else { format!("{queue}#{}", self.shard) };
        match companion {
            Some(companion) => format!("{prefix}:{{{tag}}}:{}:{part}", companion.word()),
            None => format!("{prefix}:{{{tag}}}:{part}"),
        }
    }

    /// True if a key belongs to any queue under this prefix.
    pub(super) fn are_of_the_kind_of(&self, key: &[u8]) -> bool {
        key.starts_with(format!("{}:{{", self.prefix).as_bytes())
    }

    /// For messages.
    pub(super) fn pattern(&self) -> String {
        self.spell(self.queue.as_companion(), "*")
    }

    /// What every script gets.
    pub(super) fn common(&self) -> &[String] {
        &self.all[..PARTS.len()]
    }

    /// Those of them that hold ids and what is known of them: all but `meta`.
    pub(super) fn of_ids(&self) -> &[String] {
        &self.all[..PARTS.len() - 1]
    }

    /// The common ones and `fired`, for the sinks.
    pub(super) fn with_fired(&self) -> &[String] {
        &self.all
    }

    /// What is on its way to another shard.
    pub(super) fn moving(&self) -> String {
        self.spell(self.queue.as_companion(), MOVING)
    }

    /// The common ones and `moving`, for the verbs that move ids between shards.
    pub(super) fn with_moving(&self) -> Vec<String> {
        self.common().iter().cloned().chain([self.moving()]).collect()
    }

    /// What every order verb gets, and the orders of these ids.
    pub(super) fn with_orders<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Vec<String> {
        let own = ORDER_PARTS.iter().map(|(part, _)| self.spell(None, part));
        let notify = PARTS[..2].iter().map(|(part, _)| self.spell(Some(Companion::Notify), part));
        let orders = ids.map(|id| self.spell(None, &format!("order:{id}")));
        self.common().iter().cloned().chain(own).chain(notify).chain(orders).collect()
    }

    /// The stream of what happened to orders.
    pub(super) fn events(&self) -> String {
        self.spell(None, ORDER_PARTS[0].0)
    }

    /// Every key with the type that overdue keeps there; `fired` counts only where a sink's type is given.
    pub(super) fn typed(&self, fired: Option<&'static str>) -> impl Iterator<Item = (&String, &'static str)> {
        self.all.iter().zip(PARTS.iter().map(|(_, expected)| *expected).chain(fired))
    }

    /// The types of what [`Keys::with_orders`] answers, in its order, without the orders.
    pub(super) fn order_types() -> impl Iterator<Item = &'static str> {
        PARTS.iter().chain(&ORDER_PARTS).chain(&PARTS[..2]).map(|(_, expected)| *expected)
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
        assert_eq!([keys.of_ids(), &["overdue:{orders}:meta".to_owned()]].concat(), keys.common());
        assert_eq!(keys.events(), "overdue:{orders}:events");
    }

    #[test]
    fn each_shard_has_a_slot_of_its_own_and_the_first_has_the_keys_of_the_queue() {
        let keys = Keys::new("overdue", &QueueName::new("orders").unwrap());
        assert_eq!(keys.shard(0).common(), keys.common());
        assert_eq!(keys.shard(3).common()[0], "overdue:{orders#3}:scheduled");
        assert_eq!(keys.shard(3).with_moving()[8], "overdue:{orders#3}:moving");
    }

    #[test]
    fn companions_live_in_the_slot_of_their_queue() {
        let intake = Keys::new("overdue", &QueueName::new("orders.intake").unwrap());
        assert_eq!(intake.common()[0], "overdue:{orders}:intake:scheduled");
        let keys = intake.with_orders(["42"].into_iter());
        assert_eq!(keys[8..10], ["overdue:{orders}:events", "overdue:{orders}:paid"]);
        assert_eq!(
            keys[12..],
            [
                "overdue:{orders}:notify:scheduled",
                "overdue:{orders}:notify:payload",
                "overdue:{orders}:order:42"
            ]
        );
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
