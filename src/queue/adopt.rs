//! The verb of those who move over from key expiry: adopt.

use super::{
    Queue,
    reply::{Reply, deadline, unknown},
    scripts,
};
use crate::{
    error::{Invalid, Result},
    redis::Call,
    types::{DueAt, Id},
};

/// Keys in one call: at some 10 µs each they keep Redis from others for 2 or 3 ms.
const MAX_KEYS_PER_CALL: usize = 250;

/// A key of somebody else, and the id that its deadline gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The key, which may hold any type.
    pub key: String,
    /// The id in this queue.
    pub id: Id,
}

/// How far an adoption goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// Writes nothing, and answers what a move would do.
    Look,
    /// Registers the deadline and leaves the TTL: the key still expires in the old way, too.
    KeepTtl,
    /// Registers the deadline and removes the TTL.
    Move,
}

impl Takeover {
    /// As the scripts call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::KeepTtl => "keep_ttl",
            Self::Move => "move",
        }
    }
}

/// What became of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// It had a TTL; now it has a deadline.
    Now {
        /// The deadline that holds.
        due_at: DueAt,
    },
    /// There was nothing to do: the id is scheduled, leased or dead. Of [`Takeover::KeepTtl`] also: it is
    /// scheduled for when the TTL ends, or for later.
    Before,
    /// It has no TTL, and its id is not known.
    NoTtl,
    /// It expired in the old way, or was deleted.
    Gone,
    /// Its TTL ends past the year 9999, or before 1973. Nothing was changed.
    OutOfRange,
}

impl Queue {
    /// Makes the TTL of each key a deadline; answers for each in order. Each key is one atomic step: it either
    /// expires in the old way or has a deadline, whatever dies. If the id is scheduled already, the later
    /// deadline holds. Doing it twice changes nothing.
    ///
    /// # Errors
    /// If the queue has several shards, or Redis refuses, as it does when it is full. What was done of a long list before that stays done.
    pub async fn adopt(&self, candidates: &[Candidate], takeover: Takeover) -> Result<Vec<Adopted>> {
        if self.each_shard().await?.len() > 1 {
            let why = "has several shards, and only keys of one can be taken over: `overdue queue reshard` it to 1 before";
            return Err(Invalid::new("queue", self.name(), why).into());
        }
        let mut answers = Vec::with_capacity(candidates.len());
        for step in candidates.chunks(MAX_KEYS_PER_CALL) {
            let foreign = step.iter().map(|candidate| candidate.key.clone());
            let keys: Vec<String> = self.keys.common().iter().cloned().chain(foreign).collect();
            let ids = step.iter().map(|candidate| candidate.id.as_str());
            let call = Call::new(&scripts::ADOPT, &keys).arg(takeover.word()).args(ids);
            for [code, due_ms] in Reply::new("adopt", self.call(call).await?)?.groups(step.len())? {
                answers.push(adopted(code, due_ms)?);
            }
        }
        Ok(answers)
    }

    /// True if overdue keeps this key for any queue under its prefix.
    #[must_use]
    pub fn is_own_key(&self, key: &[u8]) -> bool {
        self.keys.are_of_the_kind_of(key)
    }
}

fn adopted(code: i64, due_ms: i64) -> Result<Adopted> {
    Ok(match code {
        1 => Adopted::Now { due_at: deadline("adopt", due_ms)? },
        2 => Adopted::Before,
        3 => Adopted::NoTtl,
        4 => Adopted::Gone,
        5 => Adopted::OutOfRange,
        code => return Err(unknown("adopt", code)),
    })
}
