//! Slots that move and nodes that die in a cluster, while clients register and `serve` delivers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use overdue::{
    QueueName,
    config::{RedisConfig, RedisUrl},
    queue::{Due, Expected, Mode, Queue, Registration},
    redis::{Redis, slot_of},
    types::{Durability, DurabilityLevel},
};

use super::run::number;
use crate::support::{
    group::{Clustered, patiently},
    id,
    process::Place,
};

const QUEUES: [&str; 3] = ["orders", "carts", "parcels"];
/// How far ahead a deadline lies.
const AHEAD: Duration = Duration::from_millis(300);
/// One event in so many is the death of a node, the others are slots that move.
const DEATHS: usize = 10;

/// Registrations that were answered.
type Answered = Arc<Mutex<Vec<String>>>;

/// What a stream has of an id: its deadline, and when it was fired.
type Fired = HashMap<String, Vec<(i64, i64)>>;

fn redis_by(group: &Clustered) -> Redis {
    let config = RedisConfig {
        cluster: group.nodes.iter().map(|node| RedisUrl::new(node.url()).expect("a url")).collect(),
        ..RedisConfig::default()
    };
    Redis::configured(&config).expect("right").expect("servers are named")
}

fn slot(queue: &str) -> u16 {
    slot_of(&format!("overdue:{{{queue}}}:scheduled"))
}

/// Registers one id after the other until it is told to stop.
async fn register(queue: Queue, name: String, answered: Answered, stop: Arc<AtomicBool>) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let text = format!("{name}-{number}");
        let order = Registration { id: id(&text), due: Due::In(AHEAD), payload: None };
        match queue.schedule(&[order], Mode::Replace, Expected::Anything).await {
            Ok(_) => answered.lock().expect("held briefly").push(text),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// All that the stream of a queue has.
async fn fired(redis: &Redis, queue: &str) -> Fired {
    let key = format!("overdue:{{{queue}}}:fired");
    let (mut all, mut from) = (Fired::new(), "-".to_owned());
    loop {
        let answer = redis
            .near(&key)
            .run(redis::cmd("XRANGE").arg(&key).arg(&from).arg("+").arg("COUNT").arg(1000))
            .await;
        let page: Vec<(String, HashMap<String, String>)> =
            redis::from_redis_value(answer.expect("a stream")).expect("entries");
        let Some((last, _)) = page.last() else { return all };
        from = format!("({last}");
        for (_, fields) in page {
            let ms = |name: &str| fields[name].parse::<i64>().expect("ms");
            all.entry(fields["id"].clone()).or_default().push((ms("due_at"), ms("fired_at")));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the table of the documentation")]
async fn slots_that_move_and_nodes_that_die_lose_nothing() {
    let events = number("OVERDUE_PROVE_MOVES", 6) as usize;
    let mut group = Clustered::start(3, 3, &[]).await;
    let sections: String =
        QUEUES.iter().map(|name| format!("[queue.{name}]\nhandler.type = \"stream\"\n")).collect();
    let place = Place::new(&format!("{}{sections}", group.config()));
    let (one, other) = (place.serve().await, place.serve().await);
    let redis = redis_by(&group);
    let stop = Arc::new(AtomicBool::new(false));
    let answered = QUEUES.map(|_| Answered::default());
    let durability =
        Durability { level: DurabilityLevel::Replicated, replicas: 1, timeout: Duration::from_millis(500) };
    let mut writers = Vec::new();
    for (name, answered) in QUEUES.iter().zip(&answered) {
        let queue = Queue::new(redis.clone(), "overdue", QueueName::new(name).expect("a name"));
        for number in 0..2 {
            let (queue, answered, stop) =
                (queue.durable(durability), Arc::clone(answered), Arc::clone(&stop));
            writers.push(tokio::spawn(register(queue, format!("{name}-{number}"), answered, stop)));
        }
    }

    let (mut moves, mut deaths) = (Vec::new(), 0);
    for event in 0..events {
        let name = QUEUES[event % QUEUES.len()];
        let count =
            || answered.iter().map(|answered| answered.lock().expect("held briefly").len()).sum::<usize>();
        let before = count();
        patiently("clients are at work", async || (count() > before + 50).then_some(())).await;
        let owner = group.owner(slot(name)).await;
        if event % DEATHS == DEATHS / 2 {
            group.nodes[owner].kill9();
            patiently("a replica takes over", async || {
                (group.owner(slot(name)).await != owner).then_some(())
            })
            .await;
            group.nodes[owner].launch();
            group.settled().await;
            deaths += 1;
        } else {
            let masters = group.masters().await;
            let place = masters.iter().position(|master| *master == owner).expect("it is one");
            let begun = Instant::now();
            group.migrate(slot(name), masters[(place + 1) % masters.len()]).await;
            moves.push(begun.elapsed());
        }
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no panic");
    }
    let (mut registered, mut lost, mut early, mut late, mut twice) = (0, 0, 0, Vec::new(), 0);
    for (name, answered) in QUEUES.iter().zip(&answered) {
        let answered = answered.lock().expect("all have ended").clone();
        let queue = Queue::new(redis.clone(), "overdue", QueueName::new(name).expect("a name"));
        patiently("all is fired", async || (queue.counts().await.ok()?.scheduled == 0).then_some(())).await;
        let fired = fired(&redis, name).await;
        registered += answered.len();
        lost += answered.iter().filter(|text| !fired.contains_key(*text)).count();
        for times in fired.values() {
            twice += times.len() - 1;
            early += times.iter().filter(|(due, at)| at < due).count();
            late.extend(times.iter().map(|(due, at)| at - due));
        }
    }
    one.stop().await;
    other.stop().await;
    late.sort_unstable();
    moves.sort_unstable();
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize];
    println!(
        "| slots moved | nodes killed | registered (`replicated`) | lost | early | in the stream twice | late: p50, p99, most | a move took: median, most |\n\
         |--:|--:|--:|--:|--:|--:|--:|--:|\n\
         | {} | {deaths} | {registered} | {lost} | {early} | {twice} | {} ms, {} ms, {} ms | {} ms, {} ms |",
        moves.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        moves[moves.len() / 2].as_millis(),
        moves[moves.len() - 1].as_millis(),
    );
    assert_eq!((lost, early), (0, 0));
}
