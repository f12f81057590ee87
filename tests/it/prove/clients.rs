//! Clients that register and cancel while faults strike.

use std::{sync::Arc, time::Duration};

use overdue::{
    DueAt, Id, Payload,
    queue::{Cancelled, Due, Expected, Mode, Queue, Registration},
};
use rand::{RngExt as _, rngs::StdRng};
use tokio::time::sleep;

use super::history::{Event, History, Outcome, now_us};

/// An id that begins so has itself as its payload: whoever is handed another one, or none, can tell.
pub(crate) const WITH_PAYLOAD: &str = "p:";
/// How many a client registers at once.
const BULK: usize = 50;

/// What clients do: register `ids` ids evenly over `over`, due up to `over` later, and cancel some of them.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) ids: usize,
    pub(crate) over: Duration,
    /// The share that is cancelled, at some moment between its registration and just after its deadline.
    pub(crate) cancelled: f64,
}

impl Workload {
    /// Does it, through this handle.
    pub(crate) async fn run(&self, queue: &Queue, history: &Arc<History>, dice: &mut StdRng) {
        let mut cancels: Vec<(i64, Id)> = Vec::new();
        let (begun_us, over_us) = (now_us(), self.over.as_micros() as i64);
        for first in (0..self.ids).step_by(BULK) {
            let due_from_us = begun_us + over_us * first as i64 / self.ids as i64;
            sleep_until(due_from_us).await;
            let bulk: Vec<(Id, i64)> = (first..self.ids.min(first + BULK))
                .map(|n| {
                    let due_ms = (due_from_us + dice.random_range(0..over_us)) / 1000;
                    (format!("{WITH_PAYLOAD}order-{n}").parse().expect("an id"), due_ms)
                })
                .collect();
            register(queue, history, &bulk).await;
            for (id, due_ms) in bulk {
                if dice.random_bool(self.cancelled) {
                    cancels.push((dice.random_range(now_us()..=(due_ms * 1000 + 20_000).max(now_us())), id));
                }
            }
            cancels = cancel_those_whose_time_has_come(queue, history, cancels).await;
        }
        while !cancels.is_empty() {
            sleep(Duration::from_millis(2)).await;
            cancels = cancel_those_whose_time_has_come(queue, history, cancels).await;
        }
    }
}

/// So many ids, due at random over the next `over`.
pub(crate) fn spread(prefix: &str, ids: usize, over: Duration, dice: &mut StdRng) -> Vec<(Id, i64)> {
    let from_us = now_us();
    let due_ms = |dice: &mut StdRng| (from_us + dice.random_range(0..over.as_micros() as i64)) / 1000;
    (0..ids).map(|n| (format!("{prefix}{n}").parse().expect("an id"), due_ms(dice))).collect()
}

/// Registers, and writes down what came of it.
pub(crate) async fn register(queue: &Queue, history: &History, bulk: &[(Id, i64)]) -> Outcome {
    let registrations: Vec<Registration> = bulk
        .iter()
        .map(|(id, due_ms)| {
            let due = Due::At(DueAt::from_ms(*due_ms).expect("a deadline"));
            let payload =
                id.as_str().starts_with(WITH_PAYLOAD).then(|| Payload::new(id.as_str()).expect("text"));
            Registration { id: id.clone(), due, payload }
        })
        .collect();
    let began_us = now_us();
    let outcome = Outcome::of(&queue.schedule(&registrations, Mode::Replace, Expected::Anything).await);
    let event = |(id, due_ms): &(Id, i64)| Event::Registered { id: id.to_string(), due_ms: *due_ms, outcome };
    history.add_all(began_us, bulk.iter().map(event));
    outcome
}

/// The id as a handler writes it down that was handed this payload: another one if that is not the id's own.
pub(crate) fn named_by(id: String, payload: Option<&str>) -> String {
    let own = id.starts_with(WITH_PAYLOAD).then_some(id.as_str());
    if payload == own { id } else { format!("{id} with the payload {payload:?}") }
}

/// Cancels, and writes down what came of it.
pub(crate) async fn cancel(queue: &Queue, history: &History, ids: &[Id]) {
    let began_us = now_us();
    let answer = queue.cancel(ids).await;
    let outcome = Outcome::of(&answer);
    let verdicts = answer.unwrap_or_default();
    history.add_all(
        began_us,
        ids.iter().enumerate().map(|(n, id)| {
            let verdict = verdicts.get(n);
            let in_flight = matches!(verdict, Some(Cancelled::InFlight { .. }));
            let removed = in_flight || matches!(verdict, Some(Cancelled::Cancelled { .. }));
            Event::Cancelled { id: id.to_string(), removed, in_flight, outcome }
        }),
    );
}

/// Cancels what is to be cancelled by now, and gives what is left.
async fn cancel_those_whose_time_has_come(
    queue: &Queue,
    history: &History,
    cancels: Vec<(i64, Id)>,
) -> Vec<(i64, Id)> {
    let now_us = now_us();
    let (now, later): (Vec<_>, Vec<_>) = cancels.into_iter().partition(|(at_us, _)| *at_us <= now_us);
    if !now.is_empty() {
        let ids: Vec<Id> = now.into_iter().map(|(_, id)| id).collect();
        cancel(queue, history, &ids).await;
    }
    later
}

/// Open loop: sleeps until this instant of the machine's clock, or not at all.
pub(crate) async fn sleep_until(at_us: i64) {
    sleep(Duration::from_micros(u64::try_from(at_us - now_us()).unwrap_or(0))).await;
}
