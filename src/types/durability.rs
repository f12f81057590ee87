//! [`Durability`]: how much of a write must be done before it is answered.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use crate::duration;

/// What a write has to reach before it counts as done.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    Serialize,
    Deserialize,
    ToSchema,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityLevel {
    /// The memory of the master, which is when Redis answers: a failover can lose it.
    #[default]
    Memory,
    /// The memory of replicas as well (WAIT).
    Replicated,
    /// The disk of the master (WAITAOF, from Redis 7.2).
    Fsynced,
}

impl DurabilityLevel {
    /// All of them, with their words.
    pub const ALL: [(&str, Self); 3] =
        [("memory", Self::Memory), ("replicated", Self::Replicated), ("fsynced", Self::Fsynced)];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, level)| *level == self).map_or("", |(word, _)| word)
    }
}

impl fmt::Display for DurabilityLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A level, and how it is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Durability {
    /// What the write has to reach.
    pub level: DurabilityLevel,
    /// How many replicas must have it: in memory for `replicated`, where none counts as one; on disk for `fsynced`.
    pub replicas: u32,
    /// How long to wait for that, above 0.
    #[serde(serialize_with = "duration_as_text")]
    pub timeout: Duration,
}

impl Durability {
    /// Done when Redis answers.
    pub const MEMORY: Self =
        Self { level: DurabilityLevel::Memory, replicas: 0, timeout: Duration::from_secs(1) };
}

fn duration_as_text<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&duration::format(*value))
}
