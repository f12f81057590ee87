//! A lock on Redis: one holder at a time, for as long as it shows that it is alive.
//!
//! ```no_run
//! use overdue::{
//!     lock::{Lock, LockOptions, Release},
//!     redis::{Redis, Timeouts},
//! };
//! use std::time::Duration;
//!
//! # async fn work(fence: u64) {}
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let redis = Redis::open("redis://127.0.0.1:6379", Timeouts::default())?;
//! let options = LockOptions { ttl: Duration::from_secs(30), wait: Duration::from_secs(10) };
//! let lock = Lock::new(redis, "overdue", "nightly-report".parse()?, options)?;
//!
//! let held = lock.acquire().await?;
//! tokio::select! {
//!     () = work(held.fence()) => {}
//!     loss = held.lost() => return Err(loss.into()),
//! }
//! assert_eq!(held.release().await?, Release::Released);
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises, and what not
//!
//! The lock is a key with a random token and a ttl. Extending and releasing compare the token first, so nobody
//! touches another's lock. A holder that dies is replaced when its ttl has run out.
//!
//! - **A holder that does not run cannot learn that it lost the lock.** A stopped process, a long pause of a virtual
//!   machine, a write that was sent before and arrives after: then two believe to hold it. No lock with a timeout can
//!   prevent that. The fencing number lets the store refuse the late one.
//! - **A failover can give it to two at once.** Redis replicates asynchronously: a master that dies takes acquisitions
//!   with it that its replica has not seen. The old holder is told at its next extension.
//! - **The fencing number survives that, as long as the clocks of both servers are no further apart than the failover
//!   took**: it is the last number + 1, or the time in µs if that is more. A plain counter would hand out again what the
//!   replica has not seen. What defeats it is both at once: a number that was lost, and a clock that went back.
//! - **It is no Redlock**, the same lock on a majority of independent servers. That survives the loss of one, but rests
//!   on the clocks and pauses of all of them, and a majority hands out no number that grows. Where two holders would do
//!   harm a store must check anyway, and one that checks fences needs no more than this.
//! - **No queue**: whoever asks first after a release gets it, not who has waited longest.

#[cfg(test)]
mod fuzz;
mod grip;
mod held;
mod keys;
mod scripts;

use std::time::Duration;

use grip::{Attempt, Grip, Hold};
pub use held::{Held, Loss, Release};
use held::{lifetime, may_have_run};
pub use keys::LockKey;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    duration,
    error::{Error, Invalid, TroubleKind},
    redis::Redis,
};

/// The first pause between two attempts of a waiting caller; each further one may be twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause, and so about how long a lock that was released lies idle beside a waiting caller.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How a lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockOptions {
    /// How long the lock outlives a holder that died, 100 ms to 24 h. It is extended each third of it; the shorter,
    /// the sooner a busy machine or a slow network loses it.
    pub ttl: Duration,
    /// How long to wait for the lock while another has it, up to 24 h; zero: one attempt.
    pub wait: Duration,
}

impl LockOptions {
    /// The shortest ttl. Its third is still many round trips.
    pub const MIN_TTL: Duration = Duration::from_millis(100);
    /// The longest ttl, and the longest wait.
    pub const MAX: Duration = Duration::from_secs(24 * 3600);

    fn check(self) -> Result<Self, Invalid> {
        let outside = |what, value, least| {
            let (least, most) = (duration::format(least), duration::format(Self::MAX));
            Err(Invalid::new(what, duration::format(value), format!("is not within {least} and {most}")))
        };
        if !(Self::MIN_TTL..=Self::MAX).contains(&self.ttl) {
            return outside("ttl", self.ttl, Self::MIN_TTL);
        }
        if self.wait > Self::MAX {
            return outside("wait", self.wait, Duration::ZERO);
        }
        Ok(self)
    }
}

/// Why a lock was not obtained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another had it all the while.
    #[error("lock `{key}` was not obtained{}: another holds it, and {}", waited_text(*.waited), left_text(*.left))]
    Taken {
        /// The lock.
        key: LockKey,
        /// How long it was waited for: [`LockOptions::wait`].
        waited: Duration,
        /// When it is free unless its holder extends it; none if its key has no ttl, as another program may have set it.
        left: Option<Duration>,
    },
    /// The wait was called off.
    #[error("waiting for lock `{0}` was called off")]
    Stopped(LockKey),
    /// Redis could not be reached or refused the call. Nothing is held; if an answer was lost, at most for one ttl.
    #[error(transparent)]
    Redis(#[from] Error),
}

fn waited_text(waited: Duration) -> String {
    if waited.is_zero() { String::new() } else { format!(" within {}", duration::format(waited)) }
}

fn left_text(left: Option<Duration>) -> String {
    match left {
        Some(left) => format!("its ttl has {} left", duration::format(left)),
        None => "its key has no ttl: another program has set it".to_owned(),
    }
}

/// Tries what a lock does with Redis on a key that nobody else has, and removes it: for the doctor.
pub(crate) async fn try_verbs(
    redis: &Redis,
    prefix: &str,
    key: LockKey,
) -> [(&'static str, Result<(), Error>); 4] {
    let hold = Hold::new(redis.clone(), prefix, key, LockOptions::MIN_TTL * 100);
    [
        ("lock_acquire", hold.acquire().await.map(drop)),
        ("lock_extend", hold.extend().await.map(drop)),
        ("lock_release", hold.release().await.map(drop)),
        ("unlink", hold.forget().await),
    ]
}

/// A lock that can be acquired. Cheap to clone; whoever holds the same key of the same Redis excludes all others.
#[derive(Clone)]
pub struct Lock {
    redis: Redis,
    prefix: String,
    key: LockKey,
    options: LockOptions,
}

impl Lock {
    /// The lock `key` under the key prefix `prefix` (`overdue` unless configured otherwise). Nothing is sent yet.
    ///
    /// # Errors
    /// If the ttl or the wait is outside its range.
    pub fn new(redis: Redis, prefix: &str, key: LockKey, options: LockOptions) -> Result<Self, Invalid> {
        Ok(Self { redis, prefix: prefix.to_owned(), key, options: options.check()? })
    }

    /// Takes the lock, or waits for it up to [`LockOptions::wait`] (and for the answer to the last attempt). A Redis
    /// that is away meanwhile is tried again, with the same token: so an attempt whose reply was lost finds itself the
    /// holder, and does not wait for its own ttl. Dropped on the way, it releases what it may have taken, in the
    /// background.
    ///
    /// Two acquisitions are two holders, also in one process: this lock is not reentrant.
    ///
    /// # Errors
    /// If another has it, or Redis does not answer.
    pub async fn acquire(&self) -> Result<Held, LockError> {
        self.acquire_unless(&CancellationToken::new()).await
    }

    /// The same, but `stop` ends the wait between two attempts. A lock that was obtained is answered all the same.
    ///
    /// # Errors
    /// Those of [`acquire`](Self::acquire), and [`LockError::Stopped`].
    pub async fn acquire_unless(&self, stop: &CancellationToken) -> Result<Held, LockError> {
        let LockOptions { ttl, wait } = self.options;
        let end = Instant::now() + wait;
        let mut grip = Grip::new(Hold::new(self.redis.clone(), &self.prefix, self.key.clone(), ttl));
        let mut longest = FIRST_PAUSE;
        loop {
            let until = Instant::now() + lifetime(ttl);
            let (error, left) = match grip.acquire().await {
                Ok(Attempt::Held { fence }) if Instant::now() < until => {
                    return Ok(Held::new(grip, fence, until));
                }
                // The answer took longer than the lock lives: tried again, the same token gets the whole ttl.
                Ok(Attempt::Held { .. }) => (Error::timeout(ttl).into(), None),
                Ok(Attempt::Taken { left }) => {
                    (LockError::Taken { key: self.key.clone(), waited: wait, left }, left)
                }
                Err(error) => (error.into(), None),
            };
            let remaining = end.saturating_duration_since(Instant::now());
            if remaining.is_zero() || !may_pass(&error) {
                grip.give_up().await;
                return Err(error);
            }
            tokio::select! {
                () = stop.cancelled() => {
                    grip.give_up().await;
                    return Err(LockError::Stopped(self.key.clone()));
                }
                () = sleep(pause(longest, left, rand::random()).min(remaining)) => {}
            }
            longest = (longest * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The pause until the next attempt: between half of the longest and all of it, and not past the holder's end by more
/// than a scatter that keeps those who wait from asking all at once.
fn pause(longest: Duration, left: Option<Duration>, random: f64) -> Duration {
    let pause = longest.mul_f64(0.5 + random / 2.0);
    left.map_or(pause, |left| pause.min(left + FIRST_PAUSE.mul_f64(random)))
}

/// True if another attempt may succeed.
fn may_pass(error: &LockError) -> bool {
    use TroubleKind::{Busy, Loading, MasterDown, ReadOnly, TryAgain};
    match error {
        LockError::Taken { .. } => true,
        LockError::Redis(error) if may_have_run(error) => true,
        LockError::Redis(Error::Redis(trouble)) => {
            matches!(trouble.kind, Busy | Loading | MasterDown | ReadOnly | TryAgain)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn options_outside_their_range_are_refused_by_name() {
        let check = |ttl, wait| LockOptions { ttl, wait }.check().map_err(|error| error.to_string());
        assert!(check(100 * MS, Duration::ZERO).is_ok());
        assert!(check(LockOptions::MAX, LockOptions::MAX).is_ok());
        assert_eq!(check(99 * MS, Duration::ZERO).unwrap_err(), "ttl `99ms` is not within 100ms and 1d");
        assert!(check(LockOptions::MAX + MS, Duration::ZERO).unwrap_err().starts_with("ttl `1d1ms`"));
        assert!(check(100 * MS, LockOptions::MAX + MS).unwrap_err().starts_with("wait `1d1ms`"));
    }

    #[test]
    fn pauses_scatter_and_do_not_pass_the_end_of_the_holder_by_far() {
        let longest = 200 * MS;
        assert_eq!(pause(longest, None, 0.0), 100 * MS);
        assert_eq!(pause(longest, None, 1.0), longest);
        assert_eq!(pause(longest, Some(Duration::from_secs(9)), 1.0), longest);
        assert_eq!(pause(longest, Some(20 * MS), 0.0), 20 * MS);
        assert_eq!(pause(longest, Some(20 * MS), 1.0), 30 * MS);
    }

    #[test]
    fn errors_say_who_has_it_for_how_long() {
        let taken = |waited, left| LockError::Taken { key: "a".parse().unwrap(), waited, left }.to_string();
        assert_eq!(
            taken(Duration::from_secs(10), Some(1500 * MS)),
            "lock `a` was not obtained within 10s: another holds it, and its ttl has 1s500ms left"
        );
        assert_eq!(
            taken(Duration::ZERO, None),
            "lock `a` was not obtained: another holds it, and its key has no ttl: another program has set it"
        );
    }
}
