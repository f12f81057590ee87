//! `overdue` fires deadlines: any service registers "order 42 lapses at 14:30", and the expiry handler runs for
//! it at 14:30: at least once, never early, unless it was cancelled first. The README says it for users; this
//! page is for programs that use the crate, and for those who read the code.
//!
//! # In a program
//!
//! ```no_run
//! use overdue::{
//!     handler::{Outcome, handler_fn},
//!     queue::{Due, Expected, Mode, Queue, Registration},
//!     redis::{Redis, Timeouts},
//!     scheduler::{Scheduler, Settings},
//! };
//! use std::time::Duration;
//! use tokio_util::sync::CancellationToken;
//!
//! # async fn example() -> Result<(), overdue::Error> {
//! let redis = Redis::open("redis://127.0.0.1:6379", Timeouts::default())?;
//! let queue = Queue::new(redis, "overdue", "orders".parse()?);
//!
//! let due = Due::In(Duration::from_secs(1800));
//! let order = Registration { id: "order-42".parse()?, due, payload: None };
//! queue.schedule(&[order], Mode::Replace, Expected::Anything).await?;
//!
//! let handler = handler_fn(|delivery| async move {
//!     println!("{} was not paid by {}", delivery.id, delivery.due_at);
//!     Outcome::Done
//! });
//! Scheduler::new(queue, Settings::default(), handler).run(CancellationToken::new()).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! In reading order; imports point only to what stands earlier here. `docs/architecture.md` says more.
//!
//! - [`error`], [`duration`], [`types`]: what everything else speaks in
//! - `fault`: dying on purpose, and planted bugs; empty but in tests
//! - [`config`]: the configuration, raw to checked
//! - `process`: programs that are run, signalled and ended
//! - [`redis`]: the way to Redis: connections, scripts, errors, the private server
//! - [`queue`]: the engine. One verb, one script, one method
//! - [`handler`]: what runs when a deadline has passed
//! - [`scheduler`]: polls a queue, runs handlers, settles outcomes
//! - [`order`]: orders that expire when they are not paid, on top of the queue verbs
//! - [`lock`]: one holder at a time, with a fencing number
//! - [`doctor`]: what is wrong with a Redis before it hurts
//! - [`http`]: the interface for callers without Redis access, and for workers in any language
//! - [`app`]: what `serve` is made of
//! - [`cli`]: the commands

pub mod app;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod duration;
pub mod error;
mod fault;
#[cfg(test)]
mod fuzz;
pub mod handler;
pub mod http;
pub mod lock;
pub mod order;
mod process;
pub mod queue;
pub mod redis;
pub mod scheduler;
pub mod types;

pub use error::{Error, Result};
pub use types::{DueAt, Id, Payload, QueueName, ServerTime, Token};
