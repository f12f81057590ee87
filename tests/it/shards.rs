//! A queue that is spread over several slots of a cluster: where its ids are, and how they get there.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use overdue::{
    Id,
    queue::{Delivery, Due, Expected, Mode, Queue, Registration, Settled, State},
    redis::slot_of,
};

use crate::support::{
    LIMIT,
    group::{Clustered, patiently},
    process::Place,
};

const FAR: Duration = Duration::from_secs(3600);

fn id(text: impl AsRef<str>) -> Id {
    Id::new(text).expect("an id")
}

async fn register(queue: &Queue, ids: impl IntoIterator<Item = String>, due: Duration) {
    let all: Vec<_> =
        ids.into_iter().map(|text| Registration { id: id(text), due: Due::In(due), payload: None }).collect();
    queue.schedule(&all, Mode::Replace, Expected::Anything).await.expect("registered");
}

fn key(shard: u16) -> String {
    if shard == 0 {
        "overdue:{orders}:scheduled".into()
    } else {
        format!("overdue:{{orders#{shard}}}:scheduled")
    }
}

/// How many ids are scheduled in a shard, with a plain command.
async fn cardinality(group: &Clustered, shard: u16) -> u64 {
    let node = group.owner(slot_of(&key(shard))).await;
    group.nodes[node].ask(&["ZCARD", &key(shard)]).await
}

/// Every id, as `list` pages through them.
async fn listed(queue: &Queue) -> Vec<String> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = queue.list(State::Scheduled, 70, after.as_ref()).await.expect("listed");
        ids.extend(page.rows.into_iter().map(|row| row.id));
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_found_wherever_they_are() {
    let group = Clustered::start(2, 0, &[]).await;
    let (queue, stale) = (group.queue("orders"), group.queue("orders"));
    register(&stale, (0..100).map(|n| format!("o{n}")), FAR).await;
    let done = queue.reshard(4, |_| {}).await.expect("spread");
    assert_eq!((done.before.homes(), done.shards.homes(), done.shards.all(), done.stayed), (1, 4, 4, 0));
    register(&queue, (100..200).map(|n| format!("o{n}")), FAR).await;
    // One that knew nothing of it, with ids that exist and ids that do not.
    register(&stale, (150..300).map(|n| format!("o{n}")), FAR).await;
    assert_eq!(queue.counts().await.expect("counted").scheduled, 300);
    let ids = listed(&queue).await;
    assert_eq!((ids.len(), ids.iter().collect::<HashSet<_>>().len()), (300, 300));
    let shards = queue.shards();
    let mut expected: BTreeMap<u16, u64> = BTreeMap::new();
    ids.iter().for_each(|id| *expected.entry(shards.home_of(id.as_bytes())).or_default() += 1);
    for (shard, count) in expected {
        assert_eq!(cardinality(&group, shard).await, count, "shard {shard}");
    }

    // Written with a plain command, anywhere.
    for verb in ["cancel", "reschedule", "register"] {
        let stray = id(format!("stray-{verb}"));
        let shard = (shards.home_of(stray.as_str().as_bytes()) + 1) % 4;
        let node = group.owner(slot_of(&key(shard))).await;
        let _: i64 = group.nodes[node].ask(&["ZADD", &key(shard), "4102444800000", stray.as_str()]).await;
        assert!(queue.show(&stray).await.expect("shown").is_some(), "{verb}");
        match verb {
            "cancel" => drop(queue.cancel(std::slice::from_ref(&stray)).await.expect("cancelled")),
            "reschedule" => {
                queue.reschedule(&stray, Due::In(FAR), Expected::Anything).await.expect("moved");
            }
            _ => register(&queue, [stray.to_string()], FAR).await,
        }
        let here = cardinality(&group, shard).await;
        let all = queue.counts().await.expect("counted").scheduled;
        assert_eq!(listed(&queue).await.len() as u64, all, "{verb}: {here} in shard {shard}");
        assert_eq!(queue.show(&stray).await.expect("shown").is_some(), verb != "cancel");
        queue.cancel(&[stray]).await.expect("cancelled");
        assert_eq!(queue.counts().await.expect("counted").scheduled, 300, "{verb}");
    }

    stale.cancel(&(0..150).map(|n| id(format!("o{n}"))).collect::<Vec<_>>()).await.expect("cancelled");
    assert_eq!(queue.counts().await.expect("counted").scheduled, 150);
    queue.reshard(1, |_| {}).await.expect("put together");
    assert_eq!(cardinality(&group, 0).await, 150);

    // Where no shard is any more, nobody looks but the next `reshard`.
    let node = group.owner(slot_of(&key(3))).await;
    let _: i64 = group.nodes[node].ask(&["ZADD", &key(3), "4102444800000", "left-behind"]).await;
    let done = queue.reshard(1, |_| {}).await.expect("put together again");
    assert_eq!((done.moved, done.shards.all(), cardinality(&group, 0).await), (1, 1, 151));
    queue.purge().await.expect("purged");
    assert_eq!(stale.counts().await.expect("counted").scheduled, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_what_is_in_two_shards() {
    let group = Clustered::start(2, 0, &[]).await;
    let queue = group.queue("orders");
    queue.reshard(4, |_| {}).await.expect("spread");
    register(&queue, (0..300).map(|n| format!("o{n}")), FAR).await;
    let place = Place::new(&format!("{}[queue.orders]\nhandler.type = \"log\"\n", group.config()));
    let verify = || tokio::task::block_in_place(|| place.run(&["verify", "orders", "-o", "json"]));
    assert_eq!(verify().json(), serde_json::json!([]));
    let home = queue.shards().home_of(b"o7");
    let put = async |id: &str, shard: u16| {
        let node = group.owner(slot_of(&key(shard))).await;
        let _: i64 = group.nodes[node].ask(&["ZADD", &key(shard), "4102444800000", id]).await;
    };
    put("o7", (home + 1) % 4).await;
    // Not at home, and nowhere else.
    put("stray", (queue.shards().home_of(b"stray") + 1) % 4).await;
    let ran = verify();
    let findings: serde_json::Value = serde_json::from_str(&ran.stdout()).expect("JSON");
    let finding = &findings[0];
    assert_eq!(
        (ran.code(), finding["finding"].as_str(), &finding["count"]),
        (1, Some("in_two_shards"), &1.into())
    );
    assert_eq!(finding["examples"], serde_json::json!(["o7"]));
    queue.reshard(4, |_| {}).await.expect("taken home");
    assert_eq!((verify().json(), listed(&queue).await.len()), (serde_json::json!([]), 301));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_outside_claim_from_all_shards() {
    let group = Clustered::start(2, 0, &[]).await;
    let queue = group.queue("orders");
    queue.reshard(3, |_| {}).await.expect("spread");
    register(&queue, (0..60).map(|n| format!("o{n}")), Duration::ZERO).await;
    assert!(queue.pause(true).await.expect("paused"));
    assert!(queue.claim(10, LIMIT).await.expect("claimed").deliveries.is_empty());
    assert!(queue.pause(false).await.expect("resumed"));
    let mut seen = HashSet::new();
    while seen.len() < 60 {
        let claim = queue.claim(7, LIMIT).await.expect("claimed");
        let leases: Vec<_> = claim.deliveries.iter().map(Delivery::lease).collect();
        leases.iter().for_each(|lease| assert!(seen.insert(lease.id.clone()), "{} twice", lease.id));
        if let Some(token) = claim.token {
            queue.extend(&[token], LIMIT).await.expect("extended");
        }
        // By one that has just started, and knows of one shard.
        let settled = group.queue("orders").ack(&leases).await.expect("acknowledged");
        assert!(settled.iter().all(|settled| *settled == Settled::Done), "{settled:?}");
    }
    let counts = queue.counts().await.expect("counted");
    assert_eq!((counts.scheduled, counts.leased, counts.dead), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_new_is_paused_or_not_as_the_first_one_is() {
    let group = Clustered::start(2, 0, &[]).await;
    let queue = group.queue("orders");
    for (pauses, shards) in [(true, 4), (true, 1), (false, 1), (false, 4), (true, 2), (true, 5)] {
        queue.pause(pauses).await.expect("paused or not");
        queue.reshard(shards, |_| {}).await.expect("spread");
        for shard in queue.each_shard().await.expect("asked") {
            assert_eq!(shard.counts().await.expect("counted").paused, pauses, "of {shards}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_clients_do_not_keep_a_reshard_from_its_end() {
    let group = Clustered::start(2, 0, &[]).await;
    let queue = group.queue("orders");
    let done = {
        let mut reshard = std::pin::pin!(queue.reshard(4, |_| {}));
        let mut numbers = 0..;
        loop {
            let id = format!("plain-{}", numbers.next().unwrap_or(0));
            let node = &group.nodes[group.owner(slot_of(&key(0))).await];
            let _: i64 = node.ask(&["ZADD", &key(0), "4102444800000", &id]).await;
            tokio::select! {
                done = &mut reshard => break done.expect("spread"),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
    };
    assert!(!done.shards.is_moving());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_movers_die() {
    let group = Clustered::start(2, 0, &[]).await;
    let queue = group.queue("orders");
    register(&queue, (0..3000).map(|n| format!("o{n}")), FAR).await;
    let looking = tokio::spawn({
        let queue = group.queue("orders");
        async move {
            for n in (0..3000).cycle().step_by(71) {
                let ids: Vec<Id> = (n..(n + 20).min(3000)).map(|n| id(format!("o{n}"))).collect();
                let shown = queue.look(&ids).await.expect("looked");
                ids.iter().zip(shown).for_each(|(id, shown)| assert!(shown.is_some(), "{id}"));
            }
        }
    });
    for round in 0..40u64 {
        let mover = group.queue("orders");
        let homes = [4, 2, 5, 1][round as usize % 4];
        // Ends it somewhere on its way.
        let _ =
            tokio::time::timeout(Duration::from_millis(3 + 5 * round), mover.reshard(homes, |_| {})).await;
        let some = id(format!("o{}", round * 71));
        assert!(queue.show(&some).await.expect("shown").is_some(), "{some} in round {round}");
        assert!(!looking.is_finished(), "{:?}", looking.await);
    }
    looking.abort();
    queue.reshard(3, |_| {}).await.expect("spread");
    assert_eq!(listed(&queue).await.into_iter().collect::<HashSet<_>>().len(), 3000);
    let mut all = 0;
    for shard in 0..5 {
        all += cardinality(&group, shard).await;
    }
    assert_eq!(all, 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_fires_once_while_the_shards_change() {
    let group = Clustered::start(2, 0, &[]).await;
    let queue = group.queue("orders");
    let place =
        Place::new(&format!("{}[queue.orders]\nhandler.type = \"log\"\nshards = 2\n", group.config()));
    let serve = place.serve().await;
    patiently("the new queue is spread", async || {
        let shards = queue.ask_shards().await.expect("asked");
        (shards.homes() == 2 && !shards.is_moving()).then_some(())
    })
    .await;
    register(&queue, (0..500).map(|n| format!("far{n}")), FAR).await;
    let mut expected = HashSet::new();
    for (step, shards) in ["4", "3", "1"].into_iter().enumerate() {
        let registering = tokio::spawn({
            let queue = queue.clone();
            async move {
                let mut ids = Vec::new();
                for n in 0..100 {
                    let text = format!("s{step}-{n}");
                    register(&queue, [text.clone()], Duration::from_millis(20 * n)).await;
                    ids.push(text);
                }
                ids
            }
        });
        tokio::task::block_in_place(|| place.run(&["queue", "reshard", "orders", shards]).ok());
        expected.extend(registering.await.expect("registered"));
    }
    patiently("all fired", async || {
        let fired: HashSet<_> = serve.expired().into_iter().collect();
        expected.iter().all(|id| fired.contains(id)).then_some(())
    })
    .await;
    assert_eq!(serve.expired().len(), expected.len(), "each once, and no other");
    assert_eq!((queue.counts().await.expect("counted").scheduled, cardinality(&group, 0).await), (500, 500));
    serve.stop().await;
}
