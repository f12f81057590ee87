//! What the verbs take and answer.

use std::{
    fmt,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Cursor, Sighting, TraceParent};
use crate::types::{DueAt, Id, Payload, QueueName, ServerTime, Token};

/// When something is due: at an instant, or some time from now by the clock of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// At this instant; one in the past is due now.
    At(DueAt),
    /// After this time, counted from when Redis runs the script. Milliseconds count.
    In(Duration),
}

/// A deadline to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The id, unique within the queue.
    pub id: Id,
    /// When it is due.
    pub due: Due,
    /// What the handler gets with it. None keeps the payload of an id that is scheduled already.
    pub payload: Option<Payload>,
}

/// What `schedule` does with an id that is scheduled already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The new deadline holds, as with a plain ZADD.
    #[default]
    Replace,
    /// Registers only an id that is neither scheduled, in flight nor dead
    Keep,
    /// The earlier of both deadlines holds.
    Earliest,
    /// The later of both deadlines holds.
    Latest,
}

/// Compare-and-set: what must hold for a change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expected {
    /// Nothing in particular.
    #[default]
    Anything,
    /// The id is not scheduled.
    Absent,
    /// The id is scheduled for exactly this instant.
    At(DueAt),
}

/// The states of an id that is neither done nor cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for its deadline, or for its next attempt
    Scheduled,
    /// A scheduler is at work on it
    Leased,
    /// Set aside: its attempts are spent, its handler said so, or it can never fire
    Dead,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Scheduled => "scheduled",
            Self::Leased => "leased",
            Self::Dead => "dead",
        })
    }
}

/// The answer of `schedule` for one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduled {
    /// It was not scheduled; now it is.
    Created {
        /// The deadline that holds now.
        due_at: DueAt,
    },
    /// It was scheduled and has a new deadline. Its attempts start anew.
    Replaced {
        /// The deadline that holds now.
        due_at: DueAt,
        /// The one before; none if that was impossible.
        old: Option<DueAt>,
    },
    /// The mode left it as it was.
    Kept {
        /// The deadline that holds; none for one that is not scheduled.
        due_at: Option<DueAt>,
        /// Where it is.
        state: State,
    },
    /// The deadline is not the expected one. Nothing was changed.
    Conflict {
        /// The deadline it has; none if it is not scheduled.
        due_at: Option<DueAt>,
    },
}

/// The answer of `reschedule`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescheduled {
    /// The deadline was moved.
    Moved {
        /// The deadline that holds now.
        due_at: DueAt,
        /// The one before; none if that was impossible.
        old: Option<DueAt>,
    },
    /// No such id. Nothing was changed.
    NotFound,
    /// Its delivery is under way. Nothing was changed.
    InFlight,
    /// It is dead. Nothing was changed; `retry_dead` brings it back.
    Dead,
    /// The deadline is not the expected one. Nothing was changed.
    Conflict {
        /// The deadline it has.
        due_at: Option<DueAt>,
    },
}

/// The answer of `cancel` for one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It will not fire.
    Cancelled {
        /// The deadline it had; none if that was impossible.
        due_at: Option<DueAt>,
    },
    /// A delivery is under way and may succeed; whatever becomes of it, there is no further attempt.
    InFlight {
        /// The token of that delivery.
        token: Token,
        /// How long its lease would have lasted.
        lease_left: Duration,
    },
    /// It is dead and stays so; `delete_dead` removes it.
    Dead,
    /// No such id: never registered, cancelled before, or done.
    NotFound,
}

/// The hold that a claim has on an id: what `ack` and its kin must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The id.
    pub id: Id,
    /// The token of the claim.
    pub token: Token,
}

/// One id handed out by a claim, with what a handler needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The queue it comes from.
    pub queue: QueueName,
    /// The id.
    pub id: Id,
    /// The deadline as it was registered, however often the delivery was tried since.
    pub due_at: DueAt,
    /// 1 for the first attempt; failed and lost deliveries count.
    pub attempt: u32,
    /// How many of the attempts before this one failed. The others were lost with their process.
    pub failures: u32,
    /// How many of the lost ones were known to run when their process died; see [`Queue::begin`](super::Queue::begin).
    pub kills: u32,
    /// The fencing token of this claim.
    pub token: Token,
    /// The token of the first claim: the same for every attempt of one registration, and of no other.
    pub first_token: Token,
    /// When it was claimed, by the clock of Redis.
    pub claimed_at: ServerTime,
    /// The payload, if one was registered.
    pub payload: Option<Payload>,
    /// The trace that it was registered in, if one was told.
    pub traceparent: Option<TraceParent>,
    /// When the claim's answer came, by this machine's monotonic clock.
    pub(super) received: Instant,
}

impl Delivery {
    /// How late it is by now. The clock of Redis tells when it was claimed, this machine's monotonic clock
    /// what has passed since: clocks of different machines are never compared.
    #[must_use]
    pub fn lateness(&self) -> Duration {
        self.lateness_at(Instant::now())
    }

    /// How late it was at an instant.
    pub(crate) fn lateness_at(&self, at: Instant) -> Duration {
        self.claimed_at.since(self.due_at) + at.saturating_duration_since(self.received)
    }

    /// True if an earlier delivery of it was lost: its lease ran out.
    pub(crate) fn is_after_a_loss(&self) -> bool {
        self.attempt > self.failures.saturating_add(1)
    }

    /// The hold on the id.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease { id: self.id.clone(), token: self.token }
    }
}

/// An id that was claimed but is outside the contract, as only a foreign client can write it. The worker
/// buries it; the bytes are as Redis has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The id as it is in Redis.
    pub id: Vec<u8>,
    /// What is wrong with the id or its payload.
    pub error: String,
    /// The fixed word for the dead set: `invalid_id` or `invalid_payload`.
    pub reason: &'static str,
}

/// What a claim goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimOptions {
    /// How many ids it takes at most, 1 to 1000.
    pub limit: usize,
    /// How long they are leased for.
    pub lease: Duration,
    /// How many ids a second all processes that say the same take at most; none is no limit.
    pub rate_limit: Option<u32>,
    /// An id whose process died so many times while it was known to run goes to the dead set; none is never.
    pub max_crashes: Option<u32>,
}

/// The answer of `claim`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The instant of the claim.
    pub now: ServerTime,
    /// The token that holds all of it; none if nothing was due.
    pub token: Option<Token>,
    /// What is to be handled.
    pub deliveries: Vec<Delivery>,
    /// What cannot be handed to a handler and has to be buried.
    pub unreadable: Vec<Unreadable>,
    /// When to look again: the next deadline, or when the rate limit allows more.
    pub next: Option<DueAt>,
    /// True if more is due that can be taken at once: the limit was reached, or payloads are large.
    pub more: bool,
    /// How many entries have an impossible score and wait for `reject`.
    pub impossible: u64,
    /// What became of the canary.
    pub canary: Sighting,
}

/// A place in Redis that due ids are handed to, inside the claiming script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sink {
    /// What `fired` is.
    pub kind: SinkKind,
    /// How many entries it keeps at most, older ones going first, read or not; none keeps all.
    pub max_len: Option<u64>,
}

/// What a [`Sink`] can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkKind {
    /// An entry of a stream for each id.
    Stream,
    /// A JSON element of a list for each id, the newest at the head.
    List,
}

/// The answer of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fired {
    /// The instant of the claim.
    pub now: ServerTime,
    /// How many were handed over.
    pub count: usize,
    /// The earliest deadline among them.
    pub earliest: Option<DueAt>,
    /// When to look again: the next deadline, or when the rate limit allows more.
    pub next: Option<DueAt>,
    /// True if more is due that can be taken at once: the limit was reached, or payloads are large.
    pub more: bool,
    /// How many entries have an impossible score and wait for `reject`.
    pub impossible: u64,
    /// What became of the canary.
    pub canary: Sighting,
}

/// Whether `ack` and its kin were still entitled to speak for the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// They were, and it is done.
    Done,
    /// The lease was lost or the id cancelled. Nothing was changed.
    Stale,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// What failed.
    pub lease: Lease,
    /// How long to wait before the next attempt.
    pub delay: Duration,
    /// The failure, for people.
    pub error: String,
}

/// The answer of `retry` for one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// It is scheduled for another attempt.
    Scheduled {
        /// When.
        at: DueAt,
    },
    /// Its attempts are spent: it is dead.
    Dead,
    /// It was registered anew meanwhile; that deadline stands, and this delivery is over.
    Superseded,
    /// The lease was lost or the id cancelled. Nothing was changed.
    Stale,
}

/// A delivery that must not be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The id as it is in Redis: bytes, since it may be one outside the contract.
    pub id: Vec<u8>,
    /// The token of the claim.
    pub token: Token,
    /// A fixed word, such as `rejected` or `invalid_id`.
    pub reason: &'static str,
    /// What happened, for people.
    pub error: String,
}

/// All that is known of one id. Its JSON form is what `show` and `list` print.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Deadline)]
pub struct Shown {
    /// The id, if it is within the contract: what the other verbs take.
    #[serde(skip)]
    pub valid_id: Option<Id>,
    /// The id as text. One outside the contract is shown as [`printable`](crate::types::printable) makes it.
    pub id: String,
    /// The queue.
    pub queue: QueueName,
    /// Where it is.
    pub state: State,
    /// The deadline as registered; none for an entry whose score was impossible.
    #[schema(required = true)]
    pub due_at: Option<DueAt>,
    /// When a failed id is tried again, or the new deadline of a leased id that was registered anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<DueAt>,
    /// How many attempts were begun.
    pub attempt: u32,
    /// How many of them failed.
    pub failures: u32,
    /// How many were lost with their process.
    pub crashes: u32,
    /// Who holds it, while it is leased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<ShownLease>,
    /// When it was buried, while it is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buried_at: Option<DueAt>,
    /// Why it is dead, as a fixed word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The trace that it was registered in, if one was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub traceparent: Option<TraceParent>,
    /// The payload; `list` leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Payload>,
}

/// A lease as `show` and `list` print it.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = Lease)]
pub struct ShownLease {
    /// The token of the claim.
    pub token: Token,
    /// When the lease ends unless it is extended.
    #[schema(required = true)]
    pub expires_at: Option<DueAt>,
}

/// A page of `list`.
#[derive(Debug, Clone)]
pub struct Page {
    /// The rows, in the order of deadline, claim or burial.
    pub rows: Vec<Shown>,
    /// Where the next page starts; none on the last one.
    pub next: Option<Cursor>,
}

/// How much is where, at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// The instant.
    pub now: ServerTime,
    /// Ids that wait for a deadline or a retry.
    pub scheduled: u64,
    /// Of these, how many are due.
    pub due: u64,
    /// Ids in flight.
    pub leased: u64,
    /// Leases (each holds a whole claim) that ran out and wait for the next claim.
    pub lost_leases: u64,
    /// Ids in the dead set.
    pub dead: u64,
    /// Of the scheduled, how many have an impossible score.
    pub impossible: u64,
    /// The earliest deadline; if it has passed, the oldest overdue one.
    pub next_due_at: Option<DueAt>,
    /// True while nothing may be claimed.
    pub paused: bool,
}
