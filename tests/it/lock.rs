//! The lock, as the crate has it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use overdue::{
    error::{Error, TroubleKind},
    lock::{Held, Lock, LockError, LockOptions, Loss, Release},
    redis::{Redis, Timeouts},
};
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};
use tokio_util::sync::CancellationToken;

use crate::support::{LIMIT, PATIENT, RedisServer, eventually, foreign_client, scripts::whole};

/// A ttl that no busy machine uses up between two extensions.
const LONG: Duration = Duration::from_secs(10);
/// One to wait for the end of.
const SHORT: Duration = Duration::from_secs(2);

/// A lock that no other test uses, with a foreign client beside it.
pub(super) struct Door {
    url: String,
    pub(super) key: String,
    foreign: MultiplexedConnection,
}

impl Door {
    pub(super) async fn new() -> Self {
        Self::on(RedisServer::shared()).await
    }

    pub(super) async fn on(server: &RedisServer) -> Self {
        let key = format!("door-{:016x}", rand::random::<u64>());
        Self { url: server.url(), key, foreign: foreign_client(server).await }
    }

    pub(super) fn lock(&self, ttl: Duration, wait: Duration) -> Lock {
        self.lock_with(ttl, wait, PATIENT)
    }

    fn lock_with(&self, ttl: Duration, wait: Duration, timeouts: Timeouts) -> Lock {
        let redis = Redis::open(&self.url, timeouts).expect("a valid url");
        let key = self.key.parse().expect("a valid name");
        Lock::new(redis, "overdue", key, LockOptions { ttl, wait }).expect("valid options")
    }

    async fn held(&self, ttl: Duration) -> Held {
        self.lock(ttl, LIMIT).acquire().await.expect("acquired")
    }

    fn lock_key(&self) -> String {
        format!("overdue:lock:{{{}}}", self.key)
    }

    fn fence_key(&self) -> String {
        format!("{}:fence", self.lock_key())
    }

    async fn send<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        command.query_async(&mut self.foreign.clone()).await.expect("a foreign command works")
    }

    /// The token in Redis.
    pub(super) async fn token(&self) -> Option<String> {
        self.send(redis::cmd("GET").arg(self.lock_key())).await
    }

    pub(super) async fn set(&self, token: &str) {
        let _: () = self.send(redis::cmd("SET").arg(self.lock_key()).arg(token)).await;
    }

    pub(super) async fn remove(&self) {
        let _: i64 = self.send(redis::cmd("DEL").arg(self.lock_key())).await;
    }

    /// The elements of a list.
    pub(super) async fn list(&self, key: &str) -> Vec<String> {
        self.send(redis::cmd("LRANGE").arg(key).arg(&[0, -1])).await
    }

    pub(super) async fn gone(&self) {
        eventually("the lock is free", async || self.token().await.is_none().then_some(())).await;
    }

    /// The script as any Redis client calls it.
    async fn eval<T: redis::FromRedisValue>(&self, script: &str, keys: &[String], args: &[&str]) -> T {
        self.send(redis::cmd("EVAL").arg(whole(script)).arg(keys.len()).arg(keys).arg(args)).await
    }

    async fn acquire_as(&self, token: &str, ttl_ms: &str) -> (i64, i64) {
        self.eval("lock_acquire", &[self.lock_key(), self.fence_key()], &[token, ttl_ms]).await
    }
}

fn left(error: &LockError) -> Option<Duration> {
    match error {
        LockError::Taken { left, .. } => *left,
        other => panic!("taken expected, not {other:?}"),
    }
}

#[tokio::test]
async fn one_holds_it_and_the_next_gets_it_with_a_larger_fence() {
    let door = Door::new().await;
    let first = door.held(LONG).await;
    assert!(first.is_held());
    assert_eq!(first.key().as_str(), door.key);
    let error = door.lock(LONG, Duration::ZERO).acquire().await.unwrap_err();
    assert!(left(&error).is_some_and(|left| left <= LONG), "{error}");
    let fence = first.fence();
    assert_eq!(first.release().await.unwrap(), Release::Released);
    assert_eq!(door.token().await, None);
    let second = door.held(LONG).await;
    assert!(second.fence() > fence);
    assert_eq!(second.release().await.unwrap(), Release::Released);
}

#[tokio::test]
async fn a_waiting_one_gets_it_when_it_is_released() {
    let server = RedisServer::start();
    let door = Door::on(&server).await;
    let first = door.held(LockOptions::MAX).await;
    let _: () = door.send(redis::cmd("CONFIG").arg("RESETSTAT")).await;
    let lock = door.lock(LONG, LIMIT);
    let waiting = tokio::spawn(async move { lock.acquire().await });
    eventually("it has asked", async || {
        let calls: String = door.send(redis::cmd("INFO").arg("commandstats")).await;
        calls.contains("evalsha").then_some(())
    })
    .await;
    let fence = first.fence();
    first.release().await.unwrap();
    assert!(waiting.await.unwrap().unwrap().fence() > fence);
}

#[tokio::test]
async fn the_wait_is_bounded_and_can_be_called_off() {
    let door = Door::new().await;
    let held = door.held(LONG).await;
    let error = door.lock(LONG, Duration::from_millis(50)).acquire().await.unwrap_err();
    assert!(error.to_string().contains("within 50ms: another holds it, and its ttl has "), "{error}");

    let stop = CancellationToken::new();
    stop.cancel();
    let error = door.lock(LONG, LIMIT).acquire_unless(&stop).await.unwrap_err();
    assert!(matches!(error, LockError::Stopped(_)), "{error}");
    assert!(held.is_held());

    door.set("without ttl").await;
    let error = door.lock(LONG, Duration::ZERO).acquire().await.unwrap_err();
    assert_eq!(left(&error), None);
}

#[tokio::test]
async fn extension_keeps_it_for_longer_than_its_ttl() {
    let door = Door::new().await;
    let begun = Instant::now();
    let held = door.held(LONG).await;
    eventually("its ttl is over", async || (begun.elapsed() > LONG).then_some(())).await;
    assert!(held.is_held());
    assert!(door.lock(LONG, Duration::ZERO).acquire().await.is_err());
    assert_eq!(held.release().await.unwrap(), Release::Released);
}

#[tokio::test]
async fn the_same_token_again_is_the_holder_with_the_same_fence_and_a_whole_ttl() {
    let door = Door::new().await;
    let (code, fence) = door.acquire_as("mine", "1000").await;
    assert_eq!(code, 1);
    assert_eq!(door.acquire_as("mine", "600000").await, (1, fence));
    let (code, left_ms) = door.acquire_as("another", "600000").await;
    assert!(code == 0 && left_ms > 1000 && left_ms <= 600_000, "{left_ms}");
    // After the lock went to another, it is an acquisition like any.
    assert_eq!(door.eval::<i64>("lock_release", &[door.lock_key()], &["mine"]).await, 1);
    let (_, second) = door.acquire_as("another", "600000").await;
    assert_eq!(door.eval::<i64>("lock_extend", &[door.lock_key()], &["mine", "1000"]).await, -1);
    assert_eq!(door.eval::<i64>("lock_release", &[door.lock_key()], &["mine"]).await, -1);
    assert_eq!(door.token().await.as_deref(), Some("another"));
    door.remove().await;
    assert_eq!(door.eval::<i64>("lock_release", &[door.lock_key()], &["another"]).await, 0);
    let (_, third) = door.acquire_as("mine", "600000").await;
    assert!(fence < second && second < third);
}

/// Acquires with a token of its own, lets the lock go as if its ttl had run out, and gives the fence.
async fn next_fence(door: &Door) -> i64 {
    let (code, fence) = door.acquire_as(&format!("{:x}", rand::random::<u64>()), "60000").await;
    assert_eq!(code, 1);
    door.remove().await;
    fence
}

#[tokio::test]
async fn fences_grow_when_the_lock_key_goes_and_when_the_clock_steps_back() {
    let door = Door::new().await;
    let mut last = 0;
    for _ in 0..100 {
        let fence = next_fence(&door).await;
        assert!(fence > last, "{fence} after {last}");
        last = fence;
    }
    // The last number of a clock that was a century ahead: then one by one.
    let ahead = 5_000_000_000_000_000_i64;
    let _: () = door.send(redis::cmd("SET").arg(door.fence_key()).arg(ahead)).await;
    for n in 1..=3 {
        assert_eq!(next_fence(&door).await, ahead + n);
    }
    assert_eq!(door.send::<i64>(redis::cmd("PTTL").arg(door.fence_key())).await, -1, "it has no ttl");
}

#[tokio::test]
async fn fences_grow_although_a_failover_lost_the_last_of_them() {
    let door = Door::new().await;
    let before = next_fence(&door).await;
    let last = next_fence(&door).await;
    // A replica that has not seen the last one, and one that has seen none.
    let _: () = door.send(redis::cmd("SET").arg(door.fence_key()).arg(before)).await;
    let next = next_fence(&door).await;
    assert!(next > last);
    let _: i64 = door.send(redis::cmd("DEL").arg(door.fence_key())).await;
    assert!(next_fence(&door).await > next);
}

#[tokio::test]
async fn a_key_that_is_not_overdue_s_is_named_and_left_alone() {
    for number in ["text", "1.5", "-1", "9007199254740991", "1e300"] {
        let door = Door::new().await;
        let _: () = door.send(redis::cmd("SET").arg(door.fence_key()).arg(number)).await;
        let error = door.lock(LONG, LIMIT).acquire().await.unwrap_err().to_string();
        assert!(error.contains(&door.fence_key()), "{error}");
        assert_eq!(door.token().await, None);
    }
    let door = Door::new().await;
    let _: i64 = door.send(redis::cmd("RPUSH").arg(door.lock_key()).arg("a")).await;
    match door.lock(LONG, LIMIT).acquire().await.unwrap_err() {
        LockError::Redis(Error::WrongType { key, expected, found }) => {
            assert_eq!((key, expected, found.as_str()), (door.lock_key(), "string", "list"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_key_that_is_removed_or_another_s_is_told_and_not_touched() {
    for (token, loss) in [(None, Loss::Gone), (Some("another"), Loss::Taken)] {
        let door = Door::new().await;
        let held = door.held(LONG).await;
        match token {
            Some(token) => door.set(token).await,
            None => door.remove().await,
        }
        assert_eq!(held.lost().await, loss);
        assert!(!held.is_held());
        assert_eq!(held.release().await.unwrap(), Release::Lost(loss));
        assert_eq!(door.token().await.as_deref(), token);
    }
}

#[tokio::test]
async fn a_release_that_comes_too_late_says_so_and_frees_nobody_else_s() {
    let door = Door::new().await;
    // Its first extension is hours away: only the release can find out.
    let held = door.held(Duration::from_secs(24 * 3600)).await;
    door.remove().await;
    let next = door.held(LONG).await;
    assert_eq!(held.release().await.unwrap(), Release::Lost(Loss::Taken));
    assert!(next.is_held() && door.token().await.is_some());
    assert_eq!(next.release().await.unwrap(), Release::Released);
}

#[tokio::test]
async fn one_that_is_dropped_is_released_in_the_background() {
    let door = Door::new().await;
    drop(door.held(LockOptions::MAX).await);
    door.gone().await;
}

#[tokio::test]
async fn a_redis_that_hangs_or_dies_is_told_before_the_ttl_is_over() {
    for hangs in [true, false] {
        let mut server = RedisServer::start();
        let door = Door::on(&server).await;
        let held = door.held(SHORT).await;
        if hangs {
            server.signal("STOP");
        } else {
            server.kill9();
        }
        let loss = held.lost().await;
        assert!(matches!(loss, Loss::NotExtended { .. }), "{loss:?}");
        if hangs {
            server.signal("CONT");
            assert_eq!(held.release().await.unwrap(), Release::Lost(loss));
        }
    }
}

/// A way to a server on which the reply to the next script is lost: it runs, and then the connection breaks.
fn lossy(server: &RedisServer, place: &TempDir, lose_next: &Arc<AtomicBool>) -> String {
    let server = server.socket();
    let socket = place.path().join("lossy.sock");
    let listener = UnixListener::bind(&socket).expect("a free path");
    let lose_next = Arc::clone(lose_next);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = UnixStream::connect(&server).await.expect("it listens");
            tokio::spawn(pass(client, server, Arc::clone(&lose_next)));
        }
    });
    format!("unix://{}", socket.display())
}

/// Ends, and so breaks the connection, in place of passing the reply that is to be lost.
async fn pass(mut client: UnixStream, mut server: UnixStream, lose_next: Arc<AtomicBool>) {
    let (mut request, mut reply) = ([0; 4096], [0; 4096]);
    let mut loses = false;
    loop {
        tokio::select! {
            len = client.read(&mut request) => {
                let Ok(len @ 1..) = len else { return };
                let is_script = request[..len].windows(7).any(|word| word == b"EVALSHA");
                loses = loses || (is_script && lose_next.swap(false, Ordering::SeqCst));
                if server.write_all(&request[..len]).await.is_err() {
                    return;
                }
            }
            len = server.read(&mut reply) => {
                let Ok(len @ 1..) = len else { return };
                if loses || client.write_all(&reply[..len]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn lost_replies_do_not_make_a_holder_wait_for_itself_or_think_it_lost() {
    let server = RedisServer::start();
    let mut door = Door::on(&server).await;
    // The scripts are known from then on: their first call has a reply, and no NOSCRIPT.
    door.held(LONG).await.release().await.unwrap();
    let (place, lose_next) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(false)));
    door.url = lossy(&server, &place, &lose_next);

    lose_next.store(true, Ordering::SeqCst);
    let held = door.held(LockOptions::MAX).await;
    assert!(!lose_next.load(Ordering::SeqCst), "a reply was lost");
    let fence: u64 = door.send(redis::cmd("GET").arg(door.fence_key())).await;
    assert_eq!(held.fence(), fence, "it was acquired once");

    lose_next.store(true, Ordering::SeqCst);
    assert_eq!(held.release().await.unwrap(), Release::Released);
    assert!(!lose_next.load(Ordering::SeqCst), "a reply was lost");
    assert_eq!(door.token().await, None);

    // One attempt is no wait: it fails, but leaves nothing behind.
    lose_next.store(true, Ordering::SeqCst);
    let error = door.lock(LockOptions::MAX, Duration::ZERO).acquire().await.unwrap_err();
    assert!(matches!(error, LockError::Redis(_)), "{error}");
    assert_eq!(door.token().await, None);
}

#[tokio::test]
async fn without_redis_an_acquire_fails_at_once_or_when_the_wait_is_over_and_holds_nothing() {
    let mut server = RedisServer::start();
    let door = Door::on(&server).await;
    let lock = door.lock(LONG, Duration::from_millis(50));
    server.kill9();
    match lock.acquire().await.unwrap_err() {
        LockError::Redis(Error::Redis(trouble)) => assert_eq!(trouble.kind, TroubleKind::Unreachable),
        other => panic!("{other:?}"),
    }
    let lock = door.lock(LONG, LIMIT);
    let waiting = tokio::spawn(async move { lock.acquire().await });
    server.restart();
    assert!(waiting.await.unwrap().unwrap().is_held());
}

#[tokio::test]
async fn a_full_redis_refuses_new_holders_and_keeps_and_frees_the_old_one() {
    let server = RedisServer::start();
    let door = Door::on(&server).await;
    let held = door.held(LONG).await;
    let limit = async |bytes: &str| {
        let _: () = door.send(redis::cmd("CONFIG").arg(&["SET", "maxmemory", bytes])).await;
    };
    limit("1").await;
    let key = [door.lock_key()];
    let token = door.token().await.unwrap();
    assert_eq!(door.eval::<i64>("lock_extend", &key, &[&token, "60000"]).await, 1);
    assert_eq!(held.release().await.unwrap(), Release::Released);
    match door.lock(LONG, LIMIT).acquire().await.unwrap_err() {
        LockError::Redis(Error::Redis(trouble)) => assert_eq!(trouble.kind, TroubleKind::OutOfMemory),
        other => panic!("{other:?}"),
    }
    limit("0").await;
    assert!(door.held(LONG).await.is_held());
}
