//! Everybody at the same few ids: registering anew, moving, cancelling, claiming, and settling too late.

use std::{sync::Arc, time::Duration};

use overdue::{
    DueAt, Id,
    queue::{Due, Expected, Queue, Rescheduled},
};
use rand::{RngExt as _, rngs::StdRng};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    clients::{cancel, register},
    fleet::nothing_is_left,
    history::{Event, History, Outcome, now_us},
    run::{Run, Terms, scaled},
    workers::{Habits, work},
};
use crate::support::{PATIENT, RedisServer, Rig, id};

const IDS: usize = 100;
const CLIENTS: usize = 4;
const WORKERS: usize = 4;
/// Half of the claims are held longer than their lease.
const HABITS: Habits =
    Habits { batch: 10, lease: Duration::from_millis(40), takes: Duration::from_millis(80) };

/// No two deadlines of one id are the same, so that a handling belongs to one registration: each of the clients
/// has the milliseconds of its number.
fn due_ms(client: usize, dice: &mut StdRng) -> i64 {
    let ms = now_us() / 1000 + dice.random_range(-20..60);
    ms - ms.rem_euclid(CLIENTS as i64) + client as i64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancels_moves_and_claims_of_the_same_ids_agree() {
    let (mut run, rig) = (Run::begin("races on a hundred ids"), Rig::new().await);
    let stop = CancellationToken::new();
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let queue = another(&rig);
        workers.spawn(work(queue, Arc::clone(&run.history), HABITS, run.fork(), stop.clone()));
    }
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = Client {
            number,
            queue: another(&rig),
            history: Arc::clone(&run.history),
            dice: run.fork(),
            used: Default::default(),
        };
        clients.spawn(client.run(scaled(1500)));
    }
    clients.join_all().await;
    // What was buried is to be handled too.
    let all: Vec<Id> = (0..IDS).map(|n| id(&format!("order-{n}"))).collect();
    loop {
        nothing_is_left(&rig).await;
        if rig.counts().await.expect("Redis is well").dead == 0 {
            break;
        }
        rig.retry_dead(&all).await.expect("Redis is well");
    }
    stop.cancel();
    workers.join_all().await;
    let stale = refused(&run.history);
    run.measure("stale_refused", stale);
    assert!(stale > 0, "nobody was too late: the run shows nothing of it");
    run.finish(Terms::struck_by([""; 0]).any_duplicates());
}

/// A handle with a connection of its own.
fn another(rig: &Rig) -> Queue {
    let redis = overdue::redis::Redis::open(&RedisServer::shared().url(), PATIENT).expect("a valid url");
    Queue::new(redis, "overdue", rig.name().clone())
}

fn refused(history: &History) -> u64 {
    let stale = |event: &Event| matches!(event, Event::Settled { accepted: false, outcome: Outcome::Ok, .. });
    history.entries().iter().filter(|entry| stale(&entry.event)).count() as u64
}

struct Client {
    number: usize,
    queue: Queue,
    history: Arc<History>,
    dice: StdRng,
    /// Deadlines that were taken, with their ids: none is taken twice.
    used: std::collections::HashSet<(Id, i64)>,
}

impl Client {
    async fn run(mut self, steps: usize) {
        for _ in 0..steps {
            let id = id(&format!("order-{}", self.dice.random_range(0..IDS)));
            match self.dice.random_range(0..10) {
                0..=4 => {
                    let Some(due_ms) = self.fresh(&id) else { continue };
                    register(&self.queue, &self.history, &[(id, due_ms)]).await;
                }
                5..=6 => self.reschedule(id).await,
                _ => cancel(&self.queue, &self.history, &[id]).await,
            }
            sleep(self.dice.random_range(Duration::ZERO..Duration::from_millis(2))).await;
        }
    }

    fn fresh(&mut self, id: &Id) -> Option<i64> {
        let due_ms = due_ms(self.number, &mut self.dice);
        self.used.insert((id.clone(), due_ms)).then_some(due_ms)
    }

    /// A move is a registration if there was one to move, and nothing else.
    async fn reschedule(&mut self, id: Id) {
        let Some(due_ms) = self.fresh(&id) else { return };
        let due = Due::At(DueAt::from_ms(due_ms).expect("a deadline"));
        let began_us = now_us();
        let answer = self.queue.reschedule(&id, due, Expected::Anything).await;
        let outcome = match &answer {
            Ok(Rescheduled::Moved { .. }) | Err(_) => Outcome::of(&answer),
            Ok(_) => Outcome::Failed,
        };
        self.history.add(began_us, Event::Registered { id: id.to_string(), due_ms, outcome });
    }
}
