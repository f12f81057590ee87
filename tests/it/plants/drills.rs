//! What the state machine by its nature cannot see: it plays in virtual time, on a Redis that has memory, and no script of
//! its ever dies. Each drill passes with the scripts as they are.

use std::time::Duration;

use overdue::{
    error::Result,
    queue::{ClaimOptions, Due, Expected, Lease, Mode, Queue, Registration, Scheduled, Sink, SinkKind},
    redis::Redis,
};
use proptest::{
    prelude::*,
    test_runner::{TestCaseError, TestCaseResult},
};

use super::moving::{seek, spread};
use crate::{
    model::{Entry, Snapshot, Stage},
    support::{LEASE, LEASE_MS, Rig, T0, due, id, ids, leases, many, registration, rejected, retry_of},
};

/// Time is that of the server, between what it says before and after.
pub(super) async fn clock(stage: &Stage) -> TestCaseResult {
    let rig = stage.rig().await;
    let time = async || rig.redis().time().await.map_err(refused);
    let hour = Duration::from_secs(3600);
    let registrations = [Registration { id: id("a"), due: Due::In(hour), payload: None }];
    let before = time().await?;
    let registered =
        rig.schedule(&registrations, Mode::Replace, Expected::Anything).await.map_err(refused)?;
    let claim = rig.claim(1, LEASE).await.map_err(refused)?;
    let after = time().await?;
    prop_assert!(
        before <= claim.now && claim.now <= after,
        "P2: {:?} is not the time of the server",
        claim.now
    );
    let Scheduled::Created { due_at } = registered[0] else {
        return Err(TestCaseError::fail(format!("{registered:?}")));
    };
    let (earliest, latest) = (before.as_ms() + 3_600_000, after.as_ms() + 3_600_000);
    prop_assert!((earliest..=latest).contains(&due_at.as_ms()), "P2: {due_at:?} is not in an hour");
    Ok(())
}

/// A Redis that is full refuses new deadlines, and none of the verbs that end the old ones.
pub(super) async fn full(stage: &Stage) -> TestCaseResult {
    let rig = stage.rig().await;
    rig.put_many(6).await;
    rig.zadd("seconds", 1_767_225_600).await;
    rig.admin(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let ended = end_all(&rig).await;
    rig.admin(&["CONFIG", "SET", "maxmemory", "0"]).await;
    ended.map_err(refused)
}

async fn end_all(rig: &Rig) -> Result<()> {
    let queue = rig.when(T0);
    let held = leases(&queue.claim(5, LEASE).await?);
    queue.extend(&[held[0].token], LEASE).await?;
    queue.ack(&held[..1]).await?;
    queue.retry(&[retry_of(&held[1], 0)], 9).await?;
    queue.release(&held[2..3]).await?;
    queue.bury(&[rejected(&held[3])]).await?;
    queue.reject().await?;
    queue.cancel(std::slice::from_ref(&held[4].id)).await?;
    queue.fire(Sink { kind: SinkKind::Stream, max_len: None }, 1, None).await?;
    queue.retry_dead(&[held[3].id.clone()]).await?;
    queue.delete_dead(&[id("seconds")]).await.map(drop)
}

/// Ten ids a second are never more than that, but for the burst of one with which it begins.
pub(super) async fn rate(stage: &Stage) -> TestCaseResult {
    let rig = stage.rig().await;
    rig.put_many(40).await;
    let mut taken = 0;
    for ms in (0..=1000).step_by(50) {
        let options = ClaimOptions { limit: 100, lease: LEASE, rate_limit: Some(10), max_crashes: None };
        taken += rig.when(T0 + ms).claim_with(options).await.map_err(refused)?.deliveries.len();
    }
    prop_assert!((10..=11).contains(&taken), "{taken} ids in a second, not ten");
    Ok(())
}

/// What moves ids, in each state that they may be in before.
#[derive(Debug, Clone, Copy)]
enum Move {
    Claim,
    ClaimLost,
    ClaimCrashed,
    Fire(SinkKind),
    FireLost,
    Retry,
    LastRetry,
    Release,
    Bury,
    Reject,
    RetryDead,
    Replace,
    Reschedule,
    Reshard,
}

const MOVES: [Move; 15] = [
    Move::Claim,
    Move::ClaimLost,
    Move::ClaimCrashed,
    Move::Fire(SinkKind::Stream),
    Move::Fire(SinkKind::List),
    Move::FireLost,
    Move::Retry,
    Move::LastRetry,
    Move::Release,
    Move::Bury,
    Move::Reject,
    Move::RetryDead,
    Move::Replace,
    Move::Reschedule,
    Move::Reshard,
];
/// When all leases of a drill have run out.
const LATER: i64 = T0 + 4 * LEASE_MS;
const PAIR: [&str; 2] = ["a", "b"];
const PAYLOAD: &str = "it matters";

/// A script that dies between any two of its writes loses nothing: destinations are written before sources go. `dying`
/// has scripts that can die; those of the stage are sound.
pub(super) async fn deaths(stage: &Stage, dying: &Redis) -> TestCaseResult {
    for verb in MOVES {
        for writes in 0.. {
            let rig = stage.rig().await;
            let held = verb.prepare(&rig).await.map_err(refused)?;
            rig.admin(&["SET", "writes_left", &writes.to_string()]).await;
            let queue = Queue::new(dying.clone(), "overdue", rig.name().clone());
            let died = verb.perform(&queue, &held).await.err();
            rig.admin(&["DEL", "writes_left"]).await;
            if let Some(death) = &died {
                prop_assert!(death.to_string().contains("it dies here"), "{:?}: {}", verb, death);
            }
            verb.nothing_is_lost(&rig).await.map_err(|why| {
                TestCaseError::fail(format!("P1: {verb:?} died after {writes} writes: {why}"))
            })?;
            if died.is_none() {
                prop_assert!(writes > 0, "{:?} never died: the drill shows nothing", verb);
                break;
            }
        }
    }
    Ok(())
}

impl Move {
    async fn prepare(self, rig: &Rig) -> Result<Vec<Lease>> {
        if let Self::Reject = self {
            for name in PAIR {
                rig.hset(name, PAYLOAD).await;
                rig.zadd(name, 1_767_225_600).await;
            }
            return Ok(Vec::new());
        }
        let pair = PAIR.map(|name| registration(name, T0, PAYLOAD));
        rig.when(T0).schedule(&pair, Mode::Replace, Expected::Anything).await?;
        if let Self::Claim | Self::Fire(_) | Self::Replace | Self::Reschedule | Self::Reshard = self {
            return Ok(Vec::new());
        }
        let mut held = leases(&rig.claim_at(T0, 10).await);
        if let Self::ClaimCrashed = self {
            held = leases(&rig.claim_at(T0 + LEASE_MS, 10).await);
            for lease in &held {
                rig.begin(lease).await?;
            }
        }
        if let Self::RetryDead = self {
            let rejected: Vec<_> = held.iter().map(rejected).collect();
            rig.when(T0).bury(&rejected).await?;
        }
        Ok(held)
    }

    async fn perform(self, queue: &Queue, held: &[Lease]) -> Result<()> {
        let (queue, later) = (queue.at(at(T0)), queue.at(at(T0 + 2 * LEASE_MS)));
        let retries: Vec<_> = held.iter().map(|lease| retry_of(lease, 1)).collect();
        let stream = Sink { kind: SinkKind::Stream, max_len: None };
        match self {
            Self::Claim => queue.claim(10, LEASE).await.map(drop),
            Self::ClaimLost => later.claim(10, LEASE).await.map(drop),
            Self::ClaimCrashed => {
                let options =
                    ClaimOptions { limit: 10, lease: LEASE, rate_limit: None, max_crashes: Some(1) };
                later.claim_with(options).await.map(drop)
            }
            Self::Fire(kind) => queue.fire(Sink { kind, max_len: None }, 10, None).await.map(drop),
            Self::FireLost => later.fire(stream, 10, None).await.map(drop),
            Self::Retry => queue.retry(&retries, 9).await.map(drop),
            Self::LastRetry => queue.retry(&retries, 1).await.map(drop),
            Self::Release => queue.release(held).await.map(drop),
            Self::Bury => queue.bury(&held.iter().map(rejected).collect::<Vec<_>>()).await.map(drop),
            Self::Reject => queue.reject().await.map(drop),
            Self::RetryDead => queue.retry_dead(&ids(&PAIR)).await.map(drop),
            Self::Replace => {
                let pair = PAIR.map(|name| registration(name, T0 + 1, PAYLOAD));
                queue.schedule(&pair, Mode::Replace, Expected::Anything).await.map(drop)
            }
            Self::Reschedule => queue.reschedule(&id("a"), due(T0 + 1), Expected::Anything).await.map(drop),
            Self::Reshard => spread(&queue).await,
        }
    }

    /// A scheduler that is alive delivers both, each at least once with its payload; what is dead it is told to retry.
    async fn nothing_is_lost(self, rig: &Rig) -> TestCaseResult {
        let kind = if let Self::Fire(SinkKind::List) = self { SinkKind::List } else { SinkKind::Stream };
        let fired = Snapshot::take(rig, kind).await?.stored.fired;
        let whole = |entry: &Entry| entry.payload.as_ref().is_some_and(|payload| payload == PAYLOAD);
        let mut delivered: Vec<String> =
            fired.iter().filter(|entry| whole(entry)).map(|entry| entry.id.clone()).collect();
        if let Self::Reshard = self {
            seek(rig, &PAIR).await?;
        }
        for round in 0..4 {
            let queue = rig.when(LATER + round * LEASE_MS);
            queue.reject().await.map_err(refused)?;
            queue.retry_dead(&ids(&PAIR)).await.map_err(refused)?;
            let claim = queue.claim(10, LEASE).await.map_err(refused)?;
            let whole = claim.deliveries.iter().filter(|delivery| delivery.payload.is_some());
            delivered.extend(whole.map(|delivery| delivery.id.to_string()));
            queue.ack(&leases(&claim)).await.map_err(refused)?;
        }
        for name in PAIR {
            prop_assert!(delivered.iter().any(|id| id == name), "{} is not delivered with its payload", name);
        }
        Ok(())
    }
}

impl Rig {
    async fn put_many(&self, count: usize) {
        self.when(T0).schedule(&many(count), Mode::Replace, Expected::Anything).await.expect("scheduled");
    }
}

pub(super) fn at(now_ms: i64) -> overdue::ServerTime {
    overdue::ServerTime::from_ms(now_ms)
}

pub(super) fn refused(cause: overdue::error::Error) -> TestCaseError {
    TestCaseError::fail(format!("refused: {cause}"))
}
