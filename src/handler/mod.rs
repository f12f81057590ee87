//! What runs when a deadline has passed. A [`Handler`] gets a [`Delivery`] and answers an [`Outcome`]; it
//! never calls queue verbs: the scheduler acks, retries or buries as the outcome says.

mod command;
mod event;
mod log;
pub mod webhook;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

pub use command::Command;
pub(crate) use event::EventData;
pub use log::Log;
pub use webhook::Webhook;

pub use crate::queue::Delivery;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done: the id is gone from the queue.
    Done,
    /// Failed: tried again after the queue's backoff, or after `after`, until `max_attempts` attempts failed.
    Retry {
        /// What went wrong, for people. Of over 500 characters the first 100 and the last 400 are kept with the id.
        error: String,
        /// Overrules the backoff.
        after: Option<Duration>,
    },
    /// Failed for good: the id goes to the dead set.
    Dead {
        /// What went wrong, for people.
        error: String,
    },
}

impl Outcome {
    /// A failed attempt, tried again after the queue's backoff.
    pub fn retry(error: impl Into<String>) -> Self {
        Self::Retry { error: error.into(), after: None }
    }

    /// A failure that no further attempt can mend.
    pub fn dead(error: impl Into<String>) -> Self {
        Self::Dead { error: error.into() }
    }
}

/// Runs when a deadline has passed: at least once for each registration, so it must be safe to repeat.
/// `delivery.first_token` names the registration; `delivery.token` grows with every claim and lets a store
/// refuse a late writer. A panic is a failed attempt.
///
/// ```
/// use overdue::handler::{Delivery, Handler, Outcome};
///
/// struct CancelUnpaid;
///
/// impl Handler for CancelUnpaid {
///     async fn handle(&self, delivery: &Delivery) -> Outcome {
///         println!("{} was due at {}", delivery.id, delivery.due_at);
///         Outcome::Done
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Handles one delivery. Many run at once, up to the queue's `concurrency`.
    fn handle(&self, delivery: &Delivery) -> impl Future<Output = Outcome> + Send;
}

/// Makes a handler of a closure.
///
/// ```
/// use overdue::handler::{handler_fn, Outcome};
///
/// let handler = handler_fn(|delivery| async move {
///     println!("{} was due at {}", delivery.id, delivery.due_at);
///     Outcome::Done
/// });
/// ```
pub fn handler_fn<F, Fut>(handle: F) -> impl Handler
where
    F: Fn(Delivery) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    HandlerFn(handle)
}

struct HandlerFn<F>(F);

impl<F, Fut> Handler for HandlerFn<F>
where
    F: Fn(Delivery) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    fn handle(&self, delivery: &Delivery) -> impl Future<Output = Outcome> + Send {
        (self.0)(delivery.clone())
    }
}

type Handled<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// [`Handler`] in the form that can be chosen at run time; every handler has it.
pub(crate) trait DynHandler: Send + Sync {
    fn handle_dyn<'a>(&'a self, delivery: &'a Delivery) -> Handled<'a>;
}

impl<H: Handler> DynHandler for H {
    fn handle_dyn<'a>(&'a self, delivery: &'a Delivery) -> Handled<'a> {
        Box::pin(self.handle(delivery))
    }
}

/// A handler as the scheduler holds it.
pub(crate) type SharedHandler = Arc<dyn DynHandler>;
