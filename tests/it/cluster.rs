//! A cluster: each queue on the node that has its slot, while slots move and nodes die.

use std::{collections::HashSet, time::Duration};

use overdue::{
    Id, QueueName,
    config::{RedisConfig, RedisUrl},
    error::Error,
    lock::{Lock, LockOptions},
    order::{Fields, NewOrder, Orders},
    queue::{Delivery, Due, Expected, Mode, Queue, Registration},
    redis::{Redis, Timeouts, slot_of},
};

use crate::support::{
    LIMIT, PATIENT,
    group::{Clustered, patiently},
    process::Place,
};

fn redis_by(group: &Clustered, timeouts: Timeouts) -> Redis {
    let config = RedisConfig {
        cluster: vec![RedisUrl::new(group.nodes[0].url()).expect("a url")],
        connect_timeout: timeouts.connect,
        response_timeout: timeouts.response,
        ..RedisConfig::default()
    };
    Redis::configured(&config).expect("a right configuration").expect("servers are named")
}

fn queue_on(redis: &Redis, name: &str) -> Queue {
    Queue::new(redis.clone(), "overdue", QueueName::new(name).expect("a name"))
}

fn slot(name: &str) -> u16 {
    slot_of(&format!("overdue:{{{name}}}:scheduled"))
}

fn due_now(id: impl AsRef<str>) -> Registration {
    Registration { id: Id::new(id).expect("an id"), due: Due::In(Duration::ZERO), payload: None }
}

/// A name of a queue whose slot a node has.
async fn name_on(group: &Clustered, node: usize) -> String {
    for number in 0.. {
        let name = format!("q{number}");
        if group.owner(slot(&name)).await == node {
            return name;
        }
    }
    unreachable!("each node has a third of the slots")
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_orders_and_locks_live_where_their_slots_are() {
    let group = Clustered::start(3, 0, &[]).await;
    let redis = redis_by(&group, PATIENT);
    for node in 0..3 {
        let name = name_on(&group, node).await;
        let queue = queue_on(&redis, &name);
        queue.schedule(&[due_now("a")], Mode::Replace, Expected::Anything).await.expect("registered");
        let there: i64 = group.nodes[node].ask(&["EXISTS", &format!("overdue:{{{name}}}:scheduled")]).await;
        assert_eq!(there, 1, "{name} on node {node}");
        assert!(queue.exists().await.expect("asked"));
        assert_eq!(queue.claim(10, LIMIT).await.expect("claimed").deliveries.len(), 1);

        let orders = Orders::new(queue.clone());
        let order = NewOrder { id: Id::new("o").unwrap(), due: Due::In(LIMIT), fields: Fields::default() };
        orders.create(&[order]).await.expect("created");
        assert_eq!(orders.events(None, 10).await.expect("events").events.len(), 1);
        queue.purge().await.expect("purged");

        let options = LockOptions { ttl: LIMIT, wait: Duration::ZERO };
        let lock = Lock::new(redis.clone(), "overdue", name.parse().unwrap(), options).unwrap();
        let held = lock.acquire().await.expect("free");
        assert!(lock.acquire().await.is_err());
        held.release().await.expect("released");
    }
    assert_eq!(redis.masters().await.expect("a map").len(), 3);

    let place = Place::new(&group.config());
    let name = name_on(&group, 2).await;
    place.run(&["schedule", &name, "by command", "--in", "1h"]).ok();
    assert!(place.run(&["list", &name]).ok().contains("by command"));
    place.run(&["adopt", "x:*", "--queue", &name, "--in-place"]).fails(1, &["cluster", "import"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_goes_on_while_its_slot_moves() {
    let group = Clustered::start(2, 0, &[]).await;
    let redis = redis_by(&group, PATIENT);
    let queue = queue_on(&redis, "orders");
    let mut handled = HashSet::new();
    for round in 0..6 {
        let ids: Vec<Registration> = (0..200).map(|n| due_now(format!("{round}-{n}"))).collect();
        queue.schedule(&ids, Mode::Replace, Expected::Anything).await.expect("registered");
        let target = 1 - group.owner(slot("orders")).await;
        let work = async {
            let mut count = 0;
            while count < 200 {
                let claim = queue.claim(7, LIMIT).await.expect("claimed");
                let leases: Vec<_> = claim.deliveries.iter().map(Delivery::lease).collect();
                for lease in &leases {
                    assert!(handled.insert(lease.id.clone()), "{} twice", lease.id);
                }
                queue.ack(&leases).await.expect("acknowledged");
                count += leases.len();
            }
        };
        tokio::join!(work, group.migrate(slot("orders"), target));
        assert_eq!(group.owner(slot("orders")).await, target);
    }
    assert_eq!(handled.len(), 1200);
    let counts = queue.counts().await.expect("counted");
    assert_eq!((counts.scheduled, counts.leased, counts.dead), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_goes_on_when_a_master_dies() {
    let mut group = Clustered::start(3, 3, &[]).await;
    let names = [name_on(&group, 0).await, name_on(&group, 1).await];
    let queues: String =
        names.iter().map(|name| format!("[queue.{name}]\nhandler.type = \"log\"\n")).collect();
    let place = Place::new(&format!("{}{queues}", group.config()));
    let serve = place.serve().await;
    let fires = async |id: &str| {
        patiently("it fires", async || serve.expired().iter().any(|fired| fired == id).then_some(())).await;
    };
    for name in &names {
        place.run(&["schedule", name, &format!("{name}-before"), "--in", "1ms"]).ok();
        fires(&format!("{name}-before")).await;
    }
    let victim = group.owner(slot(&names[0])).await;
    group.nodes[victim].kill9();
    // The other queue goes on.
    patiently("it is registered", async || {
        (place.run(&["schedule", &names[1], "unharmed", "--in", "1ms"]).code() == 0).then_some(())
    })
    .await;
    fires("unharmed").await;
    patiently("a replica takes over", async || {
        let ran = place.run(&["schedule", &names[0], "after", "--in", "1ms"]);
        (ran.code() == 0).then_some(())
    })
    .await;
    fires("after").await;
    serve.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_node_that_hangs_when_another_has_its_slots() {
    let group = Clustered::start(3, 3, &[]).await;
    let name = name_on(&group, 1).await;
    let queue = queue_on(&redis_by(&group, PATIENT), &name);
    queue.schedule(&[due_now("a")], Mode::Replace, Expected::Anything).await.expect("registered");
    group.nodes[1].signal("STOP");
    let answer = queue.schedule(&[due_now("b")], Mode::Replace, Expected::Anything).await;
    assert!(matches!(answer, Err(Error::Redis(_))), "{answer:?}");
    patiently("a replica takes over", async || {
        queue.schedule(&[due_now("c")], Mode::Replace, Expected::Anything).await.ok()
    })
    .await;
    group.nodes[1].signal("CONT");
    group.settled().await;
    queue.schedule(&[due_now("d")], Mode::Replace, Expected::Anything).await.expect("registered");
}

#[tokio::test]
async fn a_cluster_without_slots_or_nodes_says_so() {
    let place = Place::new("[redis]\ncluster = \"127.0.0.1:1,127.0.0.1:2\"\nconnect_timeout = \"1s\"\n");
    place.run(&["stats", "-o", "json"]).fails(1, &["cannot be reached"]);
    let place = Place::new("[redis]\ncluster = \"unix:///tmp/x\"\n");
    place.run(&["stats"]).fails(2, &["redis.cluster", "host and port"]);
}
