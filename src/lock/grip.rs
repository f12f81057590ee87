//! The three scripts as calls of one token.

use std::{sync::Arc, time::Duration};

use redis::Value;
use tokio::runtime::Handle;

use super::{
    Loss,
    keys::{Keys, LockKey},
    scripts,
};
use crate::{
    error::{Error, Result, TroubleKind},
    redis::{Call, Redis},
};

/// The largest number that Lua tells from its neighbours.
const MAX_FENCE: i64 = (1 << 53) - 1;

/// One token's way to the lock.
pub(super) struct Hold {
    redis: Redis,
    keys: Keys,
    token: String,
    pub(super) key: LockKey,
    pub(super) ttl: Duration,
}

/// What an attempt to acquire has come to.
pub(super) enum Attempt {
    Held { fence: u64 },
    Taken { left: Option<Duration> },
}

impl Hold {
    /// With a token that nobody else has: 128 random bits.
    pub(super) fn new(redis: Redis, prefix: &str, key: LockKey, ttl: Duration) -> Self {
        let keys = Keys::new(prefix, &key);
        let redis = redis.near(&keys.lock()[0]);
        Self { redis, keys, token: format!("{:032x}", rand::random::<u128>()), key, ttl }
    }

    /// Makes the lock the token's for its ttl, if it is free or the token's already.
    pub(super) async fn acquire(&self) -> Result<Attempt> {
        let call = Call::new(&scripts::ACQUIRE, self.keys.both()).arg(&self.token).arg(self.ttl_ms());
        let script = call.name();
        let reply = self.call(&self.redis, call).await?;
        match &reply {
            Value::Array(parts) => match parts[..] {
                [Value::Int(1), Value::Int(fence @ 1..=MAX_FENCE)] => {
                    Ok(Attempt::Held { fence: fence.unsigned_abs() })
                }
                [Value::Int(0), Value::Int(left_ms)] => {
                    Ok(Attempt::Taken { left: u64::try_from(left_ms).ok().map(Duration::from_millis) })
                }
                _ => Err(unexpected(script)),
            },
            _ => Err(unexpected(script)),
        }
    }

    /// Gives the token its whole ttl again. The inner error: it does not hold the lock any more. It may take a quarter
    /// of the ttl: begun at the first third, one may go into the silence of a half-open connection, and the next one,
    /// over a new connection, is still in time.
    pub(super) async fn extend(&self) -> Result<Result<(), Loss>> {
        let call = Call::new(&scripts::EXTEND, self.keys.lock()).arg(&self.token).arg(self.ttl_ms());
        self.settle(&self.redis.within(self.ttl / 4), call).await
    }

    /// Frees the lock. The inner error: the token did not hold it any more.
    pub(super) async fn release(&self) -> Result<Result<(), Loss>> {
        self.settle(&self.redis, Call::new(&scripts::RELEASE, self.keys.lock()).arg(&self.token)).await
    }

    /// Removes both keys, so that nobody will ever compare its numbers.
    pub(super) async fn forget(&self) -> Result<()> {
        let mut command = redis::cmd("UNLINK");
        command.arg(self.keys.both());
        self.redis.run(&command).await.map(drop)
    }

    async fn settle(&self, redis: &Redis, call: Call<'_>) -> Result<Result<(), Loss>> {
        let script = call.name();
        match self.call(redis, call).await? {
            Value::Int(1) => Ok(Ok(())),
            Value::Int(0) => Ok(Err(Loss::Gone)),
            Value::Int(-1) => Ok(Err(Loss::Taken)),
            _ => Err(unexpected(script)),
        }
    }

    async fn call(&self, redis: &Redis, call: Call<'_>) -> Result<Value> {
        match redis.call(&call).await {
            Err(Error::Redis(trouble)) if trouble.kind == TroubleKind::WrongType => {
                let typed = self.keys.both().iter().map(|key| (key, "string"));
                Err(redis.wrong_type(typed).await.unwrap_or(Error::Redis(trouble)))
            }
            answer => answer,
        }
    }

    fn ttl_ms(&self) -> u64 {
        u64::try_from(self.ttl.as_millis()).expect("a checked ttl is at most a day")
    }
}

fn unexpected(script: &'static str) -> Error {
    Error::Reply { script, detail: "another shape than its header says".to_owned() }
}

/// A [`Hold`] that may have the lock. Dropped then, it releases it in the background, once and without a word;
/// where there is no runtime any more, or Redis is away, the ttl does it.
pub(super) struct Grip {
    hold: Arc<Hold>,
    /// True from before the first request that may have taken the lock.
    may_hold: bool,
}

impl Grip {
    pub(super) fn new(hold: Hold) -> Self {
        Self { hold: Arc::new(hold), may_hold: false }
    }

    pub(super) fn hold(&self) -> &Arc<Hold> {
        &self.hold
    }

    pub(super) async fn acquire(&mut self) -> Result<Attempt> {
        self.may_hold = true;
        let attempt = self.hold.acquire().await?;
        self.may_hold = matches!(attempt, Attempt::Held { .. });
        Ok(attempt)
    }

    pub(super) async fn release(&mut self) -> Result<Result<(), Loss>> {
        let released = self.hold.release().await?;
        self.may_hold = false;
        Ok(released)
    }

    /// Releases what an acquire without an answer may have taken.
    pub(super) async fn give_up(mut self) {
        if self.may_hold {
            let _ = self.release().await;
            self.may_hold = false;
        }
    }
}

impl Drop for Grip {
    fn drop(&mut self) {
        if self.may_hold
            && let Ok(runtime) = Handle::try_current()
        {
            let hold = Arc::clone(&self.hold);
            runtime.spawn(async move { hold.release().await });
        }
    }
}
