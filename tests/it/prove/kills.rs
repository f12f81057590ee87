//! Schedulers that die, freeze and are replaced while clients register, cancel, and handlers run.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{
    clients::{Workload, register},
    fleet::{Fleet, LEASE, config, leased, nothing_is_left, nothing_remains},
    history::{Event, History, now_us},
    recorder::{Policy, Recorder},
    run::{Run, Terms, scaled},
    sinks::{read_list, read_stream},
};
use crate::support::{RedisServer, Rig, eventually, id, process::Place};

/// A receiver as they are: some calls fail, some take their time.
const RECEIVER: Policy = Policy { failing: 0.05, slow: (0.02, Duration::from_millis(300)), gone: 0.0 };
/// How far apart kills are: a process that was started claims and hands over well within it.
const APART: Duration = Duration::from_millis(300);
const KILLED: [&str; 2] = ["kill -9", "kill -9 with work in hand"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_faults_everything_is_handled_once() {
    let mut run = Run::begin("no faults");
    let (server, rig) = (RedisServer::shared(), Rig::new().await);
    let recorder = Recorder::start(&run.history, Policy::default(), run.seed).await;
    let place = Place::new(&config(server, &rig, &recorder.handler(), ""));
    let fleet = Fleet::start(&place, 2);
    let over = Duration::from_secs(2) * scaled(1) as u32;
    let load = Workload { ids: scaled(2000), over, cancelled: 0.1 };
    load.run(&rig, &run.history, &mut run.dice).await;
    fleet.drain(&rig).await;
    nothing_remains(&rig).await;
    run.finish(Terms::struck_by([""; 0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_random_loses_nothing() {
    let (mut run, rig) = (Run::begin("kill -9 at random, webhook"), Rig::new().await);
    let recorder = Recorder::start(&run.history, RECEIVER, run.seed).await;
    let in_hand = under_kills(&mut run, &rig, &recorder.handler()).await;
    nothing_remains(&rig).await;
    run.finish(Terms::struck_by(KILLED).duplicates(in_hand));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_random_puts_each_id_into_the_stream_once() {
    let (mut run, rig) = (Run::begin("kill -9 at random, stream"), Rig::new().await);
    under_kills(&mut run, &rig, "handler = { type = \"stream\" }\n").await;
    read_stream(&rig, &run.history).await;
    nothing_remains(&rig).await;
    run.finish(Terms::struck_by(["kill -9"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_random_puts_each_id_into_the_list_once() {
    let (mut run, rig) = (Run::begin("kill -9 at random, list"), Rig::new().await);
    under_kills(&mut run, &rig, "handler = { type = \"list\" }\n").await;
    read_list(&rig, &run.history).await;
    nothing_remains(&rig).await;
    run.finish(Terms::struck_by(["kill -9"]));
}

/// Kills one of two processes again and again while clients are at it. Answers how many ids were leased at the
/// kills.
async fn under_kills(run: &mut Run, rig: &Rig, handler: &str) -> u64 {
    let kills = scaled(10);
    let place = Place::new(&config(RedisServer::shared(), rig, handler, ""));
    let mut fleet = Fleet::start(&place, 2);
    let load = Workload { ids: scaled(3000), over: APART * kills as u32, cancelled: 0.1 };
    let (history, mut dice) = (Arc::clone(&run.history), run.fork());
    let killing = async {
        let mut in_hand = 0;
        for _ in 0..kills {
            sleep(APART).await;
            in_hand += fleet.kill_one(rig, &history, &mut dice).await;
        }
        in_hand
    };
    let ((), in_hand) = tokio::join!(load.run(rig, &run.history, &mut run.dice), killing);
    fleet.drain(rig).await;
    in_hand
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_froze_past_its_lease_settles_nothing() {
    let (mut run, rig) = (Run::begin("SIGSTOP past the lease"), Rig::new().await);
    // Slow handlers, so that a freeze finds some of them running.
    let slow = Policy { slow: (0.5, APART), ..RECEIVER };
    let recorder = Recorder::start(&run.history, slow, run.seed).await;
    let place = Place::new(&config(RedisServer::shared(), &rig, &recorder.handler(), "concurrency = 16\n"));
    let mut fleet = Fleet::start(&place, 2);
    let freezes = scaled(2);
    let frozen_for = LEASE + Duration::from_secs(1);
    let load = Workload { ids: scaled(400), over: frozen_for * freezes as u32, cancelled: 0.1 };
    let (history, mut dice) = (Arc::clone(&run.history), run.fork());
    let freezing = async {
        let mut in_hand = 0;
        for _ in 0..freezes {
            eventually("work is in hand", async || (leased(&rig).await > 0).then_some(())).await;
            in_hand += fleet.freeze_one(&rig, &history, &mut dice, frozen_for).await;
        }
        in_hand
    };
    let ((), in_hand) = tokio::join!(load.run(&rig, &run.history, &mut run.dice), freezing);
    fleet.drain(&rig).await;
    nothing_remains(&rig).await;
    run.finish(Terms::struck_by(["SIGSTOP past the lease", "SIGSTOP with work in hand"]).duplicates(in_hand));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restarts_hand_nothing_over_twice() {
    let (mut run, rig) = (Run::begin("SIGTERM, rolling restarts"), Rig::new().await);
    let slow = Policy { slow: (0.1, APART), ..Policy::default() };
    let recorder = Recorder::start(&run.history, slow, run.seed).await;
    let place = Place::new(&config(RedisServer::shared(), &rig, &recorder.handler(), ""));
    let mut fleet = Fleet::start(&place, 2);
    let restarts = scaled(8);
    let load = Workload { ids: scaled(2000), over: APART * restarts as u32, cancelled: 0.1 };
    let (history, mut dice) = (Arc::clone(&run.history), run.fork());
    let restarting = async {
        for _ in 0..restarts {
            sleep(APART).await;
            fleet.replace_one(&history, &mut dice).await;
        }
    };
    tokio::join!(load.run(&rig, &run.history, &mut run.dice), restarting);
    fleet.drain(&rig).await;
    nothing_remains(&rig).await;
    run.finish(Terms::struck_by(["SIGTERM"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_of_a_killed_process_is_back_after_its_lease() {
    let (mut run, rig) = (Run::begin("recovery after kill -9"), Rig::new().await);
    // Handlers that outlast the lease hold the ids when the kill comes.
    let stuck = Policy { slow: (1.0, LEASE * 3), ..Policy::default() };
    let first = Recorder::start(&run.history, stuck, run.seed).await;
    let place = Place::new(&config(RedisServer::shared(), &rig, &first.handler(), ""));
    let victim = place.serve().await;
    let ids: Vec<_> = (0..50).map(|n| (id(&format!("order-{n}")), now_us() / 1000)).collect();
    register(&rig, &run.history, &ids).await;
    eventually("all are in hand", async || (leased(&rig).await == 50).then_some(())).await;

    let second = Recorder::start(&run.history, Policy::default(), run.seed).await;
    place.write("overdue.toml", &config(RedisServer::shared(), &rig, &second.handler(), ""));
    let successor = place.serve().await;
    victim.kill9().await;
    let killed = Instant::now();
    run.history.struck("kill -9");
    eventually("all are handled", async || (handled(&run.history) >= 50).then_some(())).await;
    run.measure_ms("recovered_after_ms", killed.elapsed());
    run.measure_ms("lease_ms", LEASE);
    nothing_is_left(&rig).await;
    successor.stop().await;
    // The receiver that was stuck goes on all the same, and does its work long after its caller died.
    run.finish(Terms::struck_by(["kill -9"]).duplicates(50));
}

fn handled(history: &History) -> usize {
    history.entries().iter().filter(|entry| matches!(entry.event, Event::Handled { .. })).count()
}
