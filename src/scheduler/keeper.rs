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

use super::{Settings, load::Load, meter::Meter, trouble::Trouble};
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
    /// How many ids it began with.
    size: usize,
    /// Of how many of them there is a share.
    open: AtomicUsize,
    /// Of how many Redis knows what became of them.
    settled: AtomicUsize,
    /// Until when nobody else can have it, by this machine's monotonic clock; the past once it is lost.
    /// Reckoned from before the call was sent, so it errs on the safe side.
    live_until: Mutex<Instant>,
    leases: Arc<Leases>,
}

/// The share of some ids in a claim. Whatever becomes of the ids, dropping this ends it: a lease whose shares
/// are gone is extended no more, and its room is free for another claim.
#[derive(Debug)]
pub(super) struct Share {
    held: Arc<Held>,
    ids: usize,
}

impl Leases {
    /// What is in hand.
    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    /// Takes note of a claim, and answers the share of all its ids.
    pub(super) fn hold(self: &Arc<Self>, token: Token, ids: usize, live_until: Instant) -> Share {
        let (open, settled) = (AtomicUsize::new(ids), AtomicUsize::new(0));
        let (live_until, leases) = (Mutex::new(live_until), Arc::clone(self));
        let held = Arc::new(Held { token, size: ids, open, settled, live_until, leases });
        lock(&self.held).insert(token, Arc::clone(&held));
        self.load.add(ids);
        Share { held, ids }
    }

    fn all(&self) -> Vec<Arc<Held>> {
        lock(&self.held).values().cloned().collect()
    }
}

impl Share {
    /// The claim.
    pub(super) fn token(&self) -> Token {
        self.held.token
    }

    /// True if nobody else can have the claim at this instant. A process that was stopped past its lease sees it here.
    pub(super) fn is_live_at(&self, now: Instant) -> bool {
        now < *lock(&self.held.live_until)
    }

    /// Takes the share of one id out of it.
    pub(super) fn split_one(&mut self) -> Self {
        self.ids = self.ids.checked_sub(1).expect("a share has at least the ids that are taken out of it");
        Self { held: Arc::clone(&self.held), ids: 1 }
    }

    /// Puts another share in the same claim to it.
    pub(super) fn join(&mut self, mut other: Self) {
        debug_assert_eq!(self.held.token, other.held.token, "shares in one claim");
        self.ids += std::mem::take(&mut other.ids);
    }

    /// True if so many ids are all of the claim of which Redis does not know yet what became of them. One whose
    /// delivery was lost never settles, so that its claim is never whole again.
    pub(super) fn is_all_that_is_left(&self, ids: usize) -> bool {
        self.held.settled.load(Ordering::Acquire) + ids == self.held.size
    }

    /// Redis knows what became of the ids.
    pub(super) fn settle(self) {
        self.held.settled.fetch_add(self.ids, Ordering::AcqRel);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.ids == 0 {
            return;
        }
        let leases = &self.held.leases;
        if self.held.open.fetch_sub(self.ids, Ordering::AcqRel) == self.ids {
            lock(&leases.held).remove(&self.held.token);
        }
        leases.load.sub(self.ids);
    }
}

/// Extends all leases each third of their length. A call may take a quarter, so that one may go into the silence of a
/// half-open connection and the next one, over a new connection, is still in time.
pub(super) async fn run(
    queue: Queue,
    mut settings: watch::Receiver<Settings>,
    leases: Arc<Leases>,
    meter: Meter,
) {
    let mut trouble = Trouble::new(queue.name(), "extend", &meter);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(ids: usize) -> (Arc<Leases>, Share) {
        let leases = Arc::<Leases>::default();
        let share = leases.hold(Token::new(7), ids, Instant::now());
        (leases, share)
    }

    #[test]
    fn a_claim_is_held_until_its_last_share_is_gone() {
        let (leases, mut rest) = hold(3);
        let mut some = rest.split_one();
        some.join(rest.split_one());
        drop(rest);
        assert_eq!(leases.all().len(), 1);
        drop(some);
        assert!(leases.all().is_empty());
    }

    #[test]
    fn what_is_left_of_a_claim_is_what_nobody_has_settled_yet() {
        let (_leases, mut rest) = hold(3);
        assert!(rest.is_all_that_is_left(3) && !rest.is_all_that_is_left(2));
        rest.split_one().settle();
        assert!(rest.is_all_that_is_left(2) && !rest.is_all_that_is_left(3));
    }

    #[test]
    fn a_claim_of_which_an_id_was_lost_is_never_whole_again() {
        let (_leases, mut rest) = hold(3);
        drop(rest.split_one());
        assert!(!rest.is_all_that_is_left(2));
        rest.split_one().settle();
        assert!(!rest.is_all_that_is_left(1), "an ack of the claim would speak for the lost one");
    }
}
