//! The errors of the library. Every message says what was wrong, where, and what to do about it.

use std::{fmt, time::Duration};

/// Shorthand for a result with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong when talking to a queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value that the caller passed is outside the contract. Nothing was sent to Redis.
    #[error(transparent)]
    Invalid(#[from] Invalid),

    /// Redis could not be reached, or refused the call.
    #[error(transparent)]
    Redis(#[from] Trouble),

    /// A key of the queue holds another type than overdue's. The script changed nothing.
    #[error(
        "key `{key}` holds a {found}, overdue expects a {expected}: \
         rename or delete it, or set another `redis.prefix`"
    )]
    WrongType {
        /// The key as it stands in Redis.
        key: String,
        /// The type overdue keeps there, in the words of Redis' TYPE.
        expected: &'static str,
        /// The type that Redis reports.
        found: String,
    },

    /// A write is done, but did not reach what was asked for in time. It may still get there, and it may be lost: say it
    /// again, as all writes of producers can be.
    #[error(
        "written, but not {level} within {waited:?}: {reached}. The write may still exist; say it again, \
         or look at the replicas and the disk of Redis"
    )]
    NotDurable {
        /// What was asked for: the word of a level of durability.
        level: &'static str,
        /// How far it came.
        reached: String,
        /// How long it was waited for.
        waited: Duration,
    },

    /// A script answered in a shape that this version does not know.
    #[error(
        "script `{script}` answered something unexpected ({detail}): \
         is another version of overdue at work on this queue?"
    )]
    Reply {
        /// The verb, which is also the name of the Lua file.
        script: &'static str,
        /// What was wrong with the reply.
        detail: String,
    },
}

impl Error {
    /// No answer within this time.
    pub(crate) fn timeout(limit: Duration) -> Self {
        Trouble { kind: TroubleKind::Timeout, detail: format!("no answer within {limit:?}") }.into()
    }
}

/// A value outside the contract: what it was meant to be, the value (cut to 60 characters), and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{value}` {why}")]
pub struct Invalid {
    what: &'static str,
    value: String,
    why: String,
}

impl Invalid {
    /// `what` names the kind of value ("id", "duration"), `why` continues the sentence after the value.
    pub fn new(what: &'static str, value: impl fmt::Display, why: impl Into<String>) -> Self {
        const SHOWN_CHARS: usize = 60;
        let value = value.to_string();
        let mut shown: String = value.escape_debug().take(SHOWN_CHARS).collect();
        if value.escape_debug().count() > SHOWN_CHARS {
            shown.push('…');
        }
        Self { what, value: shown, why: why.into() }
    }
}

/// Redis did not do what was asked of it: the kind of trouble, and Redis' or the system's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What happened, as a fixed set.
    pub kind: TroubleKind,
    /// The words of Redis or of the operating system.
    pub detail: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis: {}", self.kind.meaning())?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Trouble {}

/// The kinds of trouble that Redis can be in, each with its own advice. `redis::error` maps replies to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TroubleKind {
    /// Nobody listens, the connection broke, or TLS failed.
    Unreachable,
    /// No answer within the timeout. The command may have run all the same.
    Timeout,
    /// `LOADING`: Redis reads its data from disk.
    Loading,
    /// `READONLY`: this server is a replica.
    ReadOnly,
    /// `MASTERDOWN`: a replica whose link to its master is down.
    MasterDown,
    /// `CLUSTERDOWN`: slots are not covered.
    ClusterDown,
    /// `MOVED` or `ASK`: the slot lives on another node.
    Moved,
    /// `TRYAGAIN`: the slot is being moved.
    TryAgain,
    /// `CROSSSLOT`: the keys of one call live in several slots.
    CrossSlot,
    /// `BUSY`: somebody's script is blocking Redis.
    Busy,
    /// `OOM`: `maxmemory` is reached.
    OutOfMemory,
    /// `MISCONF`: Redis cannot write its data to disk and refuses writes.
    Misconf,
    /// `NOREPLICAS`: fewer replicas than `min-replicas-to-write`.
    NoReplicas,
    /// `NOPERM`: the ACL user lacks a right.
    NoPerm,
    /// `NOAUTH` or `WRONGPASS`: wrong or missing user or password.
    Auth,
    /// `WRONGTYPE`: a key holds another type. Queues and locks turn it into [`Error::WrongType`], which names the key.
    WrongType,
    /// `NOSCRIPT` again right after the script was loaded.
    NoScript,
    /// A newer version of overdue has written this queue in a way that this one would misread. Nothing was changed.
    NewerSchema,
    /// The queue is spread over other shards than the caller believed. Nothing was changed; queues ask anew by themselves.
    OtherShards,
    /// Anything else; the detail says what.
    Other,
}

impl TroubleKind {
    /// A short fixed word for logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Loading => "loading",
            Self::ReadOnly => "readonly",
            Self::MasterDown => "masterdown",
            Self::ClusterDown => "clusterdown",
            Self::Moved => "moved",
            Self::TryAgain => "tryagain",
            Self::CrossSlot => "crossslot",
            Self::Busy => "busy",
            Self::OutOfMemory => "oom",
            Self::Misconf => "misconf",
            Self::NoReplicas => "noreplicas",
            Self::NoPerm => "noperm",
            Self::Auth => "auth",
            Self::WrongType => "wrongtype",
            Self::NoScript => "noscript",
            Self::NewerSchema => "newerschema",
            Self::OtherShards => "othershards",
            Self::Other => "other",
        }
    }

    /// What it means and what to do, as one clause.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Unreachable => "cannot be reached: is it running, and is `redis.url` right?",
            Self::Timeout => "did not answer in time: it is stopped, overloaded, or the network is cut",
            Self::Loading => "is loading its data from disk: wait until it is done",
            Self::ReadOnly => "is a read-only replica: point `redis.url` at the master",
            Self::MasterDown => "is a replica that lost its master: wait or repair the replication",
            Self::ClusterDown => "is a cluster with slots that no node serves: repair the cluster",
            Self::Moved => "is a cluster node that does not hold this queue",
            Self::TryAgain => "is moving this queue's slot: wait until it is done",
            Self::CrossSlot => "keeps the queue's keys in several slots: does `redis.prefix` hold a `{`?",
            Self::Busy => "is blocked by somebody's script: SCRIPT KILL ends a read-only one",
            Self::OutOfMemory => "is full: raise `maxmemory` or free memory",
            Self::Misconf => "cannot save to disk and refuses writes: see its log",
            Self::NoReplicas => "has too few replicas (`min-replicas-to-write`): bring them back",
            Self::NoPerm => "user lacks a right: see the ACL of the user in `redis.url`",
            Self::Auth => "refused the user or the password of `redis.url`",
            Self::WrongType => "holds a key of another type than overdue's",
            Self::NoScript => "forgot a script right after it was loaded: is SCRIPT FLUSH in a loop?",
            Self::OtherShards => "is changing how many shards the queue has: try again in a second",
            Self::NewerSchema => "has a queue of a newer version of overdue: upgrade this process",
            Self::Other => "refused the call",
        }
    }

    /// True if the connection is of no more use: broken, half-open, or led to a demoted master.
    #[must_use]
    pub fn ends_connection(self) -> bool {
        matches!(self, Self::Unreachable | Self::Timeout | Self::ReadOnly | Self::MasterDown | Self::Moved)
    }
}
