//! Paying against expiring, through a real `serve`: each order ends once, and everybody is told the truth.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    time::{Duration, Instant},
};

use overdue::{
    Id,
    order::{Fields, NewOrder, Order, Orders, Status, Verdict},
    queue::Due,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;

use crate::support::{RedisServer, eventually, id, orders_on, process::Place};

const CLIENTS: usize = 32;
/// How many deadlines pass in a second.
const RATE: usize = 4000;
/// How much earlier, in the first round, and later than its deadline an order is paid, in ms.
const SPREAD_MS: i64 = 20;

/// A few thousand orders show the kinds of bug there are; `OVERDUE_RACE_ORDERS=100000` looks for the rare ones.
fn order_count() -> usize {
    std::env::var("OVERDUE_RACE_ORDERS").map_or(4000, |count| count.parse().expect("a number"))
}

/// What a client was told of each order that it tried to pay.
type Told = Vec<(Id, Verdict)>;

/// Pays its share, each order about when its deadline passes, whatever has become of the calls before it.
async fn pay(orders: Orders, share: Vec<(Id, i64)>, spread_ms: Range<i64>, seed: u64) -> Told {
    let mut random = StdRng::seed_from_u64(seed);
    let begun = Instant::now();
    let start_ms = orders.queue().redis().time().await.expect("the time").as_ms();
    let mut calls = JoinSet::new();
    for (id, due_ms) in share {
        let wait_ms = due_ms + random.random_range(spread_ms.clone()) - start_ms;
        let at = begun + Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0));
        tokio::time::sleep_until(at.into()).await;
        let orders = orders.clone();
        calls.spawn(async move {
            let verdict = orders.pay(&id, &Fields::default()).await.expect("answered");
            (id, verdict)
        });
    }
    calls.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_order_ends_once_and_every_client_is_told_the_truth() {
    let server = RedisServer::start();
    let place = Place::new(&format!(
        "[redis]\nurl = \"{}\"\n[queue.orders]\npoll_interval = \"10ms\"\n[queue.orders.handler]\ntype = \"order\"\n",
        server.url()
    ));
    let serve = place.serve().await;
    let (all, seed) = (orders_on(&server), rand::random::<u64>());
    eprintln!("seed {seed}");
    // Until payments and expiries have both won: on a slow machine the first payments may all come too late, so they
    // come earlier in each round.
    let mut won = (0, 0);
    for number in 1.. {
        let (paid, expired) = Round { number, count: order_count(), seed }.play(&server, &all).await;
        won = (won.0 + paid, won.1 + expired);
        if won.0 > 0 && won.1 > 0 {
            break;
        }
        assert!(number < 10, "there is no race: {won:?}");
    }
    serve.stop().await;
}

struct Round {
    number: i64,
    count: usize,
    seed: u64,
}

impl Round {
    fn id(&self, n: usize) -> Id {
        id(&format!("r{}-n{n}", self.number))
    }

    /// Creates orders, has them paid about when they expire, checks what became of each, and answers how many were paid
    /// and how many expired.
    async fn play(&self, server: &RedisServer, all: &Orders) -> (usize, usize) {
        let count = self.count;
        // Far enough ahead that most are created before the first is due, also on a slow machine.
        let first_ms = all.queue().redis().time().await.unwrap().as_ms() + 2000 + count as i64 / 5;
        let due_ms = |n: usize| first_ms + (n * 1000 / RATE) as i64;
        let new = |n: usize| {
            let due = Due::At(overdue::DueAt::from_ms(due_ms(n)).unwrap());
            NewOrder { id: self.id(n), due, fields: Fields::default() }
        };
        all.create(&(0..count).map(new).collect::<Vec<_>>()).await.expect("created");

        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            // Every second order is paid by two clients.
            let is_mine =
                |n: &usize| n % CLIENTS == client || (n.is_multiple_of(2) && (n + 1) % CLIENTS == client);
            let share = (0..count).filter(is_mine).map(|n| (self.id(n), due_ms(n))).collect();
            let (spread_ms, seed) =
                (-SPREAD_MS * self.number..SPREAD_MS, self.seed.wrapping_add(client as u64));
            clients.spawn(pay(orders_on(server), share, spread_ms, seed));
        }
        let told = clients.join_all().await.concat();
        eventually("the rest has expired", async || {
            (all.queue().counts().await.ok()?.scheduled == 0).then_some(())
        })
        .await;

        let ends = ends(all).await;
        let mut hashes = HashMap::new();
        for n in 0..count {
            let order = all.get(&self.id(n)).await.unwrap().expect("kept");
            assert_eq!(
                ends.get(order.id.as_str()).map(Vec::as_slice),
                Some(&[order.status][..]),
                "{order:?}"
            );
            hashes.insert(order.id.clone(), order);
        }
        check(&told, &hashes);
        let with = |status| hashes.values().filter(|order| order.status == status).count();
        let (paid, expired) = (with(Status::Paid), with(Status::Expired));
        eprintln!("{count} orders, {} payments: {paid} paid, {expired} expired", told.len());
        assert_eq!(paid + expired, count);
        (paid, expired)
    }
}

/// What the events say of the end of each order.
async fn ends(orders: &Orders) -> HashMap<String, Vec<Status>> {
    let (mut ends, mut after) = (HashMap::<String, Vec<Status>>::new(), None);
    loop {
        let page = orders.events(after.as_deref(), 1000).await.unwrap();
        for event in page.events.into_iter().filter(|event| event.r#type != Status::Created) {
            ends.entry(event.id).or_default().push(event.r#type);
        }
        after = page.last.or(after);
        if !page.more {
            return ends;
        }
    }
}

fn check(told: &Told, hashes: &HashMap<Id, Order>) {
    let mut done = HashSet::new();
    for (id, verdict) in told {
        let held = &hashes[id];
        match verdict {
            Verdict::Done(order) => {
                assert_eq!(order, held);
                assert!(done.insert(id), "order {id} was paid by two");
            }
            Verdict::Already(order) => assert_eq!((order, order.status), (held, Status::Paid)),
            Verdict::TooLate(order) => assert_eq!((order, order.status), (held, Status::Expired)),
            other => panic!("order {id}: {other:?}"),
        }
    }
    let paid = hashes.values().filter(|order| order.status == Status::Paid).count();
    assert_eq!(done.len(), paid, "each paid order was paid by one");
}
