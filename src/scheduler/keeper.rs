//! Keeps the leases of what is in flight alive, and knows which are lost.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Settings, trouble::Trouble};
use crate::{
    error::Result,
    queue::{Queue, Settled},
    types::Token,
};

/// The claims of one queue that this process holds.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Mutex<HashMap<Token, Arc<Held>>>,
}

/// One claim: it ends here when its last id is settled.
#[derive(Debug)]
pub(super) struct Held {
    token: Token,
    open: AtomicUsize,
    /// Until when nobody else can have it, by this machine's monotonic clock; the past once it is lost.
    /// Reckoned from before the call was sent, so it errs on the safe side.
    live_until: Mutex<Instant>,
}

/// A share in a claim.
#[derive(Debug, Clone)]
pub(super) struct Share {
    held: Arc<Held>,
    leases: Arc<Leases>,
}

impl Leases {
    /// Takes note of a claim of `open` ids.
    pub(super) fn hold(self: &Arc<Self>, token: Token, open: usize, live_until: Instant) -> Share {
        let held = Arc::new(Held { token, open: AtomicUsize::new(open), live_until: Mutex::new(live_until) });
        lock(&self.held).insert(token, Arc::clone(&held));
        Share { held, leases: Arc::clone(self) }
    }

    fn all(&self) -> Vec<Arc<Held>> {
        lock(&self.held).values().cloned().collect()
    }
}

impl Share {
    /// True while nobody else can have the claim. A process that was stopped past its lease sees it here.
    pub(super) fn is_live(&self) -> bool {
        Instant::now() < *lock(&self.held.live_until)
    }

    /// One id of the claim is settled.
    pub(super) fn settle(self) {
        if self.held.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            lock(&self.leases.held).remove(&self.held.token);
        }
    }
}

/// Extends all leases each third of their length: two calls may fail before one is lost.
pub(super) async fn run(queue: Queue, mut settings: watch::Receiver<Settings>, leases: Arc<Leases>) {
    let mut trouble = Trouble::new(queue.name(), "extend");
    let mut pause = settings.borrow_and_update().lease / 3;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Ok(()) = settings.changed() => {}
        }
        let lease = settings.borrow_and_update().lease;
        pause = match extend(&queue, &leases.all(), lease).await {
            Ok(()) => {
                trouble.recovered();
                lease / 3
            }
            Err(error) => trouble.failed(&error),
        };
    }
}

async fn extend(queue: &Queue, held: &[Arc<Held>], lease: Duration) -> Result<()> {
    if held.is_empty() {
        return Ok(());
    }
    let sent = Instant::now();
    let tokens: Vec<Token> = held.iter().map(|held| held.token).collect();
    let answers = queue.extend(&tokens, lease).await?;
    for (held, answer) in held.iter().zip(answers) {
        // Stale may only mean that its last id was settled meanwhile. A real loss is logged when the outcome
        // is refused; from here on nothing of the claim is started.
        *lock(&held.live_until) = if answer == Settled::Done { sent + lease } else { sent };
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
