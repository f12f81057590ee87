//! Accepting orders at once and creating them later, through a real `serve` that is killed.

use std::{cell::Cell, collections::HashMap, time::Duration};

use overdue::{
    order::{Fields, NewOrder, Orders, Status, Submitted},
    queue::Due,
};

use tokio_util::sync::CancellationToken;

use crate::support::{RedisServer, eventually, id, orders_on, process::Place};

const CONFIG: &str =
    "[queue.orders]\nlease = \"300ms\"\npoll_interval = \"20ms\"\n[queue.orders.handler]\ntype = \"order\"\n";

/// How many kills must strike orders in hand.
const KILLS: u32 = 3;

/// `OVERDUE_INTAKE_ORDERS=50000` for a longer look.
fn order_count() -> usize {
    std::env::var("OVERDUE_INTAKE_ORDERS").map_or(3000, |count| count.parse().expect("a number"))
}

fn place(server: &RedisServer) -> Place {
    Place::new(&format!("[redis]\nurl = \"{}\"\n{CONFIG}", server.url()))
}

fn new(n: usize) -> NewOrder {
    let fields = Fields::new([("n", n.to_string())]).expect("a valid field");
    NewOrder { id: id(&format!("n{n}")), due: Due::In(Duration::from_secs(3600)), fields }
}

/// Submits at least `count` orders, and more until it is stopped; answers how many.
async fn submit(orders: Orders, count: usize, stop: CancellationToken) -> usize {
    let mut next = 0;
    let mut left = Vec::new();
    while next < count || !stop.is_cancelled() || !left.is_empty() {
        let room = if next < count || !stop.is_cancelled() { 500 - left.len() } else { 0 };
        left.extend((next..next + room).map(new));
        next += room;
        let answers = orders.submit(&left).await.expect("answered");
        let full = |(order, answer)| (answer == Submitted::Full).then_some(order);
        left = left.into_iter().zip(answers).filter_map(full).collect();
        eventually("some of them are created", async || {
            let counts = orders.intake().counts().await.ok()?;
            (counts.scheduled + counts.leased <= 500).then_some(())
        })
        .await;
    }
    next
}

/// How often each id was created, by the events.
async fn created(orders: &Orders) -> HashMap<String, u32> {
    let (mut created, mut after) = (HashMap::new(), None);
    loop {
        let page = orders.events(after.as_deref(), 1000).await.unwrap();
        for event in &page.events {
            assert_eq!(event.r#type, Status::Created);
            *created.entry(event.id.clone()).or_default() += 1;
        }
        after = page.last.or(after);
        if !page.more {
            return created;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_order_is_lost_or_created_twice_when_those_who_create_are_killed() {
    let server = RedisServer::start();
    let (place, all) = (place(&server), orders_on(&server));
    let stop = CancellationToken::new();
    let is_submitted = Cell::new(false);
    let submitting = async {
        let count = submit(orders_on(&server).intake_limit(700), order_count(), stop.clone()).await;
        is_submitted.set(true);
        count
    };
    // It goes on until kills have struck between claim and ack: a run without any would show nothing.
    let killing = async {
        let mut kills_with_work = 0;
        while kills_with_work < KILLS || !is_submitted.get() {
            let serve = place.serve().await;
            let before = all.queue().counts().await.unwrap().scheduled;
            eventually("some are created", async || {
                let idle = is_submitted.get() && all.intake().counts().await.ok()?.scheduled == 0;
                (all.queue().counts().await.ok()?.scheduled > before || idle).then_some(())
            })
            .await;
            serve.kill9().await;
            kills_with_work += u32::from(all.intake().counts().await.unwrap().leased > 0);
            if kills_with_work >= KILLS {
                stop.cancel();
            }
        }
        kills_with_work
    };
    let (count, kills_with_work) = tokio::join!(submitting, killing);
    let serve = place.serve().await;
    eventually("the intake is empty", async || {
        let counts = all.intake().counts().await.ok()?;
        (counts.scheduled + counts.leased == 0).then_some(())
    })
    .await;
    serve.stop().await;

    let created = created(&all).await;
    assert_eq!(created.len(), count);
    assert!(created.values().all(|times| *times == 1), "once each");
    assert_eq!(all.queue().counts().await.unwrap().scheduled, count as u64, "each with its deadline");
    assert_eq!(all.intake().counts().await.unwrap().dead, 0);
    eprintln!("{count} orders, {kills_with_work} kills with orders in hand");
}

#[tokio::test]
async fn what_cannot_be_created_is_set_aside_with_the_reason() {
    let server = RedisServer::start();
    let (place, all) = (place(&server), orders_on(&server));
    all.submit(&[new(1)]).await.unwrap();
    // Somebody else creates an order of the same id before it is its turn.
    let other = NewOrder { fields: Fields::default(), ..new(1) };
    all.create(&[other]).await.unwrap();
    // And somebody puts an id into the intake that has nothing with it.
    let due = overdue::DueAt::from_ms(overdue::DueAt::MIN_MS).unwrap();
    let bare = overdue::queue::Registration { id: id("bare"), due: Due::At(due), payload: None };
    all.intake().schedule(&[bare], Default::default(), Default::default()).await.unwrap();
    all.submit(&[new(2)]).await.unwrap();

    let serve = place.serve().await;
    eventually("two are dead", async || {
        let counts = all.intake().counts().await.ok()?;
        (counts.dead == 2 && counts.scheduled + counts.leased == 0).then_some(())
    })
    .await;
    assert!(all.get(&id("n2")).await.unwrap().is_some(), "the others are created");
    serve.stop().await;
    let dead = place.run(&["dead", "list", "orders.intake", "-o", "json"]).json();
    let reason = |name: &str| {
        let row = dead.as_array().unwrap().iter().find(|row| row["id"] == name).expect("it is listed");
        row["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!((reason("n1"), reason("bare")), ("conflict".to_owned(), "invalid_payload".to_owned()));
}
