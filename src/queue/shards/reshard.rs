//! Changing over how many shards a queue is spread, while it is in use.
//!
//! 1. All learn of the new shards, and look for ids there; when they are polled,
//! 2. new ids go to their new homes, and
//! 3. ids that are elsewhere are taken home, up to 1000 at a time: `depart` takes them out of what is claimed and keeps them,
//!    `arrive` takes them in, once, and `departed` forgets them. Whoever meets such ids between the two, a process that looks
//!    for one of them, or a scheduler, brings them in at once. What is due within ten seconds fires where it is.
//! 4. What is no home any more is left when nothing is there.
//!
//! Where it is broken off, all goes on with what there is, and it can be begun again, or differently.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use redis::Value;

use super::{Shards, Told, is_of_other_shards, route::changing, verify::SETS_OF_IDS};
use crate::{
    error::{Error, Invalid, Result},
    queue::{MAX_IDS_PER_CALL, Queue, reply::Reply, scripts},
};

/// What is due sooner than this is not moved: a batch takes some milliseconds, and if its mover dies, a second or so.
const SOON: Duration = Duration::from_secs(10);
/// A shard counts as polled if its canary was written within this time: it is each second.
const POLLED_WITHIN: Duration = Duration::from_secs(5);
/// How long to wait until the schedulers poll the new shards. They learn of them by their next poll.
const POLLED_AFTER: Duration = Duration::from_secs(60);
/// How long to wait before looking again; doubled each time while ids of a shard that is given up have yet to fire.
const PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// How far a `reshard` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resharding {
    /// It waits until schedulers poll this shard.
    Waiting {
        /// The shard.
        shard: u16,
    },
    /// It takes ids home.
    Moving {
        /// How many were moved until now.
        moved: u64,
        /// How many stay where they are for now: they are leased, or due within ten seconds.
        staying: u64,
    },
}

/// What a `reshard` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resharded {
    /// What the queue had.
    pub before: Shards,
    /// What it has.
    pub shards: Shards,
    /// How many ids were moved.
    pub moved: u64,
    /// How many fire where they are, since they were leased or due within ten seconds.
    pub stayed: u64,
}

/// What `depart` has written of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::queue) struct Batch {
    /// In digits, like the token: both are only handed on.
    pub(in crate::queue) number: String,
    /// The shard that it goes to.
    pub(in crate::queue) to: u16,
    /// The last token of the shard that it left.
    pub(in crate::queue) token: String,
}

impl Batch {
    /// None if it is not as `depart` writes it.
    pub(in crate::queue) fn read(text: &[u8]) -> Option<Self> {
        let words: Vec<&str> = std::str::from_utf8(text).ok()?.split(' ').collect();
        let [number, to, token] = words[..] else { return None };
        let are_digits =
            |word: &str| (1..=16).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit());
        let to = to.parse().ok().filter(|to| *to < Shards::MAX)?;
        let is_sound = are_digits(number) && are_digits(token);
        is_sound.then(|| Self { number: number.to_owned(), to, token: token.to_owned() })
    }
}

fn is_polled(told: &Told) -> bool {
    told.unpolled.is_some_and(|time| time < POLLED_WITHIN)
}

impl Queue {
    /// Spreads the queue over this many shards (1 to 64). It can be broken off and begun again at any time.
    ///
    /// ```no_run
    /// # async fn example(queue: overdue::queue::Queue) -> overdue::Result<()> {
    /// let done = queue.reshard(4, |_| {}).await?;
    /// println!("{} shards, {} ids moved", done.shards.all(), done.moved);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If Redis refuses, nobody polls the new shards, or another `reshard` takes over. If the queue has orders: all that
    /// happens to them is in one place. What was moved until then stays moved.
    pub async fn reshard(&self, homes: u16, mut note: impl FnMut(Resharding)) -> Result<Resharded> {
        if !(1..=Shards::MAX).contains(&homes) {
            return Err(
                Invalid::new("number of shards", homes, format!("is not 1 to {}", Shards::MAX)).into()
            );
        }
        if homes > 1 && self.has_orders().await? {
            let why = "has orders, which cannot be spread: their events are one stream";
            return Err(Invalid::new("queue", self.name(), why).into());
        }
        let before = self.ask_shards().await?;
        let (mut shards, mut moved) = (before, 0);
        // One that a failover has taken back to the epoch of another one, or that the first shard has forgotten.
        shards.epoch = shards.epoch.max(self.highest_epoch().await?);
        loop {
            let all = self.in_use(shards.all.max(homes)).await?;
            shards = self.declare(shards.then(shards.homes, all, true)).await?;
            self.until_polled(shards, &mut note).await?;
            shards = self.declare(shards.then(homes, all, true)).await?;
            let stayed = self.take_home(shards, &mut moved, &mut note).await?;
            shards = self.declare(shards.then(homes, homes, false)).await?;
            for retired in homes..all {
                self.tell(retired, shards, None).await?;
            }
            // Who registers with plain commands may have written to a shard just before it was given up.
            if self.in_use(homes).await? == homes {
                return Ok(Resharded { before, shards, moved, stayed });
            }
        }
    }

    async fn highest_epoch(&self) -> Result<u64> {
        let asked = (1..Shards::MAX).map(|shard| self.tell(shard, Shards::ONE, None));
        let told = join_all(asked).await.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(told.into_iter().map(|told| told.shards.epoch).max().unwrap_or(0))
    }

    /// One more than the last shard that holds anything, and no fewer than so many.
    async fn in_use(&self, at_least: u16) -> Result<u16> {
        let asked = (at_least..Shards::MAX).map(|shard| async move {
            let holds = self.sibling(shard).holds_ids().await?;
            Ok::<_, Error>(if holds { shard + 1 } else { at_least })
        });
        let found = join_all(asked).await.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(found.into_iter().max().unwrap_or(at_least))
    }

    /// Takes home what is elsewhere, once; then waits until what has to go from shards that are given up is gone. Answers how
    /// many stay where they are, in shards that go on.
    async fn take_home(
        &self,
        shards: Shards,
        moved: &mut u64,
        note: &mut impl FnMut(Resharding),
    ) -> Result<u64> {
        // Where nobody is going to fire them, there is no use in waiting for those that are due.
        let first = self.tell(0, shards, None).await?;
        let soon = if first.is_paused || !is_polled(&first) { None } else { Some(SOON) };
        let (mut stayed, mut pause) = (0, PAUSE);
        for shard in 0..shards.homes {
            let (gone, here) = self.sibling(shard).move_home(shards, shard, soon).await?;
            (*moved, stayed) = (*moved + gone, stayed + here);
            note(Resharding::Moving { moved: *moved, staying: stayed });
        }
        loop {
            let (mut staying, mut is_empty) = (0, true);
            for shard in shards.homes..shards.all {
                let (gone, here) = self.sibling(shard).move_home(shards, shard, soon).await?;
                (*moved, staying) = (*moved + gone, staying + here);
                is_empty &= !self.sibling(shard).holds_ids().await?;
                note(Resharding::Moving { moved: *moved, staying: stayed + staying });
            }
            if is_empty {
                return Ok(stayed);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    async fn has_orders(&self) -> Result<bool> {
        let mut command = redis::cmd("EXISTS");
        command.arg(&self.sibling(0).order_keys(std::iter::empty())[8..12]);
        Ok(!matches!(self.sibling(0).redis.run(&command).await?, Value::Int(0)))
    }

    /// Tells all shards, the first one first, and that they are paused as that is.
    pub(super) async fn declare(&self, shards: Shards) -> Result<Shards> {
        let mut first = self.tell(0, shards, None).await?;
        loop {
            for shard in 0..shards.all {
                let told = self.tell(shard, shards, (shard > 0).then_some(first.is_paused)).await?;
                self.group.learn(told.shards);
                if told.shards != shards {
                    return Err(changing());
                }
            }
            let was_paused = std::mem::replace(&mut first, self.tell(0, shards, None).await?).is_paused;
            // Who pauses or resumes looks at the shards once more afterwards, and so sees the ones that are new here.
            if was_paused == first.is_paused {
                return Ok(shards);
            }
        }
    }

    /// If the queue is polled at all, waits until all of it is.
    async fn until_polled(&self, shards: Shards, note: &mut impl FnMut(Resharding)) -> Result<()> {
        if !is_polled(&self.tell(0, shards, None).await?) {
            return Ok(());
        }
        let begun = std::time::Instant::now();
        for shard in 1..shards.all {
            while !is_polled(&self.tell(shard, shards, None).await?) {
                if begun.elapsed() > POLLED_AFTER {
                    let why =
                        "is not polled: is the queue that of all schedulers, and do all of them know shards?";
                    return Err(Invalid::new("shard", shard, why).into());
                }
                note(Resharding::Waiting { shard });
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    async fn holds_ids(&self) -> Result<bool> {
        let mut command = redis::cmd("EXISTS");
        command.arg(&SETS_OF_IDS.map(|set| &self.keys.common()[set])).arg(self.keys.moving());
        Ok(!matches!(self.redis.run(&command).await?, Value::Int(0)))
    }

    /// Takes home what is in this shard and has another home; answers how many went, and how many stay for now.
    async fn move_home(&self, shards: Shards, shard: u16, soon: Option<Duration>) -> Result<(u64, u64)> {
        self.bring_in(shard).await?;
        let (mut moved, mut staying) = (0, 0);
        for set in SETS_OF_IDS {
            let mut cursor = "0".to_owned();
            loop {
                let (next, ids) = self.walk(set, &cursor).await?;
                let mut by_home: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
                for id in ids {
                    let home = shards.home_of(&id);
                    if home != shard {
                        by_home.entry(home).or_default().push(id);
                    }
                }
                for (home, ids) in by_home {
                    let (gone, here) = self.send(shards, shard, home, &ids, soon).await?;
                    (moved, staying) = (moved + gone, staying + here);
                }
                cursor = next;
                if cursor == "0" {
                    break;
                }
            }
        }
        Ok((moved, staying))
    }

    /// A step over a sorted set: the next place, and the members.
    pub(super) async fn walk(&self, set: usize, cursor: &str) -> Result<(String, Vec<Vec<u8>>)> {
        let mut command = redis::cmd("ZSCAN");
        command.arg(&self.keys.common()[set]).arg(cursor).arg("COUNT").arg(MAX_IDS_PER_CALL);
        let answer = self.redis.run(&command).await;
        let value = self.or_wrong_type(answer, self.keys.typed(None)).await?;
        let (next, members): (String, Vec<Vec<u8>>) = redis::from_redis_value(value)
            .map_err(|_| Error::Reply { script: "ZSCAN", detail: "no cursor with members".to_owned() })?;
        Ok((next, members.into_iter().step_by(2).collect()))
    }

    async fn send(
        &self,
        shards: Shards,
        shard: u16,
        home: u16,
        ids: &[Vec<u8>],
        soon: Option<Duration>,
    ) -> Result<(u64, u64)> {
        let (mut moved, mut staying, mut rest) = (0, 0, ids);
        let soon_ms = soon.map_or(i64::MIN / 2, |soon| soon.as_millis() as i64);
        while !rest.is_empty() {
            let step = &rest[..rest.len().min(MAX_IDS_PER_CALL)];
            let call = self.on_moving(&scripts::DEPART).arg(self.now_argument()).arg(shards.written());
            let call = call.arg(home).arg(soon_ms).args(step.iter().map(Vec::as_slice));
            let answer = self.call(call).await;
            if is_of_other_shards(&answer) {
                return Err(changing());
            }
            let mut reply = Reply::new("depart", answer?)?;
            let (left, looked_at, here) = (reply.int()?, reply.count()? as usize, reply.count()?);
            staying += here;
            if left != 0 {
                moved += left.max(0) as u64;
                self.bring_in(shard).await?;
            }
            rest = &rest[looked_at.min(step.len())..];
        }
        Ok((moved, staying))
    }

    /// Brings in what left this shard, whoever sent it: it arrives once.
    pub(crate) async fn bring_in(&self, shard: u16) -> Result<()> {
        let from = self.sibling(shard);
        let mut command = redis::cmd("HGETALL");
        command.arg(from.keys.moving());
        let mut moving = Reply::new("HGETALL", from.redis.run(&command).await?)?;
        let (mut batch, mut entries) = (None, Vec::new());
        while moving.len() > 0 {
            let (field, value) = (moving.string()?, moving.string()?);
            if field == b"\0batch" {
                batch = Some(value);
            } else {
                entries.extend([field, value]);
            }
        }
        if batch.is_none() && entries.is_empty() {
            return Ok(());
        }
        let batch = batch.as_deref().and_then(Batch::read).ok_or_else(|| Error::Reply {
            script: "depart",
            detail: format!("`{}` does not say where its ids go", from.keys.moving()),
        })?;
        let to = self.sibling(batch.to);
        let arrive = to.script(&scripts::ARRIVE).arg(shard).arg(&batch.number).arg(&batch.token);
        let arrive = arrive.args(entries.iter().map(Vec::as_slice));
        to.write(arrive).await?;
        let departed = from.on_moving(&scripts::DEPARTED).arg(&batch.number);
        from.call(departed).await.map(drop)
    }
}
