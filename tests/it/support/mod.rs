//! What the tests share: a Redis, a queue for each test, the view of a foreign client, and waiting.

pub(crate) mod certificates;
pub(crate) mod group;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod receiver;
pub(crate) mod scripts;
mod server;

use std::{
    ops::Deref,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use overdue::{
    DueAt, Id, Payload, QueueName, ServerTime, Token,
    error::{Error, Result, TroubleKind},
    order::Orders,
    queue::{
        Claim, Delivery, Due, Expected, Lease, Mode, Queue, Registration, Rejected, Retry, Scheduled, Shown,
        Sink, SinkKind,
    },
    redis::{Redis, Timeouts},
};
use redis::{AsyncConnectionConfig, FromRedisValue, ToRedisArgs, aio::MultiplexedConnection};
pub(crate) use server::{RedisServer, program, version};

/// 2026-01-01T00:00:00Z, where virtual time begins.
pub(crate) const T0: i64 = 1_767_225_600_000;
/// The lease of every claim that does not say otherwise.
pub(crate) const LEASE: Duration = Duration::from_millis(LEASE_MS as u64);
/// The same as a number, for virtual time.
pub(crate) const LEASE_MS: i64 = 10_000;
/// How long to wait for what has to happen. Far more than it takes, so that only a real fault reaches it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Clients that are to succeed wait as long as the tests do: a busy machine is no fault.
pub(crate) const PATIENT: Timeouts = Timeouts { connect: LIMIT, response: LIMIT };

/// The nine keys of a queue, by their last part.
pub(crate) const PARTS: [&str; 9] =
    ["scheduled", "payload", "leased", "leases", "batches", "attempts", "dead", "meta", "fired"];

/// The stream sink without a limit.
pub(crate) const STREAM: Sink = Sink { kind: SinkKind::Stream, max_len: None };

/// No arguments for [`Rig::on_key`].
pub(crate) const NOTHING: &[&str] = &[];

/// Waits until `probe` finds something. Tests sleep nowhere else.
pub(crate) async fn eventually<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(LIMIT, what, probe).await
}

/// The same for what takes longer.
pub(crate) async fn eventually_within<T>(
    limit: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(begun.elapsed() < limit, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn id(text: &str) -> Id {
    Id::new(text).expect("a valid id")
}

pub(crate) fn ids(texts: &[&str]) -> Vec<Id> {
    texts.iter().map(|text| id(text)).collect()
}

pub(crate) fn at_ms(ms: i64) -> DueAt {
    DueAt::from_ms(ms).expect("a valid deadline")
}

pub(crate) fn due(ms: i64) -> Due {
    Due::At(at_ms(ms))
}

/// A registration; an empty payload is none.
pub(crate) fn registration(text: &str, due_ms: i64, payload: &str) -> Registration {
    Registration { id: id(text), due: due(due_ms), payload: Payload::new(payload).ok() }
}

/// `count` ids `n0`, `n1`, … due at T0.
pub(crate) fn many(count: usize) -> Vec<Registration> {
    (0..count).map(|n| registration(&format!("n{n}"), T0, "")).collect()
}

pub(crate) fn retry_of(lease: &Lease, delay_ms: u64) -> Retry {
    Retry { lease: lease.clone(), delay: Duration::from_millis(delay_ms), error: "it failed".to_owned() }
}

pub(crate) fn rejected(lease: &Lease) -> Rejected {
    let id = lease.id.as_str().as_bytes().to_vec();
    Rejected { id, token: lease.token, reason: "rejected", error: "the handler said so".to_owned() }
}

pub(crate) fn leases(claim: &Claim) -> Vec<Lease> {
    claim.deliveries.iter().map(Delivery::lease).collect()
}

pub(crate) fn names(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.id.as_str()).collect()
}

pub(crate) fn text(payload: Option<&Payload>) -> &str {
    payload.map_or("", Payload::as_str)
}

/// The kind of trouble that a call ran into.
pub(crate) fn trouble<T: std::fmt::Debug>(answer: Result<T>) -> TroubleKind {
    match answer {
        Err(Error::Redis(trouble)) => trouble.kind,
        other => panic!("trouble expected, not {other:?}"),
    }
}

/// A queue that no other test uses, on the shared server.
pub(crate) fn queue() -> Queue {
    queue_on(RedisServer::shared(), PATIENT)
}

/// The same on a server of its own.
pub(crate) fn queue_on(server: &RedisServer, timeouts: Timeouts) -> Queue {
    queue_of(Redis::open(&server.url(), timeouts).expect("a valid url"))
}

/// The same by a handle that stands already.
pub(crate) fn queue_of(redis: Redis) -> Queue {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("q{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    Queue::new(redis, "overdue", QueueName::new(name).expect("a valid name"))
}

/// The orders of the queue `orders`, for a test that has the server for itself. Each call makes another connection.
pub(crate) fn orders_on(server: &RedisServer) -> Orders {
    let redis = Redis::open(&server.url(), PATIENT).expect("a valid url");
    Orders::new(Queue::new(redis, "overdue", QueueName::new("orders").expect("a valid name")))
}

/// A connection that knows nothing of overdue.
pub(crate) async fn foreign_client(server: &RedisServer) -> MultiplexedConnection {
    connect(&server.root_url()).await.expect("the server listens")
}

/// The same by its url. The crate's own limits are a second and a half, which a busy machine exceeds.
pub(crate) async fn connect(url: &str) -> redis::RedisResult<MultiplexedConnection> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(LIMIT)).set_response_timeout(Some(LIMIT));
    redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

/// A queue, with a foreign client beside it and shorthands in virtual time.
pub(crate) struct Rig {
    queue: Queue,
    foreign: MultiplexedConnection,
}

impl Deref for Rig {
    type Target = Queue;
    fn deref(&self) -> &Queue {
        &self.queue
    }
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::on(RedisServer::shared()).await
    }

    pub(crate) async fn on(server: &RedisServer) -> Self {
        Self::with(server, queue_on(server, PATIENT)).await
    }

    /// The same as a user who may do everything, for what overdue does not do: snapshots, keys of others.
    pub(crate) async fn rooted_on(server: &RedisServer) -> Self {
        let redis = Redis::open(&server.root_url(), PATIENT).expect("a valid url");
        Self::with(server, queue_of(redis)).await
    }

    pub(crate) async fn with(server: &RedisServer, queue: Queue) -> Self {
        Self { queue, foreign: foreign_client(server).await }
    }

    /// The queue at an instant of virtual time.
    pub(crate) fn when(&self, now_ms: i64) -> Queue {
        self.queue.at(ServerTime::from_ms(now_ms))
    }

    pub(crate) fn key(&self, part: &str) -> String {
        format!("overdue:{{{}}}:{part}", self.queue.name())
    }

    /// A command as any Redis client sends it.
    pub(crate) async fn send<T: FromRedisValue>(&self, command: &redis::Cmd) -> T {
        command.query_async(&mut self.foreign.clone()).await.expect("a foreign command works")
    }

    /// A command to the server whose answer does not matter.
    pub(crate) async fn admin(&self, words: &[&str]) {
        let _: redis::Value = self.send(redis::cmd(words[0]).arg(&words[1..])).await;
    }

    /// For commands that may fail.
    pub(crate) fn connection(&self) -> MultiplexedConnection {
        self.foreign.clone()
    }

    /// A command on one of the queue's keys.
    pub(crate) async fn on_key<T: FromRedisValue>(
        &self,
        verb: &str,
        part: &str,
        arguments: impl ToRedisArgs,
    ) -> T {
        self.send(redis::cmd(verb).arg(self.key(part)).arg(arguments)).await
    }

    /// Registers, or moves, as level 0 of the contract says.
    pub(crate) async fn zadd(&self, id: impl ToRedisArgs, score: impl ToRedisArgs) {
        let _: i64 = self.on_key("ZADD", "scheduled", (score, id)).await;
    }

    pub(crate) async fn hset(&self, id: impl ToRedisArgs, payload: impl ToRedisArgs) {
        let _: i64 = self.on_key("HSET", "payload", (id, payload)).await;
    }

    /// The members of a ZSET.
    pub(crate) async fn members(&self, part: &str) -> Vec<String> {
        self.on_key("ZRANGE", part, (0, -1)).await
    }

    /// The last parts of the keys that exist.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let keys: Vec<String> = self.send(redis::cmd("KEYS").arg(self.key("*"))).await;
        let mut parts: Vec<String> = keys.iter().map(|key| key[self.key("").len()..].to_owned()).collect();
        parts.sort();
        parts
    }

    pub(crate) async fn schedule_all(&self, registrations: &[Registration]) -> Vec<Scheduled> {
        let answer = self.when(T0).schedule(registrations, Mode::Replace, Expected::Anything).await;
        answer.expect("scheduled")
    }

    pub(crate) async fn put(&self, id: &str, due_ms: i64, payload: &str) -> Scheduled {
        self.schedule_all(&[registration(id, due_ms, payload)]).await[0]
    }

    pub(crate) async fn claim_at(&self, now_ms: i64, limit: usize) -> Claim {
        self.when(now_ms).claim(limit, LEASE).await.expect("claimed")
    }

    /// The ids that a claim takes, in its order.
    pub(crate) async fn claimed(&self, now_ms: i64) -> Vec<String> {
        let claim = self.claim_at(now_ms, 1000).await;
        names(&claim.deliveries).into_iter().map(str::to_owned).collect()
    }

    /// Claims, and expects exactly one delivery.
    pub(crate) async fn claim_one(&self, now_ms: i64) -> Delivery {
        let mut claim = self.claim_at(now_ms, 1000).await;
        assert_eq!(claim.deliveries.len(), 1, "{:?}", claim.deliveries);
        claim.deliveries.remove(0)
    }

    /// Registers an id with a payload, and claims it, both at T0.
    pub(crate) async fn leased(&self, id: &str, payload: &str) -> Delivery {
        self.put(id, T0, payload).await;
        self.claim_one(T0).await
    }

    /// Registers an id with a payload, and buries it, at T0.
    pub(crate) async fn buried(&self, id: &str, payload: &str) {
        let lease = self.leased(id, payload).await.lease();
        self.when(T0).bury(&[rejected(&lease)]).await.expect("buried");
    }

    pub(crate) async fn shown(&self, text: &str) -> Option<Shown> {
        self.show(&id(text)).await.expect("shown")
    }

    /// The length of the payload hash.
    pub(crate) async fn payloads(&self) -> usize {
        self.on_key("HLEN", "payload", NOTHING).await
    }
}

/// A hold that nobody has any more.
pub(crate) fn wrong_token(lease: &Lease) -> Lease {
    Lease { id: lease.id.clone(), token: Token::new(lease.token.get() + 1) }
}
