//! What dies and comes back: schedulers, Redis, and the connection between them.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use overdue::queue::{Due, Expected, Mode, Registration};

use crate::support::{
    PATIENT, RedisServer, Rig, eventually, id, many,
    process::{Place, Serve, field},
    queue_on,
};

fn config(server: &RedisServer, rig: &Rig, more: &str) -> String {
    let (url, queue) = (server.url(), rig.name());
    format!(
        "[redis]\nurl = \"{url}\"\nresponse_timeout = \"1s\"\n\
         [queue.{queue}]\npoll_interval = \"20ms\"\nlease = \"500ms\"\nhandler = {{ type = \"log\" }}\n{more}"
    )
}

async fn nothing_is_left(rig: &Rig) {
    eventually("nothing is left", async || {
        let counts = rig.counts().await.ok()?;
        (counts.scheduled + counts.leased + counts.dead == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn p1_kill_9_in_the_middle_of_deliveries_loses_nothing() {
    let server = RedisServer::shared();
    let rig = Rig::new().await;
    // Many due at once and a handler that logs: the kill lands among claims, deliveries and acks.
    let place = Place::new(&config(server, &rig, "batch_size = 50\nconcurrency = 4\n"));
    let all = many(3000);
    rig.schedule_all(&all).await;

    let mut handled: HashSet<String> = HashSet::new();
    let mut kills_with_work_in_hand = 0;
    for _ in 0..5 {
        let serve = place.serve().await;
        let before = handled.len();
        eventually("some more are handled", async || (!serve.expired().is_empty()).then_some(())).await;
        let log = serve.kill9().await;
        let lines = log.iter().filter(|line| line.contains("deadline expired"));
        handled.extend(lines.filter_map(|line| field(line, "id")));
        assert!(handled.len() > before || rig.members("scheduled").await.is_empty());
        kills_with_work_in_hand += usize::from(!rig.members("leased").await.is_empty());
    }
    assert!(kills_with_work_in_hand > 0, "no kill struck while deliveries were in hand");

    let serve = place.serve().await;
    nothing_is_left(&rig).await;
    eventually("every id is handled", async || {
        handled.extend(serve.expired());
        (handled.len() == all.len()).then_some(())
    })
    .await;
    serve.stop().await;
}

#[tokio::test]
async fn a_delivery_lost_to_a_kill_counts_as_an_attempt_and_keeps_its_deadline() {
    let server = RedisServer::shared();
    let rig = Rig::new().await;
    rig.schedule_all(&many(1)).await;
    // A process that claimed and died: nobody will ack.
    let claim = rig.claim(1, Duration::from_millis(300)).await.unwrap();
    assert_eq!(claim.deliveries.len(), 1);
    let place = Place::new(&config(server, &rig, ""));
    let serve = place.serve().await;
    let line = serve.says("deadline expired").await;
    assert_eq!(field(&line, "attempt").as_deref(), Some("2"));
    assert_eq!(field(&line, "due_at").as_deref(), Some("2026-01-01T00:00:00.000Z"));
    serve.stop().await;
}

#[tokio::test]
async fn sigstop_past_the_lease_hands_the_work_to_another_process() {
    let server = RedisServer::shared();
    let rig = Rig::new().await;
    let place = Place::new(&config(server, &rig, "batch_size = 100\nconcurrency = 1\n"));
    let stopped = place.serve().await;
    rig.schedule_all(&many(3000)).await;
    eventually("it has begun", async || (!stopped.expired().is_empty()).then_some(())).await;
    stopped.signal("STOP");

    let other = place.serve().await;
    nothing_is_left(&rig).await;
    stopped.signal("CONT");
    let mut handled: HashMap<String, usize> = HashMap::new();
    eventually("every id is handled", async || {
        handled.clear();
        for name in stopped.expired().into_iter().chain(other.expired()) {
            *handled.entry(name).or_default() += 1;
        }
        (handled.len() == 3000).then_some(())
    })
    .await;
    stopped.stop().await;
    other.stop().await;
    nothing_is_left(&rig).await;
}

async fn put(rig: &Rig, names: std::ops::Range<usize>) {
    let registrations: Vec<Registration> = names
        .map(|n| Registration { id: id(&format!("n{n}")), due: Due::In(Duration::ZERO), payload: None })
        .collect();
    rig.schedule(&registrations, Mode::Replace, Expected::Anything).await.expect("scheduled");
}

async fn handles(serve: &Serve, count: usize) {
    eventually("they are handled", async || {
        let handled: HashSet<String> = serve.expired().into_iter().collect();
        (handled.len() >= count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_restart_of_redis_is_survived_with_all_deadlines() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let rig = Rig::with(&server, queue_on(&server, PATIENT)).await;
    let place = Place::new(&config(&server, &rig, ""));
    let serve = place.serve().await;
    put(&rig, 0..10).await;
    handles(&serve, 10).await;

    server.kill9();
    serve.says("unreachable").await;
    server.restart();
    serve.says("recovered").await;
    put_eventually(&rig, 10..20).await;
    handles(&serve, 20).await;
    serve.stop().await;
}

/// The connection of the rig broke with the server: its first call fails, the next one reconnects.
async fn put_eventually(rig: &Rig, names: std::ops::Range<usize>) {
    eventually("the rig has reconnected", async || rig.redis().ping().await.ok()).await;
    put(rig, names).await;
}

#[tokio::test]
async fn serve_waits_for_a_redis_that_is_not_there_yet_and_says_so() {
    let mut server = RedisServer::start();
    let rig = Rig::with(&server, queue_on(&server, PATIENT)).await;
    let place = Place::new(&config(&server, &rig, ""));
    server.kill9();
    let serve = place.serve().await;
    let line = serve.says("unreachable").await;
    assert!(line.contains("redis.url"), "{line}");
    server.restart();
    put_eventually(&rig, 0..1).await;
    handles(&serve, 1).await;
    serve.stop().await;
}

#[tokio::test]
async fn a_redis_that_hangs_times_out_and_work_goes_on_afterwards() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    let place = Place::new(&config(&server, &rig, ""));
    let serve = place.serve().await;
    put(&rig, 0..1).await;
    handles(&serve, 1).await;
    server.signal("STOP");
    serve.says("timeout").await;
    server.signal("CONT");
    serve.says("recovered").await;
    put_eventually(&rig, 1..2).await;
    handles(&serve, 2).await;
    serve.stop().await;
}

#[tokio::test]
async fn a_demoted_master_is_named_and_survived() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    let place = Place::new(&config(&server, &rig, ""));
    let serve = place.serve().await;
    let mut demote = redis::cmd("REPLICAOF");
    demote.arg("127.0.0.1").arg(1);
    let _: String = rig.send(&demote).await;
    let line = serve.says("readonly").await;
    assert!(line.contains("replica"), "{line}");
    let mut promote = redis::cmd("REPLICAOF");
    promote.arg("NO").arg("ONE");
    let _: String = rig.send(&promote).await;
    put_eventually(&rig, 0..1).await;
    handles(&serve, 1).await;
    serve.stop().await;
}

#[tokio::test]
async fn flushed_scripts_are_loaded_again() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    let place = Place::new(&config(&server, &rig, ""));
    let serve = place.serve().await;
    for round in 0..5 {
        let mut flush = redis::cmd("SCRIPT");
        flush.arg("FLUSH");
        let _: String = rig.send(&flush).await;
        put(&rig, round..round + 1).await;
        handles(&serve, round + 1).await;
    }
    serve.stop().await;
}
