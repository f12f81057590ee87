//! Workers in this process that claim, take their time, and settle by the verbs themselves: what a real `serve`
//! does, with every lease and every verdict written down.

use std::{sync::Arc, time::Duration};

use overdue::{
    error::Result,
    queue::{Claim, Delivery, Lease, Queue, Rejected, Retried, Retry, Settled},
};
use rand::{RngExt as _, rngs::StdRng};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::history::{Event, History, Outcome, Verb, now_us};

/// How a worker behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// How many ids it claims at most.
    pub(crate) batch: usize,
    /// For how long.
    pub(crate) lease: Duration,
    /// How long it takes with a claim at most: longer than the lease, and what it settles may be stale.
    pub(crate) takes: Duration,
}

/// Works until it is told to stop.
pub(crate) async fn work(
    queue: Queue,
    history: Arc<History>,
    habits: Habits,
    mut dice: StdRng,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let claimed_us = now_us();
        let claim = queue.claim(habits.batch, habits.lease).await;
        let Some(claim) = claim.ok().filter(|claim| !claim.deliveries.is_empty()) else {
            sleep(Duration::from_millis(2)).await;
            continue;
        };
        note_claim(&history, claimed_us, &claim, habits.lease);
        for delivery in &claim.deliveries {
            let began_us = now_us();
            let done = dice.random_bool(0.8);
            let event = Event::Handled {
                id: delivery.id.to_string(),
                due_ms: delivery.due_at.as_ms(),
                token: Some(delivery.token),
                done,
            };
            history.add(began_us, event);
            sleep(dice.random_range(Duration::ZERO..habits.takes / claim.deliveries.len() as u32)).await;
            settle(&queue, &history, delivery, done, &mut dice).await;
        }
    }
}

fn note_claim(history: &History, began_us: i64, claim: &Claim, lease: Duration) {
    let lease_end_us = claim.now.as_ms() * 1000 + lease.as_micros() as i64;
    history.add_all(
        began_us,
        claim.deliveries.iter().map(|delivery| Event::Claimed {
            id: delivery.id.to_string(),
            due_ms: delivery.due_at.as_ms(),
            token: delivery.token,
            lease_end_us,
        }),
    );
}

/// Says how a delivery ended, and writes down whether that was accepted.
async fn settle(queue: &Queue, history: &History, delivery: &Delivery, done: bool, dice: &mut StdRng) {
    let lease = delivery.lease();
    let began_us = now_us();
    let verb = match (done, dice.random_range(0..3)) {
        (true, _) => Verb::Ack,
        (false, 0) => Verb::Retry,
        (false, 1) => Verb::Release,
        (false, _) => Verb::Bury,
    };
    let (accepted, outcome) = match verb {
        Verb::Ack => verdict(&queue.ack(&[lease]).await),
        Verb::Release => verdict(&queue.release(&[lease]).await),
        Verb::Bury => verdict(&queue.bury(&[rejected(&lease)]).await),
        Verb::Retry => {
            let retry = Retry { lease, delay: Duration::from_millis(3), error: "it failed".to_owned() };
            let answer = queue.retry(&[retry], 1000).await;
            let accepted = answer.as_ref().is_ok_and(|answers| !matches!(answers[0], Retried::Stale));
            (accepted, Outcome::of(&answer))
        }
    };
    let event = Event::Settled {
        id: delivery.id.to_string(),
        due_ms: delivery.due_at.as_ms(),
        token: delivery.token,
        verb,
        accepted,
        outcome,
    };
    history.add(began_us, event);
}

fn verdict(answer: &Result<Vec<Settled>>) -> (bool, Outcome) {
    (answer.as_ref().is_ok_and(|answers| answers[0] == Settled::Done), Outcome::of(answer))
}

fn rejected(lease: &Lease) -> Rejected {
    let id = lease.id.as_str().as_bytes().to_vec();
    Rejected { id, token: lease.token, reason: "rejected", error: "the worker said so".to_owned() }
}
