//! Orders that expire when they are not paid: the everyday use of a deadline, with its bookkeeping.
//!
//! ```text
//!              create              pay
//!  (absent) ----------> created ----------> paid
//!                          |
//!                          +--- cancel ---> cancelled
//!                          +--- expire ---> expired       (the deadline passed)
//! ```
//!
//! Each arrow is one script that changes the order, its deadline and the stream of events together, so paying and
//! expiring cannot both win, and the loser is told who won. An order is a hash beside the keys of its queue; its
//! deadline is an id of the queue like any other, so the commands and plain `ZADD` work on it.
//!
//! - [`Orders`]: the verbs
//! - [`Expirer`]: expires what is due; what `serve` runs for a queue with the handler `order`
//! - [`Intake`]: creates what was submitted, in batches
//! - [`Notify`]: hands expired orders on to another handler
//!
//! ```no_run
//! # use overdue::{order::{Fields, NewOrder, Orders, Verdict}, queue::{Due, Queue}};
//! # async fn example(queue: Queue) -> overdue::Result<()> {
//! # use std::time::Duration;
//! let orders = Orders::new(queue);
//! let fields = Fields::new([("amount", "100.00")])?;
//! let due = Due::In(Duration::from_secs(1800));
//! orders.create(&[NewOrder { id: "42".parse()?, due, fields }]).await?;
//! match orders.pay(&"42".parse()?, &Fields::default()).await? {
//!     Verdict::Done(_) | Verdict::Already(_) => println!("paid"),
//!     Verdict::TooLate(order) => println!("{} at {:?}", order.status, order.settled_at()),
//!     other => println!("{other:?}"),
//! }
//! # Ok(())
//! # }
//! ```

mod adopt;
mod answers;
mod expirer;
mod fields;
#[cfg(test)]
mod fuzz;
mod intake;
mod lifecycle;
mod look;
mod notify;

use std::time::Duration;

pub use adopt::{Imported, Refused, Renames};
pub use answers::{
    Created, Event, EventPage, Extended, Extension, NewOrder, Order, OrderCounts, OrderPage, Status,
    Submitted, Verdict,
};
pub use expirer::Expirer;
pub(crate) use fields::RESERVED;
pub use fields::{Fields, MAX_FIELD_BYTES, MAX_FIELDS, MAX_NAME_BYTES};
pub use intake::Intake;
pub(crate) use look::is_event_id;
pub use notify::Notify;

use crate::{
    config::OrderConfig,
    queue::{Due, Queue},
    types::{Companion, DurabilityLevel, ServerTime},
};

/// The orders of one queue: the verbs. Cheap to clone.
#[derive(Clone)]
pub struct Orders {
    queue: Queue,
    intake: Queue,
    timeout: Duration,
    retain: Option<Duration>,
    intake_limit: u64,
}

impl Orders {
    /// The orders whose deadlines are in `queue`, with the settings of the reference configuration.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        Self::with(queue, &OrderConfig::default())
    }

    /// The same with the settings of the queue's section `order`.
    #[must_use]
    pub fn with(queue: Queue, config: &OrderConfig) -> Self {
        let intake = queue.companion(Companion::Intake);
        let OrderConfig { timeout, retain, intake_limit, max_events: _ } = *config;
        Self { queue, intake, timeout, retain, intake_limit }
    }

    /// How long orders are kept once they are paid, cancelled or expired; none is for ever.
    #[must_use]
    pub fn retain(self, retain: Option<Duration>) -> Self {
        Self { retain, ..self }
    }

    /// How many submitted orders may wait to be created.
    #[must_use]
    pub fn intake_limit(self, intake_limit: u64) -> Self {
        Self { intake_limit, ..self }
    }

    /// By when an order must be paid that is created without a deadline.
    #[must_use]
    pub fn default_due(&self) -> Due {
        Due::In(self.timeout)
    }

    /// The same orders seen at a fixed instant instead of by the server's clock.
    #[must_use]
    pub fn at(&self, now: ServerTime) -> Self {
        Self { queue: self.queue.at(now), intake: self.intake.at(now), ..self.clone() }
    }

    /// The same orders with another level of durability for a call, where one is named; see [`Queue::durable`].
    #[must_use]
    pub fn durable_at(&self, level: Option<DurabilityLevel>) -> Self {
        Self { queue: self.queue.durable_at(level), intake: self.intake.durable_at(level), ..self.clone() }
    }

    /// The queue that their deadlines are in.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The queue that submitted orders wait in.
    #[must_use]
    pub fn intake(&self) -> &Queue {
        &self.intake
    }
}
