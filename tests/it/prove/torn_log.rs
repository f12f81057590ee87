//! An append-only file whose tail is gone, as after a loss of power: cut at a random byte.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use overdue::{
    queue::{Expected, Lease, Mode, Queue},
    redis::Redis,
};
use rand::{RngExt as _, rngs::StdRng};
use tokio::time::sleep;

use super::{
    clients::Workload,
    full::log_file,
    history::{Event, History, Outcome, now_us},
    redis_restart::RECEIVER,
    run::{Run, Terms, scaled},
    siege::{Handler, Siege, besiege},
    snapshot::{Snapshot, sound},
};
use crate::support::{
    LEASE, LEASE_MS, PATIENT, RedisServer, Rig, T0, eventually, id, leases, program, registration, rejected,
    retry_of,
};

/// Written with every call, and never rewritten: a position in the file is a moment in time.
const LOGGED: [&str; 6] =
    ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"];
/// A moment of the walk: how long the file was, and what was in Redis.
struct Moment {
    len: u64,
    digest: String,
    state: Snapshot,
}

/// A queue on which verbs are called one after the other.
struct Walk {
    rig: Rig,
    dice: StdRng,
    now: i64,
    holds: Vec<Lease>,
}

impl Walk {
    fn some_name(&mut self) -> String {
        format!("id{}", self.dice.random_range(0..40))
    }

    fn some_hold(&mut self) -> Lease {
        let recent = self.holds.len().saturating_sub(20);
        self.holds[self.dice.random_range(recent..self.holds.len())].clone()
    }

    /// One call, of any verb that writes.
    async fn step(&mut self) {
        let queue = self.rig.when(self.now);
        match self.dice.random_range(0..if self.holds.is_empty() { 4 } else { 10 }) {
            0..=1 => {
                let bulk: Vec<_> = (0..3)
                    .map(|n| {
                        let due = self.now + self.dice.random_range(-LEASE_MS..LEASE_MS);
                        registration(&self.some_name(), due, ["", "a payload", "another"][n])
                    })
                    .collect();
                queue.schedule(&bulk, Mode::Replace, Expected::Anything).await.map(drop)
            }
            2..=3 => queue.claim(self.dice.random_range(1..8), LEASE).await.map(|claim| {
                self.holds.extend(leases(&claim));
            }),
            4 => queue.cancel(&[id(&self.some_name())]).await.map(drop),
            5 => queue.ack(&[self.some_hold(), self.some_hold()]).await.map(drop),
            6 => queue.retry(&[retry_of(&self.some_hold(), 9)], 3).await.map(drop),
            7 => queue.bury(&[rejected(&self.some_hold())]).await.map(drop),
            8 => queue.release(&[self.some_hold()]).await.map(drop),
            _ => queue.retry_dead(&[id(&self.some_name())]).await.map(drop),
        }
        .expect("Redis is well");
        self.now += self.dice.random_range(0..LEASE_MS / 4);
    }

    async fn moment(&self, log: &Path) -> Moment {
        let len = fs::metadata(log).expect("it is there").len();
        Moment { len, digest: digest(&self.rig).await, state: sound(&self.rig).await }
    }
}

/// A digest of all that is in Redis.
async fn digest(rig: &Rig) -> String {
    rig.send(redis::cmd("DEBUG").arg("DIGEST")).await
}

#[tokio::test]
async fn every_cut_leaves_whole_calls_and_all_that_came_before() {
    let mut run = Run::begin("AOF cut at every place");
    let server = RedisServer::start_with(&LOGGED);
    let rig = Rig::rooted_on(&server).await;
    let mut walk = Walk { rig, dice: run.fork(), now: T0, holds: Vec::new() };
    let log = log_file(&server);
    let mut moments = vec![walk.moment(&log).await];
    for _ in 0..300 {
        walk.step().await;
        moments.push(walk.moment(&log).await);
    }
    let (first, last) = (moments[0].len, moments.last().expect("one at least").len);
    let mut torn = 0;
    for _ in 0..scaled(30) {
        let cut = run.dice.random_range(first..=last);
        // The last moment that is in the file as a whole is what Redis has to come back with.
        let before = &moments[moments.partition_point(|moment| moment.len <= cut) - 1];
        let mut copy = RedisServer::start_as(&[program()], &LOGGED, |dir| cut_copy(&server, dir, cut));
        let rig = loaded(&copy, &walk.rig).await;
        assert_eq!(digest(&rig).await, before.digest, "cut at byte {cut} of {last}");
        assert_eq!(sound(&rig).await, before.state);
        let mut second = Walk { rig, dice: run.fork(), now: walk.now, holds: walk.holds.clone() };
        for _ in 0..run.dice.random_range(0..20) {
            second.step().await;
        }
        // Redis 7.0 forgets to take the beginning of the transaction out of the file: it happens now.
        copy.kill9();
        copy.restart();
        let rig = loaded(&copy, &walk.rig).await;
        drain(&rig, second.now + 10 * LEASE_MS).await;
        torn += u64::from(before.len < cut);
        run.history.struck("AOF cut");
    }
    assert!(torn > 0, "no cut was inside of a call");
    run.measure("cut_inside_of_a_call", torn);
    run.finish(Terms::struck_by(["AOF cut"]));
}

/// The queue of a rig on another server, once that has loaded its data.
async fn loaded(server: &RedisServer, rig: &Rig) -> Rig {
    let redis = Redis::open(&server.root_url(), PATIENT).expect("a valid url");
    eventually("it is loaded", async || redis.ping().await.ok()).await;
    Rig::with(server, Queue::new(redis, "overdue", rig.name().clone())).await
}

/// Copies the files of a server, but only so many bytes of its log.
fn cut_copy(from: &RedisServer, to: &Path, cut: u64) {
    let files = to.join("appendonlydir");
    fs::create_dir(&files).expect("the directory is ours");
    for file in fs::read_dir(from.dir().join("appendonlydir")).expect("its directory") {
        let path = file.expect("readable").path();
        fs::copy(&path, files.join(path.file_name().expect("a name"))).expect("copied");
    }
    let log = files.join(log_file(from).file_name().expect("a name"));
    truncate(&log, cut);
}

fn truncate(log: &Path, len: u64) {
    let file = fs::OpenOptions::new().write(true).open(log).expect("it is there");
    file.set_len(len).expect("cut");
}

/// Whatever waits or is leased is delivered, and nothing else.
async fn drain(rig: &Rig, now: i64) {
    let mut waiting = BTreeSet::from_iter(rig.members("scheduled").await);
    waiting.extend(rig.members("leased").await);
    let mut delivered = BTreeSet::new();
    loop {
        let claim = rig.claim_at(now, 1000).await;
        if claim.token.is_none() {
            break;
        }
        delivered.extend(claim.deliveries.iter().map(|delivery| delivery.id.to_string()));
        rig.ack(&leases(&claim)).await.expect("acked");
    }
    assert_eq!(delivered, waiting);
    let counts = rig.counts().await.expect("Redis is well");
    assert_eq!((counts.scheduled, counts.leased), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_nothing_from_before_the_cut_is_lost() {
    const APART: Duration = Duration::from_millis(700);
    let mut run = Run::begin("AOF cut under load");
    let mut server = RedisServer::start_with(&LOGGED);
    let cuts = scaled(5);
    let load = Workload { ids: scaled(1500), over: APART * cuts as u32, cancelled: 0.1 };
    let mut doubtful: Vec<(String, i64)> = Vec::new();
    let duplicates = besiege(&mut run, &mut server, Handler::Webhook(RECEIVER), load, async |siege| {
        // When the file was how long at least: what was answered before is in so many bytes.
        let mut lens: Vec<(i64, u64)> = vec![(now_us(), siege.log_file_len())];
        for _ in 0..cuts {
            let until_us = now_us() + siege.dice.random_range(100_000..APART.as_micros() as i64);
            while now_us() < until_us {
                lens.push((now_us(), siege.log_file_len()));
                sleep(Duration::from_millis(2)).await;
            }
            siege.cut_log(&mut lens, &mut doubtful).await;
        }
    })
    .await;
    run.measure("lost_with_the_tail", never_came(&run.history, &doubtful));
    let faults = ["AOF cut", "AOF cut inside of a transaction"];
    run.finish(Terms::struck_by(faults).duplicates(duplicates));
}

impl Siege<'_> {
    /// Kills Redis, takes some KiB off the end of its log, and starts it again.
    async fn cut_log(&mut self, lens: &mut Vec<(i64, u64)>, doubtful: &mut Vec<(String, i64)>) {
        self.server.kill9();
        let (died_us, len) = (now_us(), self.log_file_len());
        let at_most = (len - lens[0].1).min(8 * 1024);
        let cut = len - self.dice.random_range(1..=at_most);
        truncate(&log_file(self.server), cut);
        lens.retain(|(_, len)| *len <= cut);
        let kept_us = lens.last().expect("the first one is").0;
        doubtful.extend(registered_since(&self.history, kept_us));
        self.doubts.push((kept_us, died_us));
        self.duplicates += handled_since(&self.history, kept_us);
        self.struck("AOF cut");

        if is_in_transaction(&log_file(self.server)) {
            self.history.struck("AOF cut inside of a transaction");
        }
        self.server.restart();
        self.is_back().await;
        // What operators have to do as well: Redis 7.0 leaves the beginning of the transaction in the file, and all
        // that it writes now behind it.
        self.rewrite_log().await;
        *lens = vec![(now_us(), self.log_file_len())];
        self.resumes(now_us()).await;
    }

    async fn rewrite_log(&self) {
        let file = log_file(self.server);
        self.tell(&["BGREWRITEAOF"]).await;
        eventually("the log is rewritten", async || {
            let is_over = self.info("aof_rewrite_in_progress").await? == "0" && !file.exists();
            is_over.then_some(())
        })
        .await;
    }
}

/// True if a log ends between MULTI and EXEC, which no id contains.
fn is_in_transaction(log: &Path) -> bool {
    let bytes = fs::read(log).expect("it is there");
    let last = |word: &[u8]| bytes.windows(word.len()).rposition(|window| window == word);
    last(b"MULTI\r\n") > last(b"EXEC\r\n")
}

/// What was registered for certain from an instant on.
fn registered_since(history: &Arc<History>, since_us: i64) -> Vec<(String, i64)> {
    let entries = history.entries();
    let since = entries.iter().filter(|entry| entry.ended_us >= since_us);
    since
        .filter_map(|entry| match &entry.event {
            Event::Registered { id, due_ms, outcome: Outcome::Ok } => Some((id.clone(), *due_ms)),
            _ => None,
        })
        .collect()
}

fn handled_since(history: &Arc<History>, since_us: i64) -> u64 {
    let entries = history.entries();
    let since = entries.iter().filter(|entry| entry.ended_us >= since_us);
    since.filter(|entry| matches!(entry.event, Event::Handled { .. })).count() as u64
}

/// How many of these were neither handled nor cancelled.
fn never_came(history: &Arc<History>, registered: &[(String, i64)]) -> usize {
    let entries = history.entries();
    let ended: BTreeSet<&str> = entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Handled { id, .. } | Event::Cancelled { id, removed: true, .. } => Some(id.as_str()),
            _ => None,
        })
        .collect();
    registered.iter().filter(|(id, _)| !ended.contains(id.as_str())).count()
}
