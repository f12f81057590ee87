//! Orders under faults: paying takes a deadline back, and an expiry is what handles it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use overdue::{
    DueAt, Id,
    order::{Fields, NewOrder, Orders, Status, Verdict},
    queue::Due,
};
use rand::RngExt as _;
use tokio::{task::JoinSet, time::sleep};

use super::{
    clients::{sleep_until, spread},
    fleet::{Fleet, config, nothing_is_left},
    history::{Event, History, Outcome, now_us},
    run::{Run, Terms, scaled},
};
use crate::support::{RedisServer, Rig, process::Place};

/// Creates orders, and writes down what came of it.
pub(crate) async fn create(orders: &Orders, history: &History, bulk: &[(Id, i64)]) {
    let new = |(id, due_ms): &(Id, i64)| {
        let due = Due::At(DueAt::from_ms(*due_ms).expect("a deadline"));
        NewOrder { id: id.clone(), due, fields: Fields::default() }
    };
    let began_us = now_us();
    let outcome = Outcome::of(&orders.create(&bulk.iter().map(new).collect::<Vec<_>>()).await);
    let event = |(id, due_ms): &(Id, i64)| Event::Registered { id: id.to_string(), due_ms: *due_ms, outcome };
    history.add_all(began_us, bulk.iter().map(event));
}

/// Pays, which takes the deadline back if it does not come too late.
pub(crate) async fn pay(orders: Orders, history: Arc<History>, id: Id) {
    let began_us = now_us();
    let answer = orders.pay(&id, &Fields::default()).await;
    let removed = matches!(answer, Ok(Verdict::Done(_)));
    let outcome = Outcome::of(&answer);
    history.add(began_us, Event::Cancelled { id: id.to_string(), removed, in_flight: false, outcome });
}

/// Writes down the expiries that the events tell of.
pub(crate) async fn read_expired(orders: &Orders, history: &History, bulk: &[(Id, i64)]) {
    let due_ms: HashMap<&str, i64> = bulk.iter().map(|(id, due_ms)| (id.as_str(), *due_ms)).collect();
    let mut after = None;
    loop {
        let page = orders.events(after.as_deref(), 1000).await.expect("the events");
        for event in page.events.into_iter().filter(|event| event.r#type == Status::Expired) {
            let (id, at_us) = (event.id.clone(), event.at.expect("when").as_ms() * 1000);
            let due_ms = due_ms[id.as_str()];
            history.add_at(at_us, Event::Handled { id, due_ms, token: None, done: true });
        }
        after = page.last.or(after);
        if !page.more {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_random_ends_each_order_once() {
    let (mut run, rig) = (Run::begin("kill -9 at random, orders"), Rig::new().await);
    let (kills, apart) = (scaled(10), Duration::from_millis(300));
    let place = Place::new(&config(RedisServer::shared(), &rig, "handler = { type = \"order\" }\n", ""));
    let mut fleet = Fleet::start(&place, 2);
    let orders = Orders::new(rig.clone());
    let bulk = spread("order-", scaled(2000), apart * kills as u32, &mut run.dice);
    for part in bulk.chunks(500) {
        create(&orders, &run.history, part).await;
    }
    // Half of them are paid about when they expire, earliest first.
    let mut payments: Vec<(i64, &Id)> = Vec::new();
    for (id, due_ms) in &bulk {
        if run.dice.random() {
            payments.push((due_ms * 1000 + run.dice.random_range(-20_000..20_000), id));
        }
    }
    payments.sort_unstable();
    let (history, mut dice) = (Arc::clone(&run.history), run.fork());
    let killing = async {
        for _ in 0..kills {
            sleep(apart).await;
            fleet.kill_one(&rig, &history, &mut dice).await;
        }
    };
    let paying = async {
        // Each by itself: one that waits for its answer delays no other.
        let mut calls = JoinSet::new();
        for (at_us, id) in payments {
            sleep_until(at_us).await;
            calls.spawn(pay(orders.clone(), Arc::clone(&run.history), id.clone()));
        }
        calls.join_all().await;
    };
    tokio::join!(paying, killing);
    nothing_is_left(&rig).await;
    fleet.drain(&rig).await;
    read_expired(&orders, &run.history, &bulk).await;
    run.finish(Terms::struck_by(["kill -9"]));
}
