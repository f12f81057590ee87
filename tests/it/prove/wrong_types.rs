//! Somebody writes to a key that is the queue's: it holds another type for a while, and then is as it was.

use std::time::Duration;

use overdue::{
    QueueName,
    queue::{Queue, State},
};
use rand::seq::SliceRandom as _;

use super::{
    clients::{Workload, register, spread},
    history::{Outcome, now_us},
    recorder::Policy,
    run::{Run, Terms, scaled},
    siege::{Handler, Siege, besiege_with},
    sinks::read_stream,
    snapshot::key,
};
use crate::support::{PARTS, RedisServer, Rig, eventually};

/// Puts a text in the place of a key, which goes aside.
const SPOIL: &str = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end
    return redis.call('SET', KEYS[1], 'not of this queue')";
/// Puts it back.
const MEND: &str = "redis.call('DEL', KEYS[1])
    if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end";
/// Another queue of the same processes.
const OTHER: &str = "[queue.other]\npoll_interval = \"50ms\"\nhandler = { type = \"stream\" }\n";
const RECEIVER: Policy = Policy { failing: 0.1, slow: (0.1, Duration::from_millis(100)), gone: 0.0 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_wrong_type_stops_its_queue_and_no_other() {
    let mut run = Run::begin("WRONGTYPE, webhook");
    let duplicates = while_spoiled(&mut run, Handler::Webhook(RECEIVER), &PARTS[..8]).await;
    run.finish(Terms::struck_by(faults(&PARTS[..8])).duplicates(duplicates));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_wrong_type_takes_nothing_from_the_stream() {
    let mut run = Run::begin("WRONGTYPE, stream");
    while_spoiled(&mut run, Handler::Stream, &PARTS).await;
    run.finish(Terms::struck_by(faults(&PARTS)));
}

fn faults(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| format!("WRONGTYPE {part}")).collect()
}

/// Spoils each of these keys in turn, and watches what the other queue does meanwhile.
async fn while_spoiled(run: &mut Run, handler: Handler, parts: &[&str]) -> u64 {
    let mut server = RedisServer::start();
    let rounds = scaled(1);
    let load = Workload { ids: 800 * rounds, over: Duration::from_secs(3) * rounds as u32, cancelled: 0.1 };
    let duplicates = besiege_with(run, &mut server, handler, OTHER, load, async |siege| {
        let other = other_queue(&siege.queue);
        for _ in 0..rounds {
            let mut parts = parts.to_vec();
            parts.shuffle(&mut siege.dice);
            for part in parts {
                siege.pause(Duration::from_millis(50)).await;
                let on = async |siege: &mut Siege<'_>| siege.edit(part, SPOIL).await;
                let off = async |siege: &mut Siege<'_>| {
                    siege.goes_on(&other).await;
                    siege.edit(part, MEND).await;
                };
                siege.endure(&format!("WRONGTYPE {part}"), "wrongtype", on, off).await;
            }
        }
    })
    .await;
    let rig = Rig::rooted_on(&server).await;
    let rig = Rig::with(&server, other_queue(&rig)).await;
    read_stream(&rig, &run.history).await;
    duplicates
}

fn other_queue(queue: &Queue) -> Queue {
    Queue::new(queue.redis().clone(), "overdue", QueueName::new("other").expect("a name"))
}

impl Siege<'_> {
    async fn edit(&self, part: &str, script: &str) {
        let key = key(&self.queue, part);
        self.tell(&["EVAL", script, "2", &key, &format!("{key}-aside")]).await;
    }

    /// What is registered in the other queue meanwhile is accepted and fired.
    async fn goes_on(&mut self, other: &Queue) {
        let bulk = spread(&format!("other-{}-", now_us()), 20, Duration::from_millis(50), &mut self.dice);
        assert_eq!(register(other, &self.history, &bulk).await, Outcome::Ok);
        eventually("the other queue is empty", async || {
            let rows = other.list(State::Scheduled, 1, None).await.expect("listed").rows;
            rows.is_empty().then_some(())
        })
        .await;
    }
}
