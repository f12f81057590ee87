//! Failovers by Sentinel under load: what is lost at each level of durability, and when work goes on.

use std::{
    collections::HashSet,
    fmt::Write as _,
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
    redis::Redis,
    types::{Durability, DurabilityLevel},
};
use redis::Value;

use super::run::number;
use crate::support::{
    group::{MASTER, Watched, patiently},
    id,
    process::{Place, Serve},
};

/// How a master is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// kill -9.
    Killed,
    /// SIGSTOP: it answers nobody, and believes to be the master when it goes on.
    Stopped,
    /// Its replicas and the sentinels do not reach it any more, while clients do.
    CutOff,
}

const LOSSES: [Loss; 3] = [Loss::Killed, Loss::Stopped, Loss::CutOff];
const LEVELS: [DurabilityLevel; 2] = [DurabilityLevel::Memory, DurabilityLevel::Replicated];
/// Writers of each level.
const WRITERS: usize = 4;
/// Registrations that have to be answered before the master is lost.
const BEFORE: usize = 100;
/// Deadlines of the queue that shows when `serve` is back.
const TICK: Duration = Duration::from_millis(20);

/// A client that registers one id after the other, and remembers which were answered.
struct Writer {
    queue: Queue,
    answered: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    async fn run(self, name: String) {
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let text = format!("{name}-{number}");
            let order =
                Registration { id: id(&text), due: Due::In(Duration::from_secs(36_000)), payload: None };
            match self.queue.schedule(&[order], Mode::Replace, Expected::Anything).await {
                Ok(_) => self.answered.lock().expect("held briefly").push(text),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

/// What one failover came to.
struct Outcome {
    loss: Loss,
    /// By level: answered, and of these lost.
    counts: [(usize, usize); 2],
    /// From the word of the sentinels to the next answer to a writer, by level, and to the next expiry in `serve`.
    writers_back: [Duration; 2],
    serve_back: Duration,
}

fn queue_of(redis: &Redis, level: DurabilityLevel) -> Queue {
    let name = QueueName::new(level.to_string()).expect("a name");
    let durability = Durability { level, replicas: 1, timeout: Duration::from_millis(500) };
    Queue::new(redis.clone(), "overdue", name).durable(durability)
}

fn redis_by(group: &Watched) -> Redis {
    let config = RedisConfig {
        sentinels: group.sentinels.iter().map(|node| RedisUrl::new(node.url()).expect("a url")).collect(),
        master: Some(MASTER.to_owned()),
        username: Some("overdue".to_owned()),
        password: Some("geheim".to_owned().into()),
        ..RedisConfig::default()
    };
    Redis::configured(&config).expect("right").expect("servers are named")
}

async fn lose(group: &mut Watched, master: usize, loss: Loss) {
    let node = &mut group.nodes[master];
    match loss {
        Loss::Killed => node.kill9(),
        Loss::Stopped => node.signal("STOP"),
        // Clients have a user of their own, and go on.
        Loss::CutOff => {
            let _: Value = node
                .ask(&["ACL", "SETUSER", "default", "-ping", "-psync", "-sync", "-replconf", "-info"])
                .await;
            let _: Value = node.ask(&["CLIENT", "KILL", "TYPE", "replica"]).await;
        }
    }
}

async fn heal(group: &mut Watched, master: usize, loss: Loss) {
    let node = &mut group.nodes[master];
    match loss {
        Loss::Killed => node.launch(),
        Loss::Stopped => node.signal("CONT"),
        Loss::CutOff => {
            let _: Value = node.ask(&["ACL", "SETUSER", "default", "+@all"]).await;
        }
    }
    group.settled().await;
}

/// One failover while writers write and `serve` delivers.
async fn failover(group: &mut Watched, serve: &Serve, loss: Loss, round: usize) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let answered = [(); 2].map(|()| Arc::<Mutex<Vec<String>>>::default());
    let mut writers = Vec::new();
    for (level, answered) in LEVELS.into_iter().zip(&answered) {
        for number in 0..WRITERS {
            let (answered, stop) = (Arc::clone(answered), Arc::clone(&stop));
            let writer = Writer { queue: queue_of(&redis_by(group), level), answered, stop };
            writers.push(tokio::spawn(writer.run(format!("r{round}-{number}"))));
        }
    }
    let count = |of: usize| answered[of].lock().expect("held briefly").len();
    patiently("writers are at work", async || (0..2).all(|of| count(of) > BEFORE).then_some(())).await;

    let old = group.master().await.expect("a master");
    lose(group, old, loss).await;
    patiently("another master", async || group.master().await.filter(|new| *new != old)).await;
    let (named, before, expired) = (Instant::now(), [count(0), count(1)], serve.expired().len());
    let (mut writers_back, mut serve_back) = ([None; 2], None);
    patiently("work goes on", async || {
        for of in 0..2 {
            if count(of) > before[of] {
                writers_back[of].get_or_insert_with(|| named.elapsed());
            }
        }
        if serve.expired().len() > expired {
            serve_back.get_or_insert_with(|| named.elapsed());
        }
        (writers_back.iter().all(Option::is_some) && serve_back.is_some()).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no panic");
    }
    heal(group, old, loss).await;

    let redis = redis_by(group);
    let mut counts = [(0, 0); 2];
    for (of, level) in LEVELS.into_iter().enumerate() {
        let there = all_of(&queue_of(&redis, level)).await;
        let answered = answered[of].lock().expect("all have ended").clone();
        let lost = answered.iter().filter(|text| !there.contains(*text)).count();
        counts[of] = (answered.len(), lost);
        queue_of(&redis, level).purge().await.expect("purged");
    }
    let back = |time: Option<Duration>| time.expect("it came back");
    Outcome { loss, counts, writers_back: writers_back.map(back), serve_back: back(serve_back) }
}

async fn all_of(queue: &Queue) -> HashSet<String> {
    let (mut all, mut cursor) = (HashSet::new(), None);
    loop {
        let page = queue.list(overdue::queue::State::Scheduled, 1000, cursor.as_ref()).await.expect("listed");
        all.extend(page.rows.into_iter().map(|row| row.id));
        cursor = page.next;
        if cursor.is_none() {
            return all;
        }
    }
}

/// Deadlines one after the other for as long as a test may take.
async fn tick(queue: Queue, stop: Arc<AtomicBool>) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let tick = Registration { id: id(&format!("t{number}")), due: Due::In(2 * TICK), payload: None };
        // During a failover there is nobody to take it.
        let _ = queue.schedule(&[tick], Mode::Replace, Expected::Anything).await;
        tokio::time::sleep(TICK).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the table of the documentation")]
async fn what_was_replicated_outlives_every_failover() {
    let rounds = number("OVERDUE_PROVE_FAILOVERS", 3) as usize;
    let mut group = Watched::start(&["--user", "overdue", "on", ">geheim", "~*", "&*", "+@all"]).await;
    let login = "username = \"overdue\"\npassword = \"geheim\"\n";
    let place = Place::new(&format!("{}{login}[queue.ticks]\nhandler.type = \"log\"\n", group.config()));
    let serve = place.serve().await;
    let stop = Arc::new(AtomicBool::new(false));
    let ticks = Queue::new(redis_by(&group), "overdue", QueueName::new("ticks").expect("a name"));
    let ticking = tokio::spawn(tick(ticks, Arc::clone(&stop)));

    let mut outcomes = Vec::new();
    for round in 0..rounds {
        outcomes.push(failover(&mut group, &serve, LOSSES[round % LOSSES.len()], round).await);
    }
    stop.store(true, Ordering::Relaxed);
    ticking.await.expect("no panic");
    serve.stop().await;
    println!("{}", table(&outcomes));
    let lost: usize = outcomes.iter().map(|outcome| outcome.counts[1].1).sum();
    assert_eq!(lost, 0, "of what was replicated");
}

fn table(outcomes: &[Outcome]) -> String {
    let mut table = String::from(
        "| the master is | failovers | `memory`: lost of answered | failovers that lost some | most lost in one | `replicated`: lost of answered | writers back after the next master is named: median, most | `serve` back: median, most |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for loss in LOSSES {
        let of: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.loss == loss).collect();
        if of.is_empty() {
            continue;
        }
        let sum = |level: usize| {
            of.iter().fold((0, 0), |(all, lost), outcome| {
                (all + outcome.counts[level].0, lost + outcome.counts[level].1)
            })
        };
        let (memory, replicated) = (sum(0), sum(1));
        let losing = of.iter().filter(|outcome| outcome.counts[0].1 > 0).count();
        let most = of.iter().map(|outcome| outcome.counts[0].1).max().unwrap_or(0);
        let writers = of.iter().flat_map(|outcome| outcome.writers_back).collect();
        let serve = of.iter().map(|outcome| outcome.serve_back).collect();
        let word = match loss {
            Loss::Killed => "killed",
            Loss::Stopped => "stopped (SIGSTOP), and goes on later",
            Loss::CutOff => "cut off from replicas and sentinels, not from clients",
        };
        let _ = writeln!(
            table,
            "| {word} | {} | {} of {} | {losing} | {most} | {} of {} | {} | {} |",
            of.len(),
            memory.1,
            memory.0,
            replicated.1,
            replicated.0,
            median_and_most(writers),
            median_and_most(serve),
        );
    }
    table
}

fn median_and_most(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    format!("{} ms, {} ms", median.as_millis(), most.as_millis())
}
