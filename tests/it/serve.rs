//! `overdue serve` as a process: it delivers, reloads, drains, and several of them share a queue.

use std::{collections::HashSet, time::Duration};

use overdue::{
    queue::{Due, Expected, Mode, Registration},
    types::Payload,
};

use crate::support::{
    RedisServer, Rig, eventually, id, many,
    process::{Place, Serve, field},
};

/// A configuration for the queue of a rig on the shared server.
fn config(rig: &Rig, handler: &str, more: &str) -> String {
    let (url, queue) = (RedisServer::shared().url(), rig.name());
    format!(
        "[redis]\nurl = \"{url}\"\n[queue.{queue}]\npoll_interval = \"20ms\"\nhandler = {{ type = \"{handler}\" }}\n{more}"
    )
}

/// Registers ids that are due some time from now.
async fn put_in(rig: &Rig, names: &[String], delay: Duration) {
    let registrations: Vec<Registration> = names
        .iter()
        .map(|name| Registration {
            id: id(name),
            due: Due::In(delay),
            payload: Payload::new("{\"n\":1}").ok(),
        })
        .collect();
    rig.schedule(&registrations, Mode::Replace, Expected::Anything).await.expect("scheduled");
}

fn named(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}")).collect()
}

async fn all_expired(serve: &Serve, names: &[String]) {
    let wanted: HashSet<&String> = names.iter().collect();
    eventually("all have expired", async || {
        let expired = serve.expired();
        (expired.iter().collect::<HashSet<_>>() == wanted).then_some(())
    })
    .await;
}

/// The ids in the stream `fired`, each as often as it stands there.
async fn fired(rig: &Rig) -> Vec<String> {
    let entries: Vec<(String, Vec<String>)> = rig.on_key("XRANGE", "fired", ("-", "+")).await;
    for (_, fields) in &entries {
        assert_eq!(fields[0], "id");
        let (due_at, fired_at): (i64, i64) = (fields[3].parse().unwrap(), fields[5].parse().unwrap());
        assert!(due_at <= fired_at, "early: {fields:?}");
    }
    entries.into_iter().map(|(_, fields)| fields[1].clone()).collect()
}

#[tokio::test]
async fn a_deadline_by_plain_zadd_fires_and_is_logged_without_its_payload() {
    let rig = Rig::new().await;
    let place = Place::new(&config(&rig, "log", ""));
    let serve = place.serve().await;
    let now_ms = rig.redis().time().await.unwrap().as_ms();
    rig.hset("order-42", "a secret").await;
    rig.zadd("order-42", now_ms + 100).await;

    let line = serve.says("deadline expired").await;
    assert_eq!(field(&line, "id").as_deref(), Some("order-42"));
    assert_eq!(field(&line, "attempt").as_deref(), Some("1"));
    eventually("it is acked", async || (rig.keys().await == ["meta"]).then_some(())).await;
    assert!(!serve.log().concat().contains("secret"));
    serve.stop().await;
}

#[tokio::test]
async fn p8_a_deadline_is_met_though_the_poll_interval_is_an_hour() {
    let rig = Rig::new().await;
    put_in(&rig, &named("a", 1), Duration::from_millis(700)).await;
    let place = Place::new(
        &config(&rig, "log", "lease = \"3h\"\n")
            .replace("poll_interval = \"20ms\"", "poll_interval = \"1h\""),
    );
    let serve = place.serve().await;
    all_expired(&serve, &named("a", 1)).await;
    serve.stop().await;
}

#[tokio::test]
async fn sighup_takes_over_a_new_poll_interval_and_refuses_a_bad_file() {
    let rig = Rig::new().await;
    let slow = config(&rig, "log", "lease = \"3h\"\n").replace("\"20ms\"", "\"1h\"");
    let place = Place::new(&slow);
    let serve = place.serve().await;
    place.write("overdue.toml", &slow.replace("poll_interval", "pol_interval"));
    serve.signal("HUP");
    let refused = serve.says("not reloaded").await;
    assert!(refused.contains("overdue.toml") && refused.contains("pol_interval"), "{refused}");

    place.write("overdue.toml", &slow.replace("\"1h\"", "\"10ms\""));
    serve.signal("HUP");
    serve.says("settings changed").await;
    serve.says("configuration reloaded").await;
    put_in(&rig, &named("a", 3), Duration::from_millis(1)).await;
    all_expired(&serve, &named("a", 3)).await;

    place.write("overdue.toml", &slow.replace("\"log\"", "\"stream\""));
    serve.signal("HUP");
    serve.says("need a restart").await;
    serve.stop().await;
}

#[tokio::test]
async fn several_queues_in_a_process_do_not_wait_for_each_other() {
    let (one, two) = (Rig::new().await, Rig::new().await);
    let more = format!("[queue.{}]\nhandler = {{ type = \"stream\" }}\n", two.name());
    let place = Place::new(&config(&one, "log", &more));
    let serve = place.serve().await;
    put_in(&one, &named("a", 10), Duration::ZERO).await;
    put_in(&two, &named("b", 10), Duration::ZERO).await;
    all_expired(&serve, &named("a", 10)).await;
    eventually("the stream has them", async || (fired(&two).await.len() == 10).then_some(())).await;
    serve.stop().await;
}

#[tokio::test]
async fn a_key_of_the_wrong_type_stops_its_queue_only_and_is_named() {
    let (broken, sound) = (Rig::new().await, Rig::new().await);
    let _: String = broken.on_key("SET", "leased", "text").await;
    broken.zadd("kept", 1_767_225_600_000_i64).await;
    let more = format!("[queue.{}]\nhandler = {{ type = \"log\" }}\n", sound.name());
    let place = Place::new(&config(&broken, "log", &more));
    let serve = place.serve().await;
    let line = serve.says("wrongtype").await;
    assert!(line.contains(&broken.key("leased")), "{line}");
    put_in(&sound, &named("b", 5), Duration::ZERO).await;
    all_expired(&serve, &named("b", 5)).await;

    let _: i64 = broken.on_key("DEL", "leased", crate::support::NOTHING).await;
    eventually("it goes on", async || serve.expired().contains(&"kept".to_owned()).then_some(())).await;
    serve.says("recovered").await;
    serve.stop().await;
}

#[tokio::test]
async fn impossible_scores_are_set_aside_with_a_reason() {
    let rig = Rig::new().await;
    let place = Place::new(&config(&rig, "log", ""));
    let serve = place.serve().await;
    rig.zadd("in-seconds", 1_767_225_600_i64).await;
    let dead =
        eventually("it is dead", async || rig.shown("in-seconds").await.filter(|row| row.reason.is_some()))
            .await;
    assert_eq!(dead.reason.as_deref(), Some("impossible_score"));
    assert!(dead.error.unwrap().contains("1767225600"));
    assert!(serve.expired().is_empty());
    serve.stop().await;
}

#[tokio::test]
async fn an_id_outside_the_contract_is_set_aside_and_does_not_stop_the_others() {
    let rig = Rig::new().await;
    rig.zadd(b"\xff\xfe".as_slice(), 1_767_225_600_000_i64).await;
    rig.zadd("good", 1_767_225_600_001_i64).await;
    let place = Place::new(&config(&rig, "log", ""));
    let serve = place.serve().await;
    all_expired(&serve, &["good".to_owned()]).await;
    let line = serve.says("now in the dead set").await;
    assert_eq!(field(&line, "reason").as_deref(), Some("invalid_id"));
    serve.stop().await;
}

#[tokio::test]
async fn p6_several_processes_fire_each_registration_into_the_stream_exactly_once() {
    let rig = Rig::new().await;
    let place = Place::new(&config(&rig, "stream", "batch_size = 7\n"));
    let (one, two) = (place.serve().await, place.serve().await);
    let names = named("a", 2000);
    put_in(&rig, &names[..1000], Duration::ZERO).await;
    put_in(&rig, &names[1000..], Duration::from_millis(200)).await;
    eventually("all are fired", async || rig.members("scheduled").await.is_empty().then_some(())).await;
    let mut fired = fired(&rig).await;
    fired.sort();
    let mut wanted = names;
    wanted.sort();
    assert_eq!(fired, wanted);
    assert_eq!(rig.payloads().await, 0);
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn sigterm_drains_and_nothing_stays_leased() {
    let rig = Rig::new().await;
    let place = Place::new(&config(&rig, "log", "concurrency = 1\n"));
    let serve = place.serve().await;
    let names = named("a", 3000);
    put_in(&rig, &names, Duration::ZERO).await;
    eventually("it has begun", async || (!serve.expired().is_empty()).then_some(())).await;
    let expired_before = serve.expired().len();
    serve.stop().await;
    // Whatever was in hand was either done or given back.
    assert!(rig.members("leased").await.is_empty());
    assert!(rig.members("leases").await.is_empty());
    assert!(expired_before > 0);
    let rest = rig.members("scheduled").await;

    let serve = place.serve().await;
    eventually("the rest is done", async || (serve.expired().len() == rest.len()).then_some(())).await;
    assert_eq!(serve.expired().into_iter().collect::<HashSet<_>>(), rest.into_iter().collect());
    serve.stop().await;
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    let (url, queue) = (server.url(), rig.name());
    let place = Place::new(&format!(
        "[redis]\nurl = \"{url}\"\nresponse_timeout = \"1m\"\n[queue.{queue}]\nbatch_size = 10\nconcurrency = 1\n"
    ));
    rig.schedule_all(&many(20_000)).await;
    let mut serve = place.serve().await;
    eventually("it has begun", async || (!serve.expired().is_empty()).then_some(())).await;
    // With work in hand a call is always on its way, and a stopped Redis does not answer it.
    server.signal("STOP");
    serve.signal("TERM");
    serve.says("stopping").await;
    serve.signal("TERM");
    assert_eq!(serve.ended().await, Some(1));
    assert!(serve.expired().len() < 20_000);
    server.signal("CONT");
}

#[tokio::test]
async fn sigint_stops_it_in_order_too() {
    let rig = Rig::new().await;
    let place = Place::new(&config(&rig, "log", ""));
    let mut serve = place.serve().await;
    serve.signal("INT");
    assert_eq!(serve.ended().await, Some(0));
    assert!(serve.log().iter().any(|line| line.contains("SIGINT")));
}

#[tokio::test]
async fn logs_can_be_json() {
    let rig = Rig::new().await;
    let place = Place::new(&config(&rig, "log", "[log]\nformat = \"json\"\n"));
    let serve = place.serve().await;
    put_in(&rig, &named("a", 1), Duration::ZERO).await;
    let line = serve.says("deadline expired").await;
    let line: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
    assert_eq!(line["id"], "a0");
    assert_eq!(line["queue"], rig.name().as_str());
    serve.stop().await;
}
