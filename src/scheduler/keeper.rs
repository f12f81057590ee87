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

use super::{Settings, load::Load, trouble::Trouble};
use crate::{
    error::Result,
    queue::{Queue, Settled},
    types::Token,
};

/// The claims of one queue that this process holds, and with them the load that they are.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Mutex<HashMap<Token, Arc<Held>>>,
    load: Load,
}

/// One claim: it is held until the last share in it is dropped.
#[derive(Debug)]
struct Held {
    token: Token,
    open: AtomicUsize,
    /// Until when nobody else can have it, by this machine's monotonic clock; the past once it is lost.
    /// Reckoned from before the call was sent, so it errs on the safe side.
    live_until: Mutex<Instant>,
}

/// The share of one id in a claim. Whatever becomes of the id, dropping this ends it: a lease whose shares
/// are gone is extended no more, and its room is free for another claim.
#[derive(Debug)]
pub(super) struct Share {
    held: Arc<Held>,
    leases: Arc<Leases>,
}

impl Leases {
    /// What is in hand.
    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    /// Takes note of a claim, and answers a share in it for each of its `open` ids.
    pub(super) fn hold(self: &Arc<Self>, token: Token, open: usize, live_until: Instant) -> Vec<Share> {
        let held = Arc::new(Held { token, open: AtomicUsize::new(open), live_until: Mutex::new(live_until) });
        lock(&self.held).insert(token, Arc::clone(&held));
        self.load.add(open);
        (0..open).map(|_| Share { held: Arc::clone(&held), leases: Arc::clone(self) }).collect()
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
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.held.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            lock(&self.leases.held).remove(&self.held.token);
        }
        self.leases.load.sub(1);
    }
}

/// Extends all leases each third of their length. A call may take a quarter, so that one may go into the silence of a
/// half-open connection and the next one, over a new connection, is still in time.
pub(super) async fn run(queue: Queue, mut settings: watch::Receiver<Settings>, leases: Arc<Leases>) {
    let mut trouble = Trouble::new(queue.name(), "extend");
    let mut pause = settings.borrow_and_update().lease / 3;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            Ok(()) = settings.changed() => {}
        }
        let lease = settings.borrow_and_update().lease;
        let begun = Instant::now();
        pause = match extend(&queue.within(lease / 4), &leases.all(), lease).await {
            Ok(()) => {
                trouble.recovered();
                lease / 3
            }
            Err(error) => trouble.failed(&error, begun),
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
