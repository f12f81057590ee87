//! Work for those who claim from a queue as a whole, as workers do over HTTP. The scheduler works shard by shard.

use std::{collections::BTreeMap, future::Future, time::Duration};

use futures_util::future::join_all;

use crate::{
    error::Result,
    queue::{Claim, ClaimOptions, Lease, Queue, Rejected, Retried, Retry, Settled},
    types::Token,
};

impl Queue {
    /// As [`Queue::claim`], with all that a claim can go by. Of several shards each is asked in turn until one has
    /// something.
    ///
    /// # Errors
    /// If Redis refuses. Nothing was claimed then.
    pub async fn claim_with(&self, options: ClaimOptions) -> Result<Claim> {
        let all = usize::from(self.shards().all());
        if self.is_shard || all == 1 {
            return self.claim_here(options).await;
        }
        // Each shard has a share of the rate.
        let rate_limit = options.rate_limit.map(|rate| (rate / all as u32).max(1));
        let options = ClaimOptions { rate_limit, ..options };
        let first = self.group.turn();
        // Each shard has the clock of its own node.
        let (mut soonest, mut impossible, mut more): (Option<Duration>, _, _) = (None, 0, false);
        for turn in first.. {
            let shard = self.sibling((turn % all) as u16);
            let claim = shard.claim_here(options).await?;
            soonest = soonest.into_iter().chain(claim.next.map(|next| claim.now.until(next))).min();
            impossible += claim.impossible;
            more |= claim.more;
            let is_last = turn + 1 - first == all;
            if claim.token.is_some() || is_last {
                let next = soonest.and_then(|time| claim.now.then(time));
                return Ok(Claim { next, impossible, more: more || !is_last, ..claim });
            }
        }
        unreachable!("the last shard answers")
    }

    /// Says that a delivery of an id is about to run that lost one before (`attempt` is more than `failures` + 1).
    /// If its lease runs out now, that counts as a kill.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn begin(&self, lease: &Lease) -> Result<Settled> {
        if self.is_shard {
            return self.begin_here(lease).await;
        }
        let began = self.by_holder(
            std::slice::from_ref(lease),
            |lease| lease.id.as_str().as_bytes(),
            |settled| *settled == Settled::Stale,
            |shard, leases| async move { Ok(vec![shard.begin_here(&leases[0]).await?]) },
        );
        Ok(began.await?[0])
    }

    /// Says that deliveries are done; answers for each in order.
    ///
    /// # Errors
    /// If Redis refuses. Saying it again is safe: what was done answers stale.
    pub async fn ack(&self, leases: &[Lease]) -> Result<Vec<Settled>> {
        if self.is_shard {
            return self.ack_here(leases).await;
        }
        self.settled(leases, |shard, leases| async move { shard.ack_here(&leases).await }).await
    }

    /// Gives deliveries back that were not started: due at once, nothing counted against them.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn release(&self, leases: &[Lease]) -> Result<Vec<Settled>> {
        if self.is_shard {
            return self.release_here(leases).await;
        }
        self.settled(leases, |shard, leases| async move { shard.release_here(&leases).await }).await
    }

    /// As [`Queue::extend`], if the ids are still held. A lease belongs to a whole claim, so this extends
    /// it for the other ids of the claim too.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn extend_ids(&self, leases: &[Lease], lease: Duration) -> Result<Vec<Settled>> {
        if self.is_shard {
            return self.extend_ids_here(leases, lease).await;
        }
        self.settled(leases, |shard, leases| async move { shard.extend_ids_here(&leases, lease).await }).await
    }

    /// Says that attempts failed: each id is tried again after its delay, or is dead once `max_attempts`
    /// of its attempts failed. Answers for each in order.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn retry(&self, retries: &[Retry], max_attempts: u32) -> Result<Vec<Retried>> {
        if self.is_shard {
            return self.retry_here(retries, max_attempts).await;
        }
        self.by_holder(
            retries,
            |retry| retry.lease.id.as_str().as_bytes(),
            |retried| *retried == Retried::Stale,
            |shard, retries| async move { shard.retry_here(&retries, max_attempts).await },
        )
        .await
    }

    /// Sets deliveries aside in the dead set; answers for each in order.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn bury(&self, rejected: &[Rejected]) -> Result<Vec<Settled>> {
        if self.is_shard {
            return self.bury_here(rejected).await;
        }
        self.by_holder(
            rejected,
            |rejected| rejected.id.as_slice(),
            |settled| *settled == Settled::Stale,
            |shard, rejected| async move { shard.bury_here(&rejected).await },
        )
        .await
    }

    /// Extends whole claims to end after the time `lease`; answers for each in order.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn extend(&self, tokens: &[Token], lease: Duration) -> Result<Vec<Settled>> {
        if self.is_shard {
            return self.extend_here(tokens, lease).await;
        }
        let is_stale = |settled: &Settled| *settled == Settled::Stale;
        let extend = |shard: Self, tokens: Vec<Token>| async move { shard.extend_here(&tokens, lease).await };
        self.by_holder(tokens, |_| b"", is_stale, extend).await
    }

    async fn settled<F>(&self, leases: &[Lease], verb: impl Fn(Self, Vec<Lease>) -> F) -> Result<Vec<Settled>>
    where
        F: Future<Output = Result<Vec<Settled>>>,
    {
        let is_stale = |settled: &Settled| *settled == Settled::Stale;
        self.by_holder(leases, |lease| lease.id.as_str().as_bytes(), is_stale, verb).await
    }

    /// Runs a verb for leases in the shard that is the home of each, and for those that are stale there in the others. Where
    /// that leaves some, more shards may be there than are known: whoever has just started knows of one.
    async fn by_holder<T: Clone, A, F>(
        &self,
        items: &[T],
        id: impl Fn(&T) -> &[u8],
        is_stale: impl Fn(&A) -> bool,
        verb: impl Fn(Self, Vec<T>) -> F,
    ) -> Result<Vec<A>>
    where
        F: Future<Output = Result<Vec<A>>>,
    {
        let mut answers: Vec<Option<A>> = items.iter().map(|_| None).collect();
        loop {
            let shards = self.shards();
            for step in 0..shards.all() {
                let mut parts: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
                for (position, answer) in answers.iter().enumerate() {
                    if answer.as_ref().is_none_or(&is_stale) {
                        let shard = (shards.home_of(id(&items[position])) + step) % shards.all();
                        parts.entry(shard).or_default().push(position);
                    }
                }
                let runs = parts.iter().map(|(shard, positions)| {
                    let part = positions.iter().map(|position| items[*position].clone()).collect();
                    verb(self.sibling(*shard), part)
                });
                for (positions, part) in parts.values().zip(join_all(runs).await) {
                    positions
                        .iter()
                        .zip(part?)
                        .for_each(|(position, answer)| answers[*position] = Some(answer));
                }
            }
            let some_are_stale = answers.iter().flatten().any(&is_stale);
            if !some_are_stale || self.ask_shards().await? == shards {
                return Ok(answers.into_iter().flatten().collect());
            }
        }
    }
}
