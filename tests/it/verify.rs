//! `overdue verify`: what is wrong with a queue is found and mended, and what is in motion is left alone.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use overdue::queue::{Expected, Mode};
use serde_json::Value;

use crate::support::{LEASE, NOTHING, RedisServer, Rig, T0, leases, many, process::Place, registration};

struct Ward {
    rig: Rig,
    place: Place,
}

impl Ward {
    async fn new() -> Self {
        let rig = Rig::rooted_on(RedisServer::shared()).await;
        let url = RedisServer::shared().url();
        let place = Place::new(&format!("[redis]\nurl = \"{url}\"\n[queue.{}]\n", rig.name()));
        Self { rig, place }
    }

    /// The exit code, and finding and count of each row.
    fn verify(&self, flags: &[&str]) -> (i32, Vec<(String, u64)>) {
        let name = self.rig.name().to_string();
        let ran = self.place.run(&[&["verify", &name, "-o", "json"], flags].concat());
        let rows: Vec<Value> =
            serde_json::from_str(&ran.stdout()).unwrap_or_else(|_| panic!("{}", ran.stderr()));
        let row = |row: &Value| (row["finding"].as_str().unwrap().to_owned(), row["count"].as_u64().unwrap());
        (ran.code(), rows.iter().map(row).collect())
    }

    /// Found as this alone, mended, and not found again.
    fn is_mended(&self, finding: &str, count: u64) {
        let expected = vec![(finding.to_owned(), count)];
        assert_eq!(self.verify(&[]), (1, expected.clone()));
        assert_eq!(self.verify(&["--repair"]), (0, expected));
        assert_eq!(self.verify(&[]), (0, Vec::new()), "after {finding}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flaw_is_found_and_mended_and_no_id_is_lost() {
    let ward = Ward::new().await;
    let rig = &ward.rig;
    let future = 4_102_444_800_000_i64;
    let all: Vec<_> = (0..300).map(|n| registration(&format!("s{n}"), future, "p")).collect();
    rig.schedule_all(&all).await;
    rig.buried("d", "p").await;
    let held = rig.leased("l", "p").await;
    assert_eq!(ward.verify(&[]), (0, Vec::new()));

    let _: i64 = rig.on_key("ZADD", "dead", (T0, "s7")).await;
    ward.is_mended("scheduled_and_dead", 1);
    assert!(rig.members("scheduled").await.contains(&"s7".to_owned()));
    let _: i64 = rig.on_key("ZADD", "dead", (T0, "l")).await;
    ward.is_mended("leased_and_dead", 1);
    let _: i64 = rig.on_key("HSET", "payload", ("nobody", "p")).await;
    ward.is_mended("payload_of_nobody", 1);
    let _: i64 = rig.on_key("HSET", "attempts", ("nobody", "{}")).await;
    ward.is_mended("record_of_nobody", 1);
    let _: i64 = rig.on_key("HSET", "attempts", ("s8", "no JSON")).await;
    ward.is_mended("damaged_record", 1);
    let _: i64 = rig.on_key("HSET", "batches", ("17", "p")).await;
    ward.is_mended("batch_of_nobody", 1);
    let _: i64 = rig.on_key("ZADD", "leases", (future, "17")).await;
    ward.is_mended("lease_of_nobody", 1);
    let _: i64 = rig.on_key("PEXPIRE", "scheduled", 3_600_000).await;
    ward.is_mended("ttl", 1);
    let left: i64 = rig.on_key("PTTL", "scheduled", NOTHING).await;
    assert_eq!(left, -1);
    rig.zadd("in-seconds", 1_767_225_600).await;
    ward.is_mended("impossible_score", 1);
    assert!(rig.members("dead").await.contains(&"in-seconds".to_owned()));

    let _: i64 = rig.on_key("HDEL", "batches", held.token.get()).await;
    ward.is_mended("not_in_batch", 1);
    let _: i64 = rig.on_key("ZREM", "leases", held.token.get()).await;
    ward.is_mended("lease_without_end", 1);
    let again = rig.claim(10, LEASE).await.expect("claimed");
    assert_eq!(again.deliveries[0].id.as_str(), "l", "its lease has ended");
    let counts = rig.counts().await.expect("counted");
    assert_eq!((counts.scheduled, counts.leased, counts.dead), (300, 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_type_is_named_and_left_to_people() {
    let ward = Ward::new().await;
    ward.rig.put("a", T0, "").await;
    let _: redis::Value = ward.rig.on_key("SET", "dead", "a text").await;
    assert_eq!(ward.verify(&["--repair"]), (1, vec![("wrong_type".to_owned(), 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_motion_is_no_finding() {
    let ward = Ward::new().await;
    let stop = Arc::new(AtomicBool::new(false));
    let queue = Rig::on(RedisServer::shared()).await;
    let queue = overdue::queue::Queue::new(queue.redis().clone(), "overdue", ward.rig.name().clone());
    let work = {
        let (queue, stop) = (queue.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut all = many(400);
                all.iter_mut().for_each(|one| one.payload = "p".parse().ok());
                queue.schedule(&all, Mode::Replace, Expected::Anything).await.expect("registered");
                let claim = queue.claim(300, LEASE).await.expect("claimed");
                let held = leases(&claim);
                queue.release(&held[..100]).await.expect("released");
                queue.ack(&held[100..]).await.expect("acknowledged");
                rounds += 1;
            }
            rounds
        })
    };
    for _ in 0..5 {
        assert_eq!(ward.verify(&["--repair"]), (0, Vec::new()));
    }
    stop.store(true, Ordering::Relaxed);
    assert!(work.await.expect("no panic") > 0);
}
