//! The real queue: makes a step through the verbs, and compares what came of it with the reference.

use std::{collections::BTreeSet, fmt::Debug, time::Duration};

use overdue::{
    DueAt, Payload,
    queue::{ClaimOptions, Delivery, Due, Expected, Lease, Queue, Registration, Sink, TraceParent},
    types::Token,
};
use proptest::{
    prelude::*,
    test_runner::{TestCaseError, TestCaseResult},
};

use super::{
    promises::{self, Step},
    reference::{Answer, Claimed, Fired, Handed, Reference, TRACE},
    stored::{Snapshot, Stored},
    transition::{Hold, Item, Name, Score, Transition, Wanted},
};
use crate::support::{Rig, at_ms, due, id, rejected, retry_of};

/// A queue of its own, and what Redis held after the last step.
pub(super) struct System {
    rig: Rig,
    stored: Stored,
    /// The ids that a foreign client took out, or wrote no more than a payload of.
    left: BTreeSet<String>,
}

impl System {
    pub(super) fn new(rig: Rig) -> Self {
        Self { rig, stored: Stored::default(), left: BTreeSet::new() }
    }

    /// Makes a step. The reference has made it before.
    pub(super) async fn step(&mut self, reference: &Reference, transition: &Transition) -> TestCaseResult {
        let answer = self.perform(reference, transition).await?;
        let Snapshot { stored, batches, with_ttl } = Snapshot::take(&self.rig, reference.sink).await?;
        prop_assert!(with_ttl.is_empty(), "P9: {with_ttl:?} have a TTL");
        let before = std::mem::replace(&mut self.stored, stored);
        promises::kept(&Step {
            reference,
            transition,
            answer: &answer,
            before: &before,
            after: &self.stored,
        })?;

        let (is, has_to_be) = (&self.stored, &reference.stored);
        same("the answer", &answer, &reference.answer)?;
        same("scheduled", &is.scheduled, &has_to_be.scheduled)?;
        same("payload", &is.payloads, &has_to_be.payloads)?;
        same("leased", &is.leased, &has_to_be.leased)?;
        same("leases", &is.ends, &has_to_be.ends)?;
        same("attempts", &is.records, &has_to_be.records)?;
        same("dead", &is.dead, &has_to_be.dead)?;
        same("fired", &is.fired, &has_to_be.fired)?;
        same("everything", is, has_to_be)?;
        prop_assert!(batches.iter().eq(is.ends.keys()), "batches {batches:?} for {:?}", is.ends);
        Ok(())
    }

    async fn perform(
        &mut self,
        reference: &Reference,
        transition: &Transition,
    ) -> Result<Answer, TestCaseError> {
        let queue = self.rig.when(reference.now);
        let done = match transition {
            Transition::Pass { .. } => Ok(Answer::Nothing),
            Transition::Zadd { .. } | Transition::Hset { .. } | Transition::Zrem { .. } => {
                return Ok(self.foreign(reference.now, transition).await);
            }
            Transition::Schedule { .. } | Transition::Reschedule { .. } | Transition::Cancel { .. } => {
                register(&queue, reference.now, transition).await
            }
            Transition::Claim { .. } | Transition::Fire { .. } => take(&queue, reference, transition).await,
            Transition::Reject => queue.reject().await.map(Answer::Moved),
            Transition::RetryDead { ids } => queue.retry_dead(&all(ids)).await.map(Answer::Settled),
            Transition::DeleteDead { ids } => queue.delete_dead(&all(ids)).await.map(Answer::Settled),
            Transition::TrimDead { retention_ms } => {
                queue.trim_dead(millis(*retention_ms)).await.map(Answer::Moved)
            }
            Transition::Pause { paused } => queue.pause(*paused).await.map(Answer::Changed),
            Transition::Count => queue.counts().await.map(Answer::Counted),
            settling => settle(&queue, reference, settling).await,
        };
        done.map_err(|cause| TestCaseError::fail(format!("refused: {cause}")))
    }

    /// As any Redis client does it.
    async fn foreign(&mut self, now: i64, transition: &Transition) -> Answer {
        match transition {
            Transition::Zadd { id, score } => {
                let score = match score {
                    Score::Infinite => "+inf".to_owned(),
                    Score::MinusInfinite => "-inf".to_owned(),
                    finite => finite.at(now).to_string(),
                };
                self.rig.zadd(*id, score).await;
                Answer::Nothing
            }
            Transition::Hset { id, payload } => {
                self.left.insert((*id).to_owned());
                self.rig.hset(*id, payload).await;
                Answer::Nothing
            }
            Transition::Zrem { id } => {
                self.left.insert((*id).to_owned());
                let removed: i64 = self.rig.on_key("ZREM", "scheduled", *id).await;
                Answer::Changed(removed == 1)
            }
            other => unreachable!("{other:?} is a verb"),
        }
    }

    /// Everything cancelled and deleted leaves nothing but `meta` behind, and what was fired. A ZREM knows of no payload
    /// and of no failed attempts: what it left, its caller has to remove.
    pub(super) async fn leaves_nothing(&self) -> TestCaseResult {
        for (part, ids) in [
            ("payload", self.stored.payloads.keys().collect::<Vec<_>>()),
            ("attempts", self.stored.records.keys().collect()),
        ] {
            for id in ids.into_iter().filter(|id| self.left.contains(*id)) {
                let _: i64 = self.rig.on_key("HDEL", part, id).await;
            }
        }
        let left = self.rig.keys().await;
        prop_assert!(left.iter().all(|part| part == "meta" || part == "fired"), "left behind: {left:?}");
        Ok(())
    }
}

fn same<T: PartialEq + Debug>(what: &str, is: &T, has_to_be: &T) -> TestCaseResult {
    prop_assert!(is == has_to_be, "{what} is {is:?} and has to be {has_to_be:?}");
    Ok(())
}

async fn register(queue: &Queue, now: i64, transition: &Transition) -> overdue::error::Result<Answer> {
    let expected = |wanted: &Wanted| match wanted {
        Wanted::Anything => Expected::Anything,
        Wanted::Absent => Expected::Absent,
        Wanted::DueIn(ms) => Expected::At(at_ms(now + ms)),
    };
    Ok(match transition {
        Transition::Schedule { mode, expected: wanted, items } => {
            let registration = |item: &Item| Registration {
                id: id(item.id),
                due: due(now + item.due_in),
                payload: item.payload.as_ref().and_then(|text| Payload::new(text).ok()),
            };
            let registrations: Vec<_> = items.iter().map(registration).collect();
            let trace = |item: &Item| item.traced.then(|| TraceParent::parse(TRACE)).flatten();
            let traces: Vec<_> = items.iter().map(trace).collect();
            let answers = queue.schedule_traced(&registrations, &traces, *mode, expected(wanted)).await?;
            Answer::Scheduled(answers)
        }
        Transition::Reschedule { id: name, due_in, expected: wanted } => {
            let due = Due::At(at_ms(now + due_in));
            Answer::Rescheduled(queue.reschedule(&id(name), due, expected(wanted)).await?)
        }
        Transition::Cancel { ids } => Answer::Cancelled(queue.cancel(&all(ids)).await?),
        other => unreachable!("{other:?} registers nothing"),
    })
}

async fn take(
    queue: &Queue,
    reference: &Reference,
    transition: &Transition,
) -> overdue::error::Result<Answer> {
    Ok(match transition {
        Transition::Claim { limit, lease_ms, max_crashes } => {
            let (limit, lease, max_crashes) = (*limit, millis(*lease_ms), *max_crashes);
            let claim =
                queue.claim_with(ClaimOptions { limit, lease, rate_limit: None, max_crashes }).await?;
            Answer::Claimed(Claimed {
                token: claim.token.map(Token::get),
                deliveries: claim.deliveries.iter().map(handed).collect(),
                next: claim.next,
                more: claim.more,
                impossible: claim.impossible,
            })
        }
        Transition::Fire { limit } => {
            let sink = Sink { kind: reference.sink, max_len: None };
            let fired = queue.fire(sink, *limit, None).await?;
            Answer::Fired(Fired {
                count: fired.count,
                earliest: fired.earliest,
                next: fired.next,
                more: fired.more,
                impossible: fired.impossible,
            })
        }
        other => unreachable!("{other:?} takes nothing"),
    })
}

async fn settle(
    queue: &Queue,
    reference: &Reference,
    transition: &Transition,
) -> overdue::error::Result<Answer> {
    let lease = |hold: &Hold| Lease { id: id(hold.id), token: Token::new(reference.token_of(*hold)) };
    let leases = |holds: &[Hold]| holds.iter().map(lease).collect::<Vec<_>>();
    Ok(match transition {
        Transition::Begin { hold } => Answer::Settled(vec![queue.begin(&lease(hold)).await?]),
        Transition::Ack { holds } => Answer::Settled(queue.ack(&leases(holds)).await?),
        Transition::AckClaim { hold } => {
            Answer::Moved(queue.ack_claims(&[lease(hold).token]).await?.into_iter().sum::<usize>() as u64)
        }
        Transition::Retry { holds, delay_ms, max_attempts } => {
            let retries: Vec<_> = holds.iter().map(|hold| retry_of(&lease(hold), *delay_ms as u64)).collect();
            Answer::Retried(queue.retry(&retries, *max_attempts).await?)
        }
        Transition::Release { holds } => Answer::Settled(queue.release(&leases(holds)).await?),
        Transition::Bury { holds } => {
            let rejected: Vec<_> = holds.iter().map(|hold| rejected(&lease(hold))).collect();
            Answer::Settled(queue.bury(&rejected).await?)
        }
        Transition::Extend { hold, lease_ms, whole_claim } => Answer::Settled(match whole_claim {
            true => queue.extend(&[lease(hold).token], millis(*lease_ms)).await?,
            false => queue.extend_ids(&[lease(hold)], millis(*lease_ms)).await?,
        }),
        other => unreachable!("{other:?} settles nothing"),
    })
}

fn handed(delivery: &Delivery) -> Handed {
    Handed {
        id: delivery.id.to_string(),
        due_at: DueAt::as_ms(delivery.due_at),
        attempt: delivery.attempt,
        failures: delivery.failures,
        kills: delivery.kills,
        token: delivery.token.get(),
        first_token: delivery.first_token.get(),
        payload: delivery.payload.as_ref().map(|payload| payload.as_str().to_owned()),
        trace: delivery.traceparent.as_ref().map(ToString::to_string),
    }
}

fn all(names: &[Name]) -> Vec<overdue::Id> {
    names.iter().map(|name| id(name)).collect()
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(ms as u64)
}
