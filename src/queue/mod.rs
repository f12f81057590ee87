//! The engine: a [`Queue`] is the list of verbs, each of them one Lua script and so one atomic step.
//!
//! ```text
//!              schedule                    claim                      ack
//!  (absent) ------------> scheduled ----------------> leased ------------------> (absent)
//!                          ^  |  ^                    |  |  |
//!                          |  |  |   retry, release   |  |  |  attempts spent, or bury
//!                          |  |  +--------------------+  |  +-----------------------------> dead
//!                          |  |      lease ran out       |                                   |
//!                          |  +-- cancel --> (absent) <--+ cancel (no further attempt)       |
//!                          +----------------------------- retry_dead -------------------------+
//! ```
//!
//! Who moves an id on: `scheduled` by the next poll after its deadline; `leased` by the handler's outcome, or,
//! when the process that holds it died, by the first claim after the lease ran out; `dead` by a person, or by
//! `trim_dead`, if the queue has a retention for its dead ids.
//!
//! Time is the Redis server's, read once in each script. [`Queue::at`] passes one in instead: tests and
//! `replay` run in virtual time through the very same scripts.

mod adopt;
mod answers;
mod canary;
mod cursor;
mod dead;
mod deliver;
#[cfg(test)]
pub(crate) mod fuzz;
mod inspect;
mod keys;
mod packed;
mod register;
pub(crate) mod reply;
pub(crate) mod scripts;
mod shards;
mod trace;
mod verify;

pub use adopt::{Adopted, Candidate, Takeover};
pub use answers::{
    Cancelled, Claim, ClaimOptions, Counts, Delivery, Due, Expected, Fired, Lease, Mode, Page, Registration,
    Rejected, Rescheduled, Retried, Retry, Scheduled, Settled, Shown, ShownLease, Sink, SinkKind, State,
    Unreadable,
};
pub use canary::{Canary, Sighting, Watched};
pub use cursor::Cursor;
pub use dead::DeadVerb;
pub use inspect::Coming;
use keys::Keys;
use redis::Value;
pub(crate) use register::due_argument;
use reply::Reply;
use shards::Group;
pub use shards::{Resharded, Resharding, Shards};
pub use trace::TraceParent;
pub use verify::{Flaw, Found, Part, Verified, VerifyCursor};

use std::{sync::Arc, time::Duration};

use crate::{
    error::{Error, Result, TroubleKind},
    redis::{Call, Redis, Script},
    types::{Companion, Durability, DurabilityLevel, Id, QueueName, ServerTime},
};

/// The most ids that one script call takes; longer input is cut into several calls.
pub const MAX_IDS_PER_CALL: usize = 1000;
/// The same for `retry` and `bury`: they carry error texts and reopen batches, and a quarter of the usual step
/// keeps them as short.
pub const MAX_FAILURES_PER_CALL: usize = 250;

/// One queue on one Redis, or spread over several servers of a cluster: the verbs. Cheap to clone.
///
/// ```no_run
/// use overdue::queue::{Due, Expected, Mode, Queue, Registration};
/// use std::time::Duration;
///
/// # async fn example(queue: Queue) -> overdue::Result<()> {
/// let id: overdue::Id = "order-42".parse()?;
/// let due = Due::In(Duration::from_secs(1800));
/// let order = Registration { id: id.clone(), due, payload: None };
/// queue.schedule(&[order], Mode::Replace, Expected::Anything).await?;
/// queue.reschedule(&id, Due::In(Duration::from_secs(3600)), Expected::Anything).await?;
/// let counts = queue.counts().await?;
/// println!("{} wait, {} are due", counts.scheduled, counts.due);
/// queue.cancel(&[id]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Queue {
    redis: Redis,
    name: QueueName,
    keys: Keys,
    now: Option<ServerTime>,
    durability: Durability,
    /// What is known of all its shards.
    group: Arc<Group>,
    /// True if this is one of them, or has none; its verbs go nowhere else.
    is_shard: bool,
}

impl Queue {
    /// The queue `name` under the key prefix `prefix` (`overdue` unless configured otherwise).
    #[must_use]
    pub fn new(redis: Redis, prefix: &str, name: QueueName) -> Self {
        let keys = Keys::new(prefix, &name);
        let redis = redis.near(&keys.common()[0]);
        let group = Group::new(&keys);
        Self { redis, name, keys, now: None, durability: Durability::MEMORY, group, is_shard: false }
    }

    /// The same queue seen at a fixed instant instead of by the server's clock.
    #[must_use]
    pub fn at(&self, now: ServerTime) -> Self {
        Self { now: Some(now), ..self.clone() }
    }

    /// The same queue for calls that wait no longer than this for an answer; see [`Redis::within`].
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { redis: self.redis.within(limit), ..self.clone() }
    }

    /// The same queue, whose registrations, moves and cancels, those of its orders as well, count as done when they have
    /// reached this. What schedulers write needs no more than memory: if it is lost, ids are delivered again.
    ///
    /// ```no_run
    /// use overdue::{
    ///     error::Error,
    ///     queue::Queue,
    ///     types::{Durability, DurabilityLevel},
    /// };
    /// use std::time::Duration;
    ///
    /// # async fn example(queue: Queue, id: overdue::Id) -> overdue::Result<()> {
    /// let timeout = Duration::from_secs(1);
    /// let careful = queue.durable(Durability { level: DurabilityLevel::Replicated, replicas: 1, timeout });
    /// match careful.cancel(&[id]).await {
    ///     Err(Error::NotDurable { reached, .. }) => println!("cancelled, but {reached}: say it again"),
    ///     answer => println!("{:?}", answer?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn durable(&self, durability: Durability) -> Self {
        Self { durability, ..self.clone() }
    }

    /// The same with another level for a call, where one is named.
    #[must_use]
    pub fn durable_at(&self, level: Option<DurabilityLevel>) -> Self {
        let level = level.unwrap_or(self.durability.level);
        self.durable(Durability { level, ..self.durability })
    }

    /// What its registrations, moves and cancels reach.
    #[must_use]
    pub fn durability(&self) -> DurabilityLevel {
        self.durability.level
    }

    /// The queue that this one keeps beside itself for orders.
    #[must_use]
    pub fn companion(&self, companion: Companion) -> Self {
        let (name, keys) = (self.name.companion(companion), self.keys.companion(companion));
        Self { name, keys, is_shard: true, ..self.clone() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &QueueName {
        &self.name
    }

    /// The server it lives on.
    #[must_use]
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// What its keys look like, for messages.
    #[must_use]
    pub fn key_pattern(&self) -> String {
        self.keys.pattern()
    }

    async fn exists_here(&self) -> Result<bool> {
        let mut command = redis::cmd("EXISTS");
        command.arg(self.keys.common());
        let reply = self.redis.run(&command).await?;
        Ok(Reply::new("EXISTS", Value::Array(vec![reply]))?.count()? > 0)
    }

    /// Removes it with what is known of it: for a queue of one shard that nobody will poll again.
    pub(crate) async fn remove(&self) -> Result<()> {
        self.unlink(self.keys.common()).await
    }

    /// Removes all keys of a queue that was made for a trial, with those of these orders.
    pub(crate) async fn remove_scratch(&self, orders: &[Id]) -> Result<()> {
        let with_orders = self.keys.with_orders(orders.iter().map(Id::as_str));
        self.unlink(&[self.keys.with_fired(), &with_orders].concat()).await
    }

    async fn unlink(&self, keys: &[String]) -> Result<()> {
        let mut command = redis::cmd("UNLINK");
        command.arg(keys);
        self.redis.run(&command).await.map(drop)
    }

    /// A call of a script on the eight common keys.
    fn script<'a>(&'a self, script: &'a Script) -> Call<'a> {
        Call::new(script, self.keys.common())
    }

    /// A call of a script that looks at what is on its way between shards as well.
    fn on_moving<'a>(&'a self, script: &'a Script) -> Call<'a> {
        Call::new(script, &self.keys.with_moving())
    }

    /// A call of a script with `now` as its first argument.
    fn timed<'a>(&'a self, script: &'a Script) -> Call<'a> {
        self.script(script).arg(self.now_argument())
    }

    fn now_argument(&self) -> String {
        self.now.map_or_else(String::new, |now| now.as_ms().to_string())
    }

    /// Cuts `items` into calls of at most `step_len` and collects the verdicts in order.
    async fn settle<'a, T>(
        &self,
        items: &'a [T],
        step_len: usize,
        call: impl Fn(&'a [T]) -> Call<'a>,
    ) -> Result<Vec<Settled>> {
        let mut answers = Vec::with_capacity(items.len());
        for step in items.chunks(step_len) {
            let call = call(step);
            let script = call.name();
            answers.extend(Reply::new(script, self.call(call).await?)?.settled(step.len())?);
        }
        Ok(answers)
    }

    /// Calls a script that answers how many ids it has moved or removed.
    async fn counted(&self, call: Call<'_>) -> Result<u64> {
        let script = call.name();
        let reply = self.call(call).await?;
        Reply::new(script, Value::Array(vec![reply]))?.count()
    }

    /// Calls a script that answers 1 or 0.
    async fn changed(&self, call: Call<'_>) -> Result<bool> {
        let script = call.name();
        match self.call(call).await? {
            Value::Int(code @ (0 | 1)) => Ok(code == 1),
            _ => Err(Error::Reply { script, detail: "neither 1 nor 0".to_owned() }),
        }
    }

    async fn call(&self, call: Call<'_>) -> Result<Value> {
        self.call_with_fired(call, None).await
    }

    /// Calls a verb of producers, and waits until it is as durable as it has to be.
    async fn write(&self, call: Call<'_>) -> Result<Value> {
        let answer = self.redis.write(&call, self.durability).await;
        self.or_wrong_type(answer, self.keys.typed(None)).await
    }

    /// The same for a sink, which keeps a key of this type beside the common ones.
    async fn call_with_fired(&self, call: Call<'_>, fired: Option<&'static str>) -> Result<Value> {
        let answer = self.redis.call(&call).await;
        self.or_wrong_type(answer, self.keys.typed(fired)).await
    }

    /// Names the key, if the answer is that one of these has another type than the script expects.
    async fn or_wrong_type<'a>(
        &self,
        answer: Result<Value>,
        typed: impl Iterator<Item = (&'a String, &'static str)>,
    ) -> Result<Value> {
        if !is_wrong_type(&answer) {
            return answer;
        }
        self.redis.wrong_type(typed).await.map_or(answer, Err)
    }

    /// What every order verb gets as its keys, with those of these orders.
    pub(crate) fn order_keys<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Vec<String> {
        self.keys.with_orders(ids)
    }

    /// A call of an order verb with `now` as its first argument.
    pub(crate) fn order_script<'a, 'b>(
        &self,
        script: &'a Script,
        ids: impl Iterator<Item = &'b str>,
    ) -> Call<'a> {
        self.order_script_on(script, ids, std::iter::empty())
    }

    /// The same with keys that belong to others behind those of the orders.
    pub(crate) fn order_script_on<'a, 'b>(
        &self,
        script: &'a Script,
        ids: impl Iterator<Item = &'b str>,
        foreign: impl Iterator<Item = &'b str>,
    ) -> Call<'a> {
        let keys: Vec<String> = self.order_keys(ids).into_iter().chain(foreign.map(str::to_owned)).collect();
        Call::new(script, &keys).arg(self.now_argument())
    }

    /// Runs an order verb.
    pub(crate) async fn call_order(&self, call: Call<'_>) -> Result<Value> {
        let answer = self.redis.call(&call).await;
        self.or_wrong_type_of_orders(answer).await
    }

    /// The same for a verb of producers; see [`Queue::write`].
    pub(crate) async fn write_order(&self, call: Call<'_>) -> Result<Value> {
        let answer = self.redis.write(&call, self.durability).await;
        self.or_wrong_type_of_orders(answer).await
    }

    async fn or_wrong_type_of_orders(&self, answer: Result<Value>) -> Result<Value> {
        let keys = self.order_keys(std::iter::empty());
        self.or_wrong_type(answer, keys.iter().zip(Keys::order_types())).await
    }

    /// The stream of what happened to orders.
    pub(crate) fn events_key(&self) -> String {
        self.keys.events()
    }
}

/// True if a key holds another type than the script expects. Redis does not say which: whoever knows the keys asks.
fn is_wrong_type(answer: &Result<Value>) -> bool {
    matches!(answer, Err(Error::Redis(trouble)) if trouble.kind == TroubleKind::WrongType)
}
