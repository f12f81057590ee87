//! Verify: whether a queue is whole, in bounded steps that each are one instant.

use std::fmt;

use redis::Value;
use serde::Serialize;

use super::{Queue, reply::Reply, scripts};
use crate::{
    error::{Error, Result},
    types::printable,
};

/// What can be wrong with a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Flaw {
    /// An id is scheduled, and among the dead.
    ScheduledAndDead,
    /// An id is leased, and among the dead.
    LeasedAndDead,
    /// An id is leased by a token whose lease has no end.
    LeaseWithoutEnd,
    /// An id is leased, and what a redelivery needs of it is not there.
    NotInBatch,
    /// A lease of which no id is left.
    LeaseOfNobody,
    /// What a redelivery needs, of a claim of which no id is left.
    BatchOfNobody,
    /// A payload of an id that is neither scheduled nor dead.
    PayloadOfNobody,
    /// A record of an id that is neither scheduled, leased nor dead.
    RecordOfNobody,
    /// A record that cannot be read.
    DamagedRecord,
    /// A score that is no deadline.
    ImpossibleScore,
    /// An id is in two shards.
    InTwoShards,
    /// A key that expires.
    Ttl,
    /// A key of another type.
    WrongType,
}

impl Flaw {
    const ALL: [(&str, Self); 13] = [
        ("scheduled_and_dead", Self::ScheduledAndDead),
        ("leased_and_dead", Self::LeasedAndDead),
        ("lease_without_end", Self::LeaseWithoutEnd),
        ("not_in_batch", Self::NotInBatch),
        ("lease_of_nobody", Self::LeaseOfNobody),
        ("batch_of_nobody", Self::BatchOfNobody),
        ("payload_of_nobody", Self::PayloadOfNobody),
        ("record_of_nobody", Self::RecordOfNobody),
        ("damaged_record", Self::DamagedRecord),
        ("impossible_score", Self::ImpossibleScore),
        ("in_two_shards", Self::InTwoShards),
        ("ttl", Self::Ttl),
        ("wrong_type", Self::WrongType),
    ];

    /// What follows from it.
    #[must_use]
    pub fn consequence(self) -> &'static str {
        match self {
            Self::ScheduledAndDead | Self::LeasedAndDead => "it is delivered, and listed as dead beside that",
            Self::LeaseWithoutEnd => {
                "if its process dies, it is delivered again only when a claim comes upon it"
            }
            Self::NotInBatch => {
                "if its process dies, it is delivered again without its payload and its deadline"
            }
            Self::LeaseOfNobody | Self::BatchOfNobody => "memory",
            Self::PayloadOfNobody => {
                "memory; the next registration of the id without a payload gets this one"
            }
            Self::RecordOfNobody => "memory",
            Self::DamagedRecord => "its attempts are counted anew",
            Self::ImpossibleScore => "it never fires",
            Self::InTwoShards => "it is delivered by each of them, at the deadline that it has there",
            Self::Ttl => "Redis deletes it at that time, with all that is in it",
            Self::WrongType => "the queue stands still",
        }
    }

    /// How it is mended.
    #[must_use]
    pub fn mend(self) -> &'static str {
        match self {
            Self::ScheduledAndDead | Self::LeasedAndDead => "taken out of the dead",
            Self::LeaseWithoutEnd => "the lease ends now: it is delivered again",
            Self::NotInBatch => "a redelivery finds it due now; its payload is lost",
            Self::LeaseOfNobody | Self::BatchOfNobody | Self::PayloadOfNobody => "removed",
            Self::RecordOfNobody | Self::DamagedRecord => "removed",
            Self::ImpossibleScore => "moved to the dead, where somebody sees it",
            Self::InTwoShards => {
                "by hand: cancel it, which takes out both, and register it; or `queue reshard` with the number of shards \
                 that there is, which keeps the one at home"
            }
            Self::Ttl => "the TTL is taken off",
            Self::WrongType => "by hand: rename or delete the key",
        }
    }

    /// True if [`Queue::verify`] can mend it.
    #[must_use]
    pub fn can_be_mended(self) -> bool {
        !matches!(self, Self::WrongType | Self::InTwoShards)
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(_, flaw)| flaw == self).map_or("", |(word, _)| word))
    }
}

/// Parts of a queue, in the order in which they are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The keys themselves: types, and that none expires.
    Keys,
    /// Ids by deadline.
    Scheduled,
    /// Ids that are held.
    Leased,
    /// Ends of leases.
    Leases,
    /// What redeliveries need.
    Batches,
    /// Payloads.
    Payload,
    /// Records of what failed.
    Attempts,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Keys,
        Self::Scheduled,
        Self::Leased,
        Self::Leases,
        Self::Batches,
        Self::Payload,
        Self::Attempts,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Scheduled => "scheduled",
            Self::Leased => "leased",
            Self::Leases => "leases",
            Self::Batches => "batches",
            Self::Payload => "payload",
            Self::Attempts => "attempts",
        }
    }
}

/// What was found, and where: an id, a token or a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What is wrong.
    pub flaw: Flaw,
    /// With whom.
    pub subject: Vec<u8>,
}

impl Found {
    /// With whom, for people.
    #[must_use]
    pub fn name(&self) -> String {
        printable(&self.subject)
    }
}

/// A step of [`Queue::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many were looked at.
    pub looked_at: u64,
    /// What is wrong.
    pub found: Vec<Found>,
    /// Where to go on; none at the end of the part.
    pub next: Option<VerifyCursor>,
}

/// Where a walk stands. What is there from its beginning to its end is looked at, some perhaps twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyCursor(Vec<u8>);

impl VerifyCursor {
    pub(super) fn new(text: Vec<u8>) -> Self {
        Self(text)
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.0
    }
}

impl Queue {
    /// Looks at a step of a part, some hundred entries, and mends what is wrong there if `mend` says so. A payload that
    /// belongs to nobody is only reported: registering writes the payload first, so ask [`Queue::verify_orphans`] a while
    /// later.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn verify(&self, part: Part, after: Option<&VerifyCursor>, mend: bool) -> Result<Verified> {
        if part == Part::Keys {
            return self.verify_keys(mend).await;
        }
        let cursor = after.map_or(&b"0"[..], VerifyCursor::text);
        let call = self.timed(&scripts::VERIFY).arg(u8::from(mend)).arg(part.word()).arg(cursor);
        let mut verified = self.verified(call).await?;
        if part == Part::Scheduled && after.is_none() {
            verified.found.extend(self.verify_scores(mend).await?);
        }
        Ok(verified)
    }

    /// Of ids whose payload belonged to nobody, those for which that is still so; at most 1000.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn verify_orphans(&self, ids: &[Vec<u8>], mend: bool) -> Result<Vec<Found>> {
        let call = self.timed(&scripts::VERIFY).arg(u8::from(mend)).arg("orphans").arg("0");
        Ok(self.verified(call.args(ids.iter().map(Vec::as_slice))).await?.found)
    }

    async fn verified(&self, call: crate::redis::Call<'_>) -> Result<Verified> {
        let mut reply = Reply::new("verify", self.call(call).await?)?;
        let (cursor, looked_at) = (reply.string()?, reply.count()?);
        let mut pairs = reply.nested()?;
        let mut found = Vec::with_capacity(pairs.len() / 2);
        while pairs.len() > 0 {
            let (word, subject) = (pairs.string()?, pairs.string()?);
            let flaw = Flaw::ALL.iter().find(|(known, _)| known.as_bytes() == word).map(|(_, flaw)| *flaw);
            let detail = || format!("no such finding: {}", printable(&word));
            let flaw = flaw.ok_or_else(|| Error::Reply { script: "verify", detail: detail() })?;
            found.push(Found { flaw, subject });
        }
        Ok(Verified { looked_at, found, next: (cursor != b"0").then_some(VerifyCursor(cursor)) })
    }

    /// How many scores are none is known at once; which they are, is seen in the dead set.
    async fn verify_scores(&self, mend: bool) -> Result<Vec<Found>> {
        let count = self.counts().await?.impossible;
        if mend && count > 0 {
            while self.reject().await? > 0 {}
        }
        let subject = format!("{count} entries").into_bytes();
        Ok(if count > 0 { vec![Found { flaw: Flaw::ImpossibleScore, subject }] } else { Vec::new() })
    }

    async fn verify_keys(&self, mend: bool) -> Result<Verified> {
        let mut found = Vec::new();
        let mut looked_at = 0;
        for (key, expected) in self.keys.typed(None) {
            looked_at += 1;
            let mut flaw = |flaw| found.push(Found { flaw, subject: key.clone().into_bytes() });
            match self.redis.run(redis::cmd("TYPE").arg(key)).await? {
                Value::SimpleString(kind) if kind == "none" => continue,
                Value::SimpleString(kind) if kind == expected => {}
                _ => flaw(Flaw::WrongType),
            }
            if let Value::Int(0..) = self.redis.run(redis::cmd("PTTL").arg(key)).await? {
                flaw(Flaw::Ttl);
                if mend {
                    self.redis.run(redis::cmd("PERSIST").arg(key)).await?;
                }
            }
        }
        Ok(Verified { looked_at, found, next: None })
    }
}
