//! A master with replicas, watched by sentinels: found, left when it fails, and found again.

use std::time::{Duration, Instant};

use overdue::{
    Id,
    config::{RedisConfig, RedisUrl},
    error::TroubleKind,
    queue::{Due, Expected, Mode, Queue, Registration},
    redis::{Redis, Timeouts},
};

use crate::support::{
    LIMIT, PATIENT,
    group::{MASTER, Watched, patiently},
    many,
    process::Place,
    queue_of, trouble,
};

fn redis_by(group: &Watched, timeouts: Timeouts) -> Redis {
    let url = |node: &crate::support::group::Node| RedisUrl::new(node.url()).expect("a url");
    let config = RedisConfig {
        sentinels: group.sentinels.iter().map(url).collect(),
        master: Some(MASTER.to_owned()),
        connect_timeout: timeouts.connect,
        response_timeout: timeouts.response,
        ..RedisConfig::default()
    };
    Redis::configured(&config).expect("a right configuration").expect("servers are named")
}

async fn put(queue: &Queue, id: &str) -> overdue::Result<()> {
    let due = Due::In(Duration::from_secs(3600));
    let order = Registration { id: Id::new(id).expect("an id"), due, payload: None };
    queue.schedule(&[order], Mode::Replace, Expected::Anything).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_goes_on_with_the_next_master() {
    let mut group = Watched::start(&[]).await;
    let place = Place::new(&format!("{}[queue.orders]\nhandler.type = \"log\"\n", group.config()));
    let serve = place.serve().await;
    place.run(&["schedule", "orders", "before", "--in", "1ms"]).ok();
    patiently("it fires", async || (serve.expired() == ["before"]).then_some(())).await;
    place.run(&["schedule", "orders", "across", "--in", "6s"]).ok();

    let old = group.master().await.expect("a master");
    let mut replicas =
        group.nodes.iter().enumerate().filter(|(place, _)| *place != old).map(|(_, node)| node);
    let key = "overdue:{orders}:scheduled";
    let (one, other) = (replicas.next().unwrap(), replicas.next().unwrap());
    for replica in [one, other] {
        patiently("the replica has it", async || {
            replica.ask::<Option<f64>>(&["ZSCORE", key, "across"]).await
        })
        .await;
    }
    group.nodes[old].kill9();
    patiently("another master", async || group.master().await.filter(|new| *new != old)).await;
    patiently("it fires on the next master", async || {
        serve.expired().contains(&"across".to_owned()).then_some(())
    })
    .await;
    place.run(&["schedule", "orders", "after", "--in", "1ms"]).ok();
    patiently("it fires", async || serve.expired().contains(&"after".to_owned()).then_some(())).await;

    // The old one comes back, and is a replica soon.
    group.nodes[old].launch();
    group.settled().await;
    place.run(&["schedule", "orders", "at-last", "--in", "1ms"]).ok();
    patiently("it fires", async || serve.expired().contains(&"at-last".to_owned()).then_some(())).await;
    serve.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_master_that_hangs_when_there_is_another() {
    let group = Watched::start(&[]).await;
    let queue = queue_of(redis_by(&group, PATIENT));
    put(&queue, "a").await.expect("registered");
    let old = group.master().await.expect("a master");
    group.nodes[old].signal("STOP");
    let begun = Instant::now();
    // Without the sentinels' word it would wait for its timeout, a minute.
    assert_eq!(trouble(put(&queue, "b").await), TroubleKind::Unreachable);
    assert!(begun.elapsed() < LIMIT, "it was called off");
    patiently("the next master takes it", async || put(&queue, "c").await.ok()).await;
    let new = patiently("another master", async || group.master().await.filter(|new| *new != old)).await;

    // It still believes to be the master, and is told.
    group.nodes[old].signal("CONT");
    group.settled().await;
    assert_eq!(group.master().await, Some(new));
    put(&queue, "d").await.expect("registered");
    assert!(queue.counts().await.expect("counted").scheduled >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_master_is_left_at_once() {
    let group = Watched::start(&[]).await;
    let queue = queue_of(redis_by(&group, PATIENT));
    queue.schedule(&many(10), Mode::Replace, Expected::Anything).await.expect("registered");
    let old = group.master().await.expect("a master");
    let _: String = group.sentinels[0].ask(&["SENTINEL", "FAILOVER", MASTER]).await;
    patiently("another master", async || group.master().await.filter(|new| *new != old)).await;
    group.settled().await;
    patiently("the next master takes it", async || put(&queue, "b").await.ok()).await;
    assert_eq!(queue.counts().await.expect("counted").scheduled, 11);
}

#[tokio::test]
async fn what_sentinels_do_not_know_is_said() {
    let group = Watched::start(&[]).await;
    let config = group.config().replace(MASTER, "nobody");
    let place = Place::new(&config);
    place.run(&["stats"]).fails(1, &["no master `nobody` by its 3 sentinels", "does not know it"]);

    let place = Place::new("[redis]\nsentinels = \"127.0.0.1:1\"\n");
    place.run(&["stats"]).fails(2, &["redis.master", "is missing"]);
    let place = Place::new("[redis]\nsentinels = \"127.0.0.1:1\"\nmaster = \"m\"\nurl = \"redis://h\"\n");
    place.run(&["stats"]).fails(2, &["redis.url", "redis.sentinels", "remove one of them"]);
}
