//! A lock that is held: extended in the background, and watched.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    LockError, LockKey,
    grip::{Grip, Hold},
};
use crate::error::{Error, Trouble, TroubleKind};

/// How often a release is tried whose answer does not come.
const RELEASE_TRIES: usize = 3;
/// The pause between two of these.
const RELEASE_PAUSE: Duration = Duration::from_millis(50);

/// How a lock was lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Loss {
    /// Its key holds another token: it ran out, or somebody removed it, and another has taken it.
    #[error("another holds it")]
    Taken,
    /// Its key is gone: it ran out, somebody removed it, or Redis lost it.
    #[error("nobody holds it any more: it ran out, or its key was removed")]
    Gone,
    /// For nine tenths of the ttl no extension succeeded. The key may still be there, but not for long.
    #[error("it could not be extended in time: {}", .cause.as_ref().map_or_else(
        || "Redis did not answer, or this process was stopped".to_owned(), ToString::to_string))]
    NotExtended {
        /// What the last extension ran into; none if it had no answer at all.
        cause: Option<Error>,
    },
}

/// How [`Held::release`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Release {
    /// The lock was held until now, and is free.
    Released,
    /// It had been lost before. Another's lock was not touched.
    Lost(Loss),
}

/// A lock that is held, extended each third of its ttl until it is released.
///
/// Dropping it stops the extension and releases the lock in the background, once and without a word; where that
/// fails, it is free when its ttl has run out. Only [`release`](Self::release) tells whether it was held to the end.
pub struct Held {
    grip: Grip,
    fence: u64,
    state: watch::Receiver<State>,
    keeper: AbortOnDropHandle<()>,
}

/// What is known of the hold, by this machine's clock.
struct State {
    /// Until when nobody else can have the lock, as long as Redis keeps its writes.
    until: Instant,
    loss: Option<Loss>,
}

impl Held {
    /// `until` is a [`lifetime`] after the request was sent.
    pub(super) fn new(grip: Grip, fence: u64, until: Instant) -> Self {
        let (sender, state) = watch::channel(State { until, loss: None });
        let hold = Arc::clone(grip.hold());
        let keeper = tokio::spawn(async move {
            let loss = keep(&hold, until, &sender).await;
            sender.send_modify(|state| state.loss = Some(loss));
        });
        Self { grip, fence, state, keeper: AbortOnDropHandle::new(keeper) }
    }

    /// The name of the lock.
    #[must_use]
    pub fn key(&self) -> &LockKey {
        &self.grip.hold().key
    }

    /// The fencing number of this acquisition: larger than that of every earlier one of this lock, and below 2^53.
    /// A store that is told it with every read and write, and refuses one that is smaller than the largest it was
    /// told, is safe from a holder that does not know yet that it lost the lock.
    #[must_use]
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Waits until the lock is lost. As long as it is held this does not return.
    ///
    /// A process that was stopped, or is starved of time, learns it when it runs again: whatever it did meanwhile
    /// is what [`fence`](Self::fence) is for.
    pub async fn lost(&self) -> Loss {
        let mut state = self.state.clone();
        match state.wait_for(|state| state.loss.is_some()).await {
            Ok(state) => state.loss.clone().unwrap_or(UNWATCHED),
            // The keeper is gone without a word, so nobody extends any more.
            Err(_) => UNWATCHED,
        }
    }

    /// True as long as nobody else can have the lock, judged by this machine's clock without asking Redis: no loss
    /// is known, and less than nine tenths of the ttl has passed since the last extension was sent.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let state = self.state.borrow();
        state.loss.is_none() && Instant::now() < state.until
    }

    /// Frees the lock, and says whether it was held until now. Tried up to three times if no answer comes.
    ///
    /// # Errors
    /// If Redis does not answer. The lock was held until now and is free when its ttl has run out.
    pub async fn release(mut self) -> Result<Release, LockError> {
        self.keeper.abort();
        let (until, loss) = {
            let state = self.state.borrow();
            (state.until, state.loss.clone())
        };
        if let Some(loss) = loss {
            // It may still be ours: then it is free at once rather than when its ttl has run out.
            let _ = self.grip.release().await;
            return Ok(Release::Lost(loss));
        }
        let asked = Instant::now();
        let mut failed = None;
        for _ in 0..RELEASE_TRIES {
            let error = match self.grip.release().await {
                Ok(Ok(())) => return Ok(Release::Released),
                // An earlier try had no answer, and the ttl has not run out: so that try was the one that freed it.
                Ok(Err(_)) if failed.is_some() && Instant::now() < until => return Ok(Release::Released),
                Ok(Err(loss)) => return Ok(Release::Lost(loss)),
                Err(error) => error,
            };
            let may_help = may_have_run(&error);
            failed = Some(error);
            if !may_help {
                break;
            }
            sleep(RELEASE_PAUSE).await;
        }
        if asked >= until {
            return Ok(Release::Lost(Loss::NotExtended { cause: failed }));
        }
        Err(failed.expect("only a failure leaves the loop").into())
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("key", self.key()).field("fence", &self.fence).finish_non_exhaustive()
    }
}

const UNWATCHED: Loss = Loss::NotExtended { cause: None };

/// How long after a request was sent the lock counts as held: a tenth less than its ttl, so that a holder whose
/// clock runs a little slower than that of Redis still stops before the next one starts.
pub(super) fn lifetime(ttl: Duration) -> Duration {
    ttl - ttl / 10
}

/// True if the call may have had its effect although it failed.
pub(super) fn may_have_run(error: &Error) -> bool {
    matches!(error, Error::Redis(Trouble { kind: TroubleKind::Timeout | TroubleKind::Unreachable, .. }))
}

/// Extends the lock until it is lost.
async fn keep(hold: &Hold, mut until: Instant, state: &watch::Sender<State>) -> Loss {
    let mut next = until - lifetime(hold.ttl) + hold.ttl / 3;
    let mut cause = None;
    loop {
        sleep_until(next.min(until)).await;
        let sent = Instant::now();
        // Asked of the clock, not of a timer: a process that was stopped finds all its timers over.
        if sent >= until {
            return Loss::NotExtended { cause };
        }
        match timeout_at(until, hold.extend()).await {
            Ok(Ok(Ok(()))) => {
                until = sent + lifetime(hold.ttl);
                state.send_modify(|state| state.until = until);
                (next, cause) = (sent + hold.ttl / 3, None);
            }
            Ok(Ok(Err(loss))) => return loss,
            Ok(Err(error)) => (next, cause) = (Instant::now() + hold.ttl / 10, Some(error)),
            Err(_) => return Loss::NotExtended { cause },
        }
    }
}
