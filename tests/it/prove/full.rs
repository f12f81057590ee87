//! A Redis whose memory is full, and one whose disk is: what is there already goes on as far as it can, new
//! deadlines are refused, and nothing that was accepted is lost.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use overdue::{Id, order::Orders};
use rand::RngExt as _;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{
    clients::{Workload, spread},
    fleet::{Fleet, config, nothing_is_left},
    history::{Outcome, now_us},
    orders::{create, pay, read_expired},
    recorder::Policy,
    run::{Run, Terms, scaled},
    siege::{Handler, Siege, besiege},
};
use crate::support::{RedisServer, Rig, process::Place};

/// Failed and rejected deliveries write records, which must not be lost either.
const RECEIVER: Policy = Policy { failing: 0.3, slow: (0.1, Duration::from_millis(100)), gone: 0.1 };
const ROUND: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_memory_stops_registrations_and_nothing_else() {
    let mut run = Run::begin("maxmemory reached, webhook");
    let duplicates = while_full(&mut run, Handler::Webhook(RECEIVER)).await;
    run.finish(Terms::struck_by(["OOM"]).duplicates(duplicates));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_memory_does_not_stop_the_stream() {
    let mut run = Run::begin("maxmemory reached, stream");
    while_full(&mut run, Handler::Stream).await;
    run.finish(Terms::struck_by(["OOM"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_memory_does_not_stop_the_list() {
    let mut run = Run::begin("maxmemory reached, list");
    while_full(&mut run, Handler::List).await;
    run.finish(Terms::struck_by(["OOM"]));
}

async fn while_full(run: &mut Run, handler: Handler) -> u64 {
    let mut server = RedisServer::start();
    let rounds = scaled(2);
    let load = Workload { ids: 500 * rounds, over: ROUND * rounds as u32, cancelled: 0.1 };
    besiege(run, &mut server, handler, load, async |siege| {
        for _ in 0..rounds {
            let accepted = siege.provide(60, ROUND / 2).await;
            siege.tell(&["CONFIG", "SET", "maxmemory", "1"]).await;
            assert_eq!(siege.refused().await, Outcome::Failed);
            // All of it, while Redis is full: claims, acks, retries, and what the sinks add.
            siege.are_done(&accepted).await;
            assert_eq!(siege.refused().await, Outcome::Failed, "it is still full");
            siege.struck("OOM");
            siege.tell(&["CONFIG", "SET", "maxmemory", "0"]).await;
            siege.resumes(now_us()).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_memory_does_not_keep_orders_from_ending() {
    let mut run = Run::begin("maxmemory reached, orders");
    let server = RedisServer::start();
    let rig = Rig::rooted_on(&server).await;
    let place = Place::new(&config(&server, &rig, "handler = { type = \"order\" }\n", ""));
    let fleet = Fleet::start(&place, 2);
    fleet.is_up().await;
    let orders = Orders::new(rig.clone());
    let mut all = Vec::new();
    for round in 0..scaled(1) {
        let bulk = spread(&format!("order-{round}-"), 300, ROUND, &mut run.dice);
        create(&orders, &run.history, &bulk).await;
        rig.admin(&["CONFIG", "SET", "maxmemory", "1"]).await;
        let late = spread(&format!("refused-{round}-"), 1, ROUND, &mut run.dice);
        create(&orders, &run.history, &late).await;
        let paid: Vec<&Id> = bulk.iter().map(|(id, _)| id).filter(|_| run.dice.random_bool(0.5)).collect();
        for id in paid {
            pay(orders.clone(), Arc::clone(&run.history), id.clone()).await;
        }
        nothing_is_left(&rig).await;
        run.history.struck("OOM");
        rig.admin(&["CONFIG", "SET", "maxmemory", "0"]).await;
        all.extend(bulk);
    }
    read_expired(&orders, &run.history, &all).await;
    fleet.drain(&rig).await;
    run.finish(Terms::struck_by(["OOM"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_everything_until_there_is_room() {
    let mut run = Run::begin("no room for the AOF");
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let rounds = scaled(2);
    let load = Workload { ids: 500 * rounds, over: ROUND * rounds as u32, cancelled: 0.1 };
    let handler = Handler::Webhook(Policy { gone: 0.0, ..RECEIVER });
    let duplicates = besiege(&mut run, &mut server, handler, load, async |siege| {
        for _ in 0..rounds {
            siege.provide(60, ROUND / 2).await;
            let on = async |siege: &mut Siege<'_>| siege.limit_files(Some(1000));
            let off = async |siege: &mut Siege<'_>| siege.limit_files(None);
            siege.endure("MISCONF by a full disk", "misconf", on, off).await;
            // Once there was room again it has written what it had answered before it noticed.
            siege.dies_with_what_it_has_not_written().await;
            siege.server.restart();
            siege.is_back().await;
        }
    })
    .await;
    run.finish(Terms::struck_by(["MISCONF by a full disk"]).duplicates(duplicates));
}

impl Siege<'_> {
    /// No file of the server may grow by more than so many bytes beyond the length of its log.
    fn limit_files(&self, more: Option<u64>) {
        let room = more.map(|more| self.log_file_len() + more);
        let pid = Pid::from_raw(self.server.pid() as i32).expect("a process id");
        prlimit(Some(pid), Resource::Fsize, Rlimit { current: room, maximum: None })
            .expect("it is our child");
    }

    /// The length of the append-only file.
    pub(crate) fn log_file_len(&self) -> u64 {
        fs::metadata(log_file(self.server)).expect("it is there").len()
    }
}

/// The append-only file that is being written.
pub(crate) fn log_file(server: &RedisServer) -> PathBuf {
    let files = fs::read_dir(server.dir().join("appendonlydir")).expect("its directory");
    let paths = files.map(|file| file.expect("readable").path());
    let logs = paths.filter(|path| path.to_string_lossy().ends_with(".incr.aof"));
    logs.max().expect("one is being written")
}
