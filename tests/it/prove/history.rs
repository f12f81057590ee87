//! What happened in a run, as clients and handlers saw it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use overdue::{
    error::{Error, TroubleKind},
    types::Token,
};
use serde::Serialize;

/// What a client knows of a call after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It was answered.
    Ok,
    /// It was refused: it did not happen.
    Failed,
    /// No answer: it may have happened, and may even happen later.
    Unknown,
}

impl Outcome {
    /// What a call's result tells. Only an answer of Redis that comes before a script runs is a refusal.
    pub(crate) fn of<T>(result: &Result<T, Error>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(Error::Redis(trouble)) => match trouble.kind {
                TroubleKind::Timeout | TroubleKind::Unreachable | TroubleKind::Other => Self::Unknown,
                _ => Self::Failed,
            },
            Err(Error::WrongType { .. } | Error::Invalid(_)) => Self::Failed,
            Err(_) => Self::Unknown,
        }
    }
}

/// How an in-process worker ended a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verb {
    Ack,
    Retry,
    Release,
    Bury,
}

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A registration. No two of one id have the same deadline: that is how deliveries are told apart.
    Registered { id: String, due_ms: i64, outcome: Outcome },
    /// A cancel. `removed` is true if it answered that it removed the id, before or during a delivery;
    /// `in_flight` if a delivery was under way then.
    Cancelled { id: String, removed: bool, in_flight: bool, outcome: Outcome },
    /// A claim by an in-process worker; its lease ends at `lease_end_us` by the clock of Redis.
    Claimed { id: String, due_ms: i64, token: Token, lease_end_us: i64 },
    /// A handler was given a delivery, and did its work or not. A sink's entries have no token.
    Handled { id: String, due_ms: i64, token: Option<Token>, done: bool },
    /// An in-process worker said how it ended; `accepted` is false for stale.
    Settled { id: String, due_ms: i64, token: Token, verb: Verb, accepted: bool, outcome: Outcome },
    /// A fault did what it was to do.
    Struck { fault: String },
}

/// An event with when it began and ended, in µs by this machine's clock.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    pub(crate) began_us: i64,
    pub(crate) ended_us: i64,
    #[serde(flatten)]
    pub(crate) event: Event,
}

/// The log that everybody writes to.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Vec<Entry>>);

/// This machine's clock, which is the clock of a local Redis too.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("after 1970").as_micros() as i64
}

impl History {
    /// Writes down what began at `began_us` and is over now.
    pub(crate) fn add(&self, began_us: i64, event: Event) {
        let entry = Entry { began_us, ended_us: now_us(), event };
        self.entries().push(entry);
    }

    /// Writes down several that were one call.
    pub(crate) fn add_all(&self, began_us: i64, events: impl IntoIterator<Item = Event>) {
        let ended_us = now_us();
        self.entries().extend(events.into_iter().map(|event| Entry { began_us, ended_us, event }));
    }

    /// Writes down what others have the times of.
    pub(crate) fn add_at(&self, at_us: i64, event: Event) {
        self.entries().push(Entry { began_us: at_us, ended_us: at_us, event });
    }

    /// A fault struck, now.
    pub(crate) fn struck(&self, fault: impl Into<String>) {
        self.add(now_us(), Event::Struck { fault: fault.into() });
    }

    /// What was answered after `kept_us` to calls from before `died_us` may not have outlived the server: nobody
    /// knows. Answers how many registrations that is.
    pub(crate) fn doubt(&self, kept_us: i64, died_us: i64) -> u64 {
        let mut doubted = 0;
        for entry in &mut *self.entries() {
            if entry.ended_us < kept_us || entry.began_us > died_us {
                continue;
            }
            match &mut entry.event {
                Event::Registered { outcome: outcome @ Outcome::Ok, .. } => {
                    *outcome = Outcome::Unknown;
                    doubted += 1;
                }
                Event::Cancelled { removed, outcome: outcome @ Outcome::Ok, .. } => {
                    (*removed, *outcome) = (false, Outcome::Unknown);
                }
                _ => {}
            }
        }
        doubted
    }

    /// All of it so far.
    pub(crate) fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
