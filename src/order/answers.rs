//! What the order verbs take and answer.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fields::{Fields, RESERVED};
use crate::{
    error::{Error, Result},
    queue::{Cursor, Due, Sighting},
    types::{DueAt, Id, QueueName, ServerTime},
};

/// Where an order is: `created`, then exactly one of the others for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits to be paid until its deadline
    Created,
    /// Was paid in time
    Paid,
    /// Was called off
    Cancelled,
    /// Was neither paid nor cancelled by its deadline
    Expired,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Created, Self::Paid, Self::Cancelled, Self::Expired];

    /// The word in Redis and in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// An order to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// Its id, unique within the queue for as long as the order is kept.
    pub id: Id,
    /// By when it must be paid.
    pub due: Due,
    /// What the caller keeps with it.
    pub fields: Fields,
}

/// An order as it stands in Redis. Its JSON form is what the commands, HTTP and `notify` give out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Order {
    /// Its id.
    pub id: Id,
    /// The queue that its deadline is in.
    pub queue: QueueName,
    /// Where it is.
    pub status: Status,
    /// When it was created.
    pub created_at: Option<DueAt>,
    /// By when it must be, or should have been, paid. None for a created order whose deadline somebody removed.
    pub due_at: Option<DueAt>,
    /// When it was paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid_at: Option<DueAt>,
    /// When it was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<DueAt>,
    /// When it expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired_at: Option<DueAt>,
    /// What the caller keeps with it.
    pub fields: Fields,
}

impl Order {
    /// From field and value as they stand in Redis; none if there is no order.
    pub(super) fn from_pairs(queue: &QueueName, id: &Id, pairs: Vec<(String, String)>) -> Option<Self> {
        let of = |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let at = |name: &str| of(name).and_then(|ms| DueAt::from_ms(ms.parse().ok()?).ok());
        let order = Self {
            id: id.clone(),
            queue: queue.clone(),
            status: Status::from_word(of("status")?)?,
            created_at: at("created_at"),
            due_at: at("due_at"),
            paid_at: at("paid_at"),
            cancelled_at: at("cancelled_at"),
            expired_at: at("expired_at"),
            fields: Fields::default(),
        };
        let own = pairs.into_iter().filter(|(name, _)| !RESERVED.contains(&name.as_str()));
        Some(Self { fields: Fields::known(own), ..order })
    }

    /// The same, where the script has said that there is one.
    pub(super) fn expected(
        script: &'static str,
        queue: &QueueName,
        id: &Id,
        pairs: Vec<(String, String)>,
    ) -> Result<Self> {
        let broken = || Error::Reply { script, detail: "an order without a status".to_owned() };
        Self::from_pairs(queue, id, pairs).ok_or_else(broken)
    }

    /// When it came to its end, if it has.
    #[must_use]
    pub fn settled_at(&self) -> Option<DueAt> {
        match self.status {
            Status::Created => None,
            Status::Paid => self.paid_at,
            Status::Cancelled => self.cancelled_at,
            Status::Expired => self.expired_at,
        }
    }
}

/// The answer of `create` for one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It is new.
    Created(Order),
    /// It existed, with the same fields; this is it. Its deadline is that of the first time.
    Exists(Order),
    /// One of this id exists with other fields; this is it. Nothing was changed.
    Conflict(Order),
    /// The key of the order holds something else. Nothing was changed.
    NotAnOrder,
}

/// The answer of `submit` for one order, with the deadline that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// It will be created soon.
    Accepted {
        /// By when it must be paid.
        due_at: DueAt,
    },
    /// It was submitted before with the same fields and waits to be created.
    Waiting {
        /// By when it must be paid.
        due_at: Option<DueAt>,
    },
    /// It has been created with the same fields.
    Exists {
        /// By when it must be, or should have been, paid.
        due_at: Option<DueAt>,
    },
    /// One of this id waits or exists with other fields. Nothing was changed.
    Conflict,
    /// The intake holds as many orders as it may: try again later.
    Full,
}

/// The answer of `pay` and `cancel`: whoever came first has decided, and the others are told what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This call did it.
    Done(Order),
    /// An earlier call did the same.
    Already(Order),
    /// It had come to another end before, which [`Order::status`] tells.
    TooLate(Order),
    /// The order has another value in this field than the call. Nothing was changed.
    Conflict {
        /// The order as it is.
        order: Order,
        /// The name of the field.
        field: String,
    },
    /// No such order: never created, or its time of retention is over.
    NotFound,
    /// The key of the order holds something else.
    NotAnOrder,
}

/// To when `extend` moves a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// To an instant, or to some time from now.
    To(Due),
    /// By this time beyond the deadline that it has.
    By(std::time::Duration),
}

/// The answer of `extend`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extended {
    /// The deadline was moved.
    Moved {
        /// The order as it is now.
        order: Order,
        /// The deadline before.
        old: Option<DueAt>,
    },
    /// It came to its end before, which [`Order::status`] tells.
    TooLate(Order),
    /// No such order.
    NotFound,
    /// The key of the order holds something else.
    NotAnOrder,
}

/// The answer of `expire`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expired {
    /// The instant of the call.
    pub(super) now: ServerTime,
    /// How many orders expired.
    pub(super) expired: u64,
    /// How many deadlines were dropped because their orders had come to another end.
    pub(super) dropped: u64,
    /// How many ids were moved to the dead set because they have no order.
    pub(super) buried: u64,
    /// When to look again.
    pub(super) next: Option<DueAt>,
    /// How many entries have an impossible score.
    pub(super) impossible: u64,
    /// True if the next call can expire something at once.
    pub(super) more: bool,
    /// The earliest deadline among the expired.
    pub(super) earliest: Option<DueAt>,
    /// The ids to name in the next call.
    pub(super) upcoming: Vec<Vec<u8>>,
    /// What became of the canary.
    pub(super) canary: Sighting,
}

/// A page of `list`.
#[derive(Debug, Clone)]
pub struct OrderPage {
    /// The orders: created ones by deadline, others by when they came to their end.
    pub orders: Vec<Order>,
    /// Where the next page starts; none on the last one.
    pub next: Option<Cursor>,
}

/// How many orders are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OrderCounts {
    /// Paid and still kept.
    pub paid: u64,
    /// Cancelled and still kept.
    pub cancelled: u64,
    /// Expired and still kept.
    pub expired: u64,
    /// Entries in the stream of events.
    pub events: u64,
}

/// Something that happened to an order: an entry of the stream `events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The id of the entry: pass it on to read what follows.
    pub event_id: String,
    /// What happened: the status that the order came to.
    pub r#type: Status,
    /// The order.
    pub id: String,
    /// When.
    pub at: Option<DueAt>,
}

/// Some events of the stream.
#[derive(Debug, Clone)]
pub struct EventPage {
    /// The events, oldest first. What somebody else has put into the stream is left out.
    pub events: Vec<Event>,
    /// The id of the last entry that was looked at: pass it on to read what follows; none if there was none.
    pub last: Option<String>,
    /// True if more may follow at once.
    pub more: bool,
}
