//! Where the verbs of producers go. First all shards but the home of an id are asked whether they have it, then the home is
//! where the verb runs: ids move only towards their home, so an id that is found in neither place is in none, as long as the
//! shards have stayed the same meanwhile. All who register say by which shards they go, and a script that goes by others
//! refuses, so two of them that overlap with a change still see each other.

use std::{collections::BTreeMap, future::Future, time::Duration};

use futures_util::future::join_all;

use super::{Shards, is_of_other_shards};
use crate::{
    error::{Error, Result, Trouble, TroubleKind},
    queue::{MAX_IDS_PER_CALL, Queue, reply::Reply, scripts},
    types::Id,
};

/// How often a verb is tried while the shards change, or ids move from one to another.
const TRIES: u32 = 8;
/// How long to wait before the third try; doubled for each one after it, so 630 ms in all.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Some of the ids of a call, and the shard that has them or is to get them.
pub(in crate::queue) struct Part {
    pub(in crate::queue) shard: Queue,
    /// What `schedule` says behind its mode, so that nothing is registered in two shards.
    pub(in crate::queue) fence: String,
    positions: Vec<usize>,
}

impl Part {
    /// Those of the items that it is about.
    pub(in crate::queue) fn of<'a, T>(&self, items: &'a [T]) -> Vec<&'a T> {
        self.positions.iter().map(|position| &items[*position]).collect()
    }
}

/// Where a verb runs for ids that are elsewhere than at home.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) enum Reach {
    /// In the first shard that has it.
    One,
    /// In all that have it, and at home: somebody may have written one id into two shards.
    All,
}

/// What came of one try.
struct Tried<T> {
    /// Position, answer, and where it was seen elsewhere than at home just before: nowhere if it was on its way home.
    answers: Vec<(usize, T, Option<Vec<u16>>)>,
    of_other_shards: bool,
}

impl Queue {
    /// Runs a verb for each id where it is, at home if it is nowhere, and answers in order. `is_absent` is true of the
    /// answer of a shard that has not got the id.
    pub(in crate::queue) async fn routed<T, F>(
        &self,
        ids: &[&Id],
        reach: Reach,
        is_absent: impl Fn(&T) -> bool,
        verb: impl Fn(Part) -> F,
    ) -> Result<Vec<T>>
    where
        F: Future<Output = Result<Vec<T>>>,
    {
        if self.is_shard {
            let positions = (0..ids.len()).collect();
            return verb(Part { shard: self.clone(), fence: String::new(), positions }).await;
        }
        let mut answers: Vec<Option<T>> = ids.iter().map(|_| None).collect();
        let mut seen_before = BTreeMap::new();
        for tries in 0..TRIES {
            let open: Vec<usize> = (0..ids.len()).filter(|position| answers[*position].is_none()).collect();
            if open.is_empty() {
                break;
            }
            if tries > 1 {
                tokio::time::sleep(FIRST_PAUSE * (1 << (tries - 2))).await;
            }
            let shards = self.shards();
            let tried = self.try_verb(shards, ids, &open, reach, &is_absent, &verb).await?;
            let (absent, settled) =
                tried.answers.into_iter().partition::<Vec<_>, _>(|(_, answer, _)| is_absent(answer));
            settled.into_iter().for_each(|(position, answer, _)| answers[position] = Some(answer));
            if tried.of_other_shards {
                self.agree_on_shards().await?;
            }
            // Nowhere, if the shards are what they were. Whoever was seen elsewhere may have moved since, and is sought anew; if
            // that finds it in the same place, the answer is about what it is there, not about where.
            if !absent.is_empty() && self.ask_shards().await? == shards {
                for (position, answer, seen) in absent {
                    if seen.is_none() || seen_before.get(&position) == Some(&seen) {
                        answers[position] = Some(answer);
                    } else {
                        seen_before.insert(position, seen);
                    }
                }
            }
        }
        answers.into_iter().collect::<Option<_>>().ok_or_else(changing)
    }

    async fn try_verb<T, F>(
        &self,
        shards: Shards,
        ids: &[&Id],
        open: &[usize],
        reach: Reach,
        is_absent: &impl Fn(&T) -> bool,
        verb: &impl Fn(Part) -> F,
    ) -> Result<Tried<T>>
    where
        F: Future<Output = Result<Vec<T>>>,
    {
        let mut tried = Tried { answers: Vec::with_capacity(open.len()), of_other_shards: false };
        let elsewhere = match self.elsewhere(shards, ids, open).await {
            refused if is_of_other_shards(&refused) => return Ok(Tried { of_other_shards: true, ..tried }),
            found => found?,
        };
        let mut parts = BTreeMap::new();
        let mut at_home: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for position in open {
            let found = elsewhere.get(position).map_or(&[][..], Vec::as_slice);
            let take = if reach == Reach::All { found.len() } else { found.len().min(1) };
            for shard in &found[..take] {
                parts.entry(*shard).or_insert_with(Vec::new).push(*position);
            }
            if found.is_empty() || reach == Reach::All {
                at_home
                    .entry(shards.home_of(ids[*position].as_str().as_bytes()))
                    .or_default()
                    .push(*position);
            }
        }
        // Home comes last: an id that leaves the other place meanwhile goes there.
        for (parts, mark) in [(parts, "@!"), (at_home, "@")] {
            let runs = parts.into_iter().map(|(shard, positions)| {
                let fence = format!("{mark}{}", shards.written());
                let part = Part { shard: self.sibling(shard), fence, positions: positions.clone() };
                let run = verb(part);
                async move { (positions, run.await) }
            });
            for (positions, answer) in join_all(runs).await {
                if is_of_other_shards(&answer) {
                    tried.of_other_shards = true;
                    continue;
                }
                let seen = |position| elsewhere.get(&position).cloned();
                let answered = positions.into_iter().zip(answer?);
                tried.answers.extend(answered.map(|(position, answer)| (position, answer, seen(position))));
            }
        }
        if reach == Reach::All && !elsewhere.is_empty() {
            // Of several answers the first one that found something; the sort is stable.
            tried.answers.sort_by_key(|(position, answer, _)| (*position, is_absent(answer)));
            tried.answers.dedup_by_key(|(position, ..)| *position);
        }
        Ok(tried)
    }

    /// Which of the ids are in other shards than their home, and in which. What was on its way has arrived then, and is in none.
    async fn elsewhere(
        &self,
        shards: Shards,
        ids: &[&Id],
        open: &[usize],
    ) -> Result<BTreeMap<usize, Vec<u16>>> {
        let mut found: BTreeMap<usize, Vec<u16>> = BTreeMap::new();
        if shards.all == 1 {
            return Ok(found);
        }
        let asked = (0..shards.all).map(|shard| {
            let is_foreign =
                move |position: &usize| shards.home_of(ids[*position].as_str().as_bytes()) != shard;
            let foreign: Vec<usize> = open.iter().copied().filter(is_foreign).collect();
            async move {
                let queue = self.sibling(shard);
                Ok::<_, Error>((shard, queue.find(shards, ids, &foreign).await?))
            }
        });
        for answer in join_all(asked).await {
            let (shard, places) = answer?;
            if places.iter().any(|(_, is_moving)| *is_moving) {
                self.bring_in(shard).await?;
            }
            for (position, is_moving) in places {
                let shards = found.entry(position).or_default();
                if !is_moving {
                    shards.push(shard);
                }
            }
        }
        Ok(found)
    }

    /// Which of these this shard has: positions, and whether it is on its way to another shard.
    pub(super) async fn find(
        &self,
        shards: Shards,
        ids: &[&Id],
        positions: &[usize],
    ) -> Result<Vec<(usize, bool)>> {
        let mut found = Vec::new();
        for step in positions.chunks(MAX_IDS_PER_CALL) {
            let call = self.on_moving(&scripts::FIND).arg(shards.written());
            let call = call.args(step.iter().map(|position| ids[*position].as_str()));
            let mut reply = Reply::new("find", self.call(call).await?)?;
            while reply.len() > 0 {
                let (index, what) = (reply.count()? as usize, reply.int()?);
                let detail = "a position that was not asked for".to_owned();
                let position = *step.get(index).ok_or(Error::Reply { script: "find", detail })?;
                found.push((position, what == 2));
            }
        }
        Ok(found)
    }
}

pub(super) fn changing() -> Error {
    Trouble { kind: TroubleKind::OtherShards, detail: String::new() }.into()
}
