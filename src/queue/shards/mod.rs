//! A queue on several slots. Each shard is a queue of its own with the keys of `{orders#1}`, `{orders#2}`, …, and each verb
//! goes to where an id is.
//!
//! An id stays where it is, so any shard may be written to. A new one goes home, which is the CRC16 of the id modulo the
//! number of homes. How many homes and shards there are stands in `meta` of the first shard, and in a copy in each other;
//! see the script `shards`.

mod deliver;
mod inspect;
mod reshard;
mod route;
mod verify;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use redis::Value;
use tokio::sync::watch;

use super::{
    Queue,
    keys::Keys,
    reply::{Reply, natural},
    scripts,
};
use crate::{
    error::{Error, Result, TroubleKind},
    redis::{crc16, slot_of},
};
#[cfg(test)]
pub(super) use reshard::Batch;
pub use reshard::{Resharded, Resharding};
pub(super) use route::{Part, Reach};

/// How long a caller goes by what was known of the shards, where a script would not tell it otherwise.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// How often a shard is told while other processes go on sending ids away from it. Each of them has to be between two steps
/// of its own just then.
const TELLS: usize = 8;

/// Over how many shards a queue is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shards {
    /// Grows with each change.
    epoch: u64,
    homes: u16,
    all: u16,
    is_moving: bool,
}

impl Shards {
    /// The most that a queue can have.
    pub const MAX: u16 = 64;
    /// A queue that was never spread.
    pub const ONE: Self = Self { epoch: 0, homes: 1, all: 1, is_moving: false };

    /// How many of them get new ids.
    #[must_use]
    pub fn homes(self) -> u16 {
        self.homes
    }

    /// How many there are: more than homes while `reshard` takes some out of use.
    #[must_use]
    pub fn all(self) -> u16 {
        self.all
    }

    /// True while a `reshard` is under way.
    #[must_use]
    pub fn is_moving(self) -> bool {
        self.is_moving
    }

    /// Where a new id goes.
    ///
    /// ```
    /// use overdue::queue::Shards;
    /// assert_eq!(Shards::ONE.home_of(b"order-42"), 0);
    /// ```
    #[must_use]
    pub fn home_of(self, id: &[u8]) -> u16 {
        if self.homes == 1 { 0 } else { crc16(id) % self.homes }
    }

    /// As `meta` has it; empty for a queue that was never spread.
    pub(super) fn written(self) -> String {
        let Self { epoch, homes, all, is_moving } = self;
        if epoch == 0 { String::new() } else { format!("{epoch} {homes} {all} {}", u8::from(is_moving)) }
    }

    /// Reads what [`Shards::written`] wrote; none for anything else.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::ONE);
        }
        let numbers: Vec<&str> = std::str::from_utf8(text).ok()?.split(' ').collect();
        let [epoch, homes, all, moving] = numbers[..] else { return None };
        let (epoch, homes, all) = (epoch.parse().ok()?, homes.parse().ok()?, all.parse().ok()?);
        let is_sound = epoch > 0 && epoch < 1 << 53 && homes >= 1 && homes <= all && all <= Self::MAX;
        let is_moving = ["0", "1"].iter().position(|word| *word == moving)? == 1;
        is_sound.then_some(Self { epoch, homes, all, is_moving })
    }

    /// What follows upon it.
    fn then(self, homes: u16, all: u16, is_moving: bool) -> Self {
        Self { epoch: self.epoch + 1, homes, all, is_moving }
    }
}

/// What all handles to one queue of a process know together.
#[derive(Debug)]
pub(super) struct Group {
    known: watch::Sender<Shards>,
    read_at: Mutex<Option<Instant>>,
    keys: Mutex<Vec<Keys>>,
    /// Which shard the next claim begins with.
    turn: AtomicUsize,
}

impl Group {
    pub(super) fn new(first: &Keys) -> Arc<Self> {
        let keys = Mutex::new(vec![first.clone()]);
        let (read_at, turn) = (Mutex::default(), AtomicUsize::new(0));
        Arc::new(Self { known: watch::Sender::new(Shards::ONE), read_at, keys, turn })
    }

    fn keys(&self, shard: u16) -> Keys {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        while keys.len() <= usize::from(shard) {
            let next = keys[0].shard(keys.len() as u16);
            keys.push(next);
        }
        keys[usize::from(shard)].clone()
    }

    fn learn(&self, shards: Shards) {
        self.known.send_if_modified(|known| {
            let is_newer = shards.epoch > known.epoch;
            if is_newer {
                *known = shards;
            }
            is_newer
        });
    }

    fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

/// What a shard answers to who tells it of the shards.
struct Told {
    shards: Shards,
    is_paused: bool,
    /// Since when no scheduler has polled it; none if none ever did.
    unpolled: Option<Duration>,
}

impl Queue {
    /// The shards as far as they are known here, without asking Redis.
    #[must_use]
    pub fn shards(&self) -> Shards {
        *self.group.known.borrow()
    }

    /// Tells of each change of the shards that is noticed here.
    pub(crate) fn watch_shards(&self) -> watch::Receiver<Shards> {
        if self.is_shard { watch::Sender::new(Shards::ONE).subscribe() } else { self.group.known.subscribe() }
    }

    /// One of its shards as a queue of its own: its verbs see what is there and nothing else. What delivers works like
    /// this, since leases are of a shard. A shard has one, itself.
    #[must_use]
    pub fn shard(&self, shard: u16) -> Self {
        if self.is_shard { self.clone() } else { self.sibling(shard) }
    }

    /// The slot of its keys.
    pub(crate) fn slot(&self) -> u16 {
        slot_of(&self.keys.common()[0])
    }

    fn sibling(&self, shard: u16) -> Self {
        let keys = self.group.keys(shard);
        let redis = self.redis.near(&keys.common()[0]);
        Self { redis, keys, is_shard: true, ..self.clone() }
    }

    /// Its shards, as known to Redis about a second ago or later.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn each_shard(&self) -> Result<Vec<Self>> {
        if self.is_shard {
            return Ok(vec![self.clone()]);
        }
        let shards = self.fresh_shards().await?;
        Ok((0..shards.all).map(|shard| self.sibling(shard)).collect())
    }

    async fn fresh_shards(&self) -> Result<Shards> {
        let read_at = *self.group.read_at.lock().unwrap_or_else(PoisonError::into_inner);
        if read_at.is_some_and(|at| at.elapsed() < KNOWN_FOR) {
            return Ok(self.shards());
        }
        self.ask_shards().await
    }

    /// The shards as the first one has them. If that has forgotten, as a server does that lost its data, it is told.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn ask_shards(&self) -> Result<Shards> {
        let asked_at = Instant::now();
        let first = self.sibling(0);
        let mut command = redis::cmd("HGET");
        command.arg(&first.keys.common()[7]).arg("shards");
        let answer = first.redis.run(&command).await;
        let held = match first.or_wrong_type(answer, first.keys.typed(None)).await? {
            Value::BulkString(bytes) => Shards::read(&bytes),
            Value::Nil => Some(Shards::ONE),
            _ => None,
        };
        let detail = || {
            let key = &first.keys.common()[7];
            format!("`shards` of {key} is damaged: HDEL it, and `overdue queue reshard` writes it anew")
        };
        let held = held.ok_or_else(|| Error::Reply { script: "HGET", detail: detail() })?;
        self.group.learn(held);
        let known = self.shards();
        if held.epoch < known.epoch {
            let told = self.tell(0, known, None).await?;
            self.group.learn(told.shards);
        }
        *self.group.read_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked_at);
        Ok(self.shards())
    }

    /// Asks the second shard as well, where the first one has forgotten that there are others, or is away.
    pub(crate) async fn recall_shards(&self) -> Result<()> {
        if self.is_shard {
            return Ok(());
        }
        self.group.learn(self.tell(1, Shards::ONE, None).await?.shards);
        self.ask_shards().await.map(drop)
    }

    /// After a script said that the caller goes by other shards than its own: the highest epoch of all is told to all.
    async fn agree_on_shards(&self) -> Result<Shards> {
        let shards = self.ask_shards().await?;
        for told in join_all((0..shards.all).map(|shard| self.tell(shard, shards, None))).await {
            self.group.learn(told?.shards);
        }
        if self.shards() != shards {
            self.ask_shards().await?;
        }
        Ok(self.shards())
    }

    /// Tells a shard, unless it knows of something newer, and whether it is paused, if that is said.
    async fn tell(&self, shard: u16, shards: Shards, pause: Option<bool>) -> Result<Told> {
        let to = self.sibling(shard);
        let pause = pause.map_or("", |pause| if pause { "1" } else { "0" });
        for _ in 0..TELLS {
            let call = to.on_moving(&scripts::SHARDS).arg(shards.written()).arg(pause);
            let mut reply = Reply::new("shards", to.call(call).await?)?;
            let (held, is_paused, unpolled) = (reply.string()?, reply.int()? == 1, reply.optional_int()?);
            if reply.int()? == 1 {
                self.bring_in(shard).await?;
                continue;
            }
            let shards = Shards::read(&held).ok_or(Error::Reply {
                script: "shards",
                detail: "what `meta` has is no number of shards".to_owned(),
            })?;
            let unpolled = unpolled.map(|ms| natural("shards", ms)).transpose()?.map(Duration::from_millis);
            return Ok(Told { shards, is_paused, unpolled });
        }
        Err(route::changing())
    }

    /// What a poll said of the shards, if it said something.
    pub(super) fn heard_of_shards(&self, text: Option<&[u8]>) {
        if let Some(shards) = text.and_then(Shards::read) {
            self.group.learn(shards);
        }
    }
}

/// True if a script refused since the caller goes by other shards than its own.
fn is_of_other_shards<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(Error::Redis(trouble)) if trouble.kind == TroubleKind::OtherShards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_read_as_they_were_written() {
        for shards in [Shards::ONE, Shards { epoch: 3, homes: 2, all: 4, is_moving: true }] {
            assert_eq!(Shards::read(shards.written().as_bytes()), Some(shards));
        }
        for text in
            ["1", "0 1 1 0", "1 0 1 0", "1 2 1 0", "1 1 65 0", "1 1 1 2", "1 1 1 0 ", "x 1 1 0", "1 1 1"]
        {
            assert_eq!(Shards::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn ids_are_spread_evenly_over_their_homes() {
        let shards = Shards::ONE.then(4, 4, false);
        let mut counts = [0; 4];
        for n in 0..4000 {
            counts[usize::from(shards.home_of(format!("order-{n}").as_bytes()))] += 1;
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn only_news_are_learned() {
        let group = Group::new(&Keys::new("overdue", &"orders".parse().unwrap()));
        let (second, third) =
            (Shards::ONE.then(2, 2, false), Shards::ONE.then(2, 2, false).then(4, 4, false));
        group.learn(third);
        group.learn(second);
        assert_eq!(*group.known.borrow(), third);
    }
}
