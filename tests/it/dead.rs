//! The dead set: filters, dry runs and rates of the commands, and its retention.

use std::time::{Duration, Instant};

use overdue::queue::{Rejected, State};
use serde_json::{Value, json};

use crate::support::{
    NOTHING, RedisServer, Rig, T0, eventually, id, leases, many,
    process::{Place, Ran},
};

const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MS: i64 = 3_600_000;

/// A queue, and a place whose configuration knows it.
struct Shop {
    rig: Rig,
    place: Place,
}

impl Shop {
    async fn new(more: &str) -> Self {
        let rig = Rig::new().await;
        let url = RedisServer::shared().url();
        let place = Place::new(&format!("[redis]\nurl = \"{url}\"\n[queue.{}]\n{more}\n", rig.name()));
        Self { rig, place }
    }

    /// With `order-1` to `order-3` and `cart-1`, the second and the last rejected, the others of spent attempts.
    async fn with_four() -> Self {
        let shop = Self::new("").await;
        let now_ms = shop.now_ms().await;
        for (name, reason, age_h) in [
            ("order-1", "attempts_spent", 50),
            ("order-2", "rejected", 40),
            ("order-3", "attempts_spent", 2),
            ("cart-1", "rejected", 0),
        ] {
            shop.bury(name, reason, now_ms - age_h * HOUR_MS).await;
        }
        shop
    }

    async fn now_ms(&self) -> i64 {
        self.rig.redis().time().await.unwrap().as_ms()
    }

    async fn bury(&self, name: &str, reason: &'static str, at_ms: i64) {
        let lease = self.rig.leased(name, "kept").await.lease();
        let rejected = Rejected { id: name.into(), token: lease.token, reason, error: "no".to_owned() };
        self.rig.when(at_ms).bury(&[rejected]).await.unwrap();
    }

    /// `n0`, `n1`, … long dead.
    async fn bury_many(&self, count: usize) {
        for step in many(count).chunks(1000) {
            self.rig.schedule_all(step).await;
            let claim = self.rig.claim_at(T0, 1000).await;
            let rejected = leases(&claim).iter().map(crate::support::rejected).collect::<Vec<_>>();
            self.rig.when(T0).bury(&rejected).await.unwrap();
        }
    }

    fn run(&self, command: &str) -> Ran {
        let queue = self.rig.name().as_str();
        self.place
            .run(&command.split(' ').map(|word| if word == "Q" { queue } else { word }).collect::<Vec<_>>())
    }

    fn json(&self, command: &str) -> Value {
        self.run(&format!("{command} -o json")).json()
    }

    fn listed(&self, filter: &str) -> Vec<String> {
        let rows = self.json(format!("dead list Q {filter}").trim());
        rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }

    async fn dead(&self) -> Vec<String> {
        self.rig.members("dead").await
    }
}

#[tokio::test]
async fn filters_hold_together() {
    let shop = Shop::with_four().await;
    for (filter, expected) in [
        ("", vec!["order-1", "order-2", "order-3", "cart-1"]),
        ("--reason rejected", vec!["order-2", "cart-1"]),
        ("--reason no_such", vec![]),
        ("--older-than 1d", vec!["order-1", "order-2"]),
        ("--older-than 45h", vec!["order-1"]),
        ("--older-than 60d", vec![]),
        ("--prefix order-", vec!["order-1", "order-2", "order-3"]),
        ("--prefix order- --reason attempts_spent --older-than 1h", vec!["order-1", "order-3"]),
        ("--prefix order- --limit 2", vec!["order-1", "order-2"]),
    ] {
        assert_eq!(shop.listed(filter), expected, "{filter}");
    }
    let stderr = shop.run("dead list Q --prefix order- --limit 2").stderr();
    let cursor = stderr.trim().rsplit(' ').next().unwrap();
    assert_eq!(shop.listed(&format!("--prefix order- --cursor {cursor}")), ["order-3"]);
    assert!(shop.run("dead list Q --older-than 60d").stderr().contains("no such dead ids"));
}

#[tokio::test]
async fn a_dry_run_tells_and_changes_nothing() {
    let shop = Shop::with_four().await;
    let before = shop.rig.on_key::<Vec<String>>("ZRANGE", "dead", (0, -1, "WITHSCORES")).await;
    for (command, count) in [
        ("dead delete Q --all --dry-run", 4),
        ("dead retry Q --all --dry-run --rate 1", 4),
        ("dead delete Q --older-than 1d --dry-run", 2),
        ("dead retry Q order-1 cart-1 --dry-run", 2),
    ] {
        let report = shop.json(command);
        assert_eq!((&report["count"], &report["dry_run"]), (&json!(count), &json!(true)), "{command}");
        assert_eq!((&report["not_found"], &report["queue"]), (&json!(0), &json!(shop.rig.name())));
    }
    assert_eq!(shop.run("dead retry Q --prefix order- --dry-run").ok(), "3 would be retried\n");
    shop.run("dead delete Q order-1 nope --dry-run").fails(3, &["1 of 2 ids are not dead"]);
    assert_eq!(shop.rig.on_key::<Vec<String>>("ZRANGE", "dead", (0, -1, "WITHSCORES")).await, before);
}

#[tokio::test]
async fn filters_choose_what_is_retried_and_deleted() {
    let shop = Shop::with_four().await;
    let deleted = shop.json("dead delete Q --reason rejected --older-than 1d");
    let report =
        json!({"queue": shop.rig.name(), "result": "deleted", "count": 1, "not_found": 0, "dry_run": false});
    assert_eq!(deleted, report);
    assert_eq!(shop.dead().await, ["order-1", "order-3", "cart-1"]);

    let retried = shop.json("dead retry Q --all --prefix order-");
    assert_eq!((&retried["result"], &retried["count"]), (&json!("retried"), &json!(2)));
    assert_eq!(
        (shop.dead().await, shop.rig.members("scheduled").await.len()),
        (vec!["cart-1".to_owned()], 2)
    );
    assert_eq!(shop.json("dead delete Q --prefix nope")["count"], 0);
}

#[tokio::test]
async fn wrong_usage_is_told() {
    let shop = Shop::new("").await;
    shop.run("dead delete Q").fails(2, &["--all", "--reason", "--older-than", "--prefix"]);
    for filter in ["--all", "--reason rejected", "--older-than 1d", "--prefix a"] {
        shop.run(&format!("dead retry Q a {filter}")).fails(2, &["cannot be used with"]);
    }
    shop.run("dead retry Q --all --rate 0").fails(2, &["--rate"]);
    shop.run("dead retry Q --older-than 1x").fails(2, &["--older-than", "unit"]);
}

#[tokio::test]
async fn thousands_go_page_by_page() {
    let shop = Shop::new("").await;
    shop.bury_many(5000).await;
    // n4, n40 … n499, n4000 … n4999: few in each page.
    assert_eq!(shop.json("dead delete Q --prefix n4")["count"], 1111);
    assert_eq!(shop.listed("--prefix n49").len(), 0);
    assert_eq!(shop.listed("--prefix n39 --limit 50").len(), 50);
    assert_eq!(shop.json("dead retry Q --all")["count"], 3889);
    let counts = shop.rig.counts().await.unwrap();
    assert_eq!((counts.dead, counts.scheduled), (0, 3889));
}

#[tokio::test]
async fn a_rate_is_kept_to() {
    let shop = Shop::new("").await;
    shop.bury_many(60).await;
    let begun = Instant::now();
    assert_eq!(shop.json("dead retry Q --all --rate 100")["count"], 60);
    // Six steps of ten, a tenth of a second apart.
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    shop.bury_many(30).await;
    let ids: Vec<String> = (0..30).map(|n| format!("n{n}")).collect();
    let begun = Instant::now();
    assert_eq!(shop.json(&format!("dead delete Q {} --rate 100", ids.join(" ")))["count"], 30);
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn retrying_all_ends_though_the_ids_die_again_at_once() {
    let shop = Shop::new(
        "poll_interval = \"1ms\"\nmax_attempts = 1\n\
        handler = { type = \"command\", command = [\"false\"] }",
    )
    .await;
    shop.bury_many(20).await;
    let serve = shop.place.serve().await;
    // Slow enough for each to be dead again before the end.
    let report = shop.json("dead retry Q --all --rate 100");
    assert_eq!(report["count"], 20);
    eventually("they are dead again", async || (shop.dead().await.len() == 20).then_some(())).await;
    serve.stop().await;
}

#[tokio::test]
async fn what_is_beyond_the_contract_is_told_only_if_it_is_meant() {
    let shop = Shop::with_four().await;
    shop.rig.on_key::<i64>("ZADD", "dead", (T0, b"\xff\xfe".as_slice())).await;
    shop.run("dead delete Q --all --dry-run").fails(1, &["1 ids are outside the contract"]);
    assert_eq!(shop.json("dead delete Q --prefix order-")["count"], 3);
}

#[tokio::test]
async fn trim_dead_removes_what_is_older_than_the_retention_and_all_that_belongs_to_it() {
    let rig = Rig::new().await;
    rig.buried("old", "p").await;
    let lease = rig.leased("young", "p").await.lease();
    rig.when(T0 + 1).bury(&[crate::support::rejected(&lease)]).await.unwrap();
    rig.put("scheduled", T0, "p").await;

    assert_eq!(rig.when(T0 + HOUR_MS).trim_dead(HOUR).await.unwrap(), 0, "exactly as old is not older");
    assert_eq!(rig.when(T0 + HOUR_MS + 1).trim_dead(HOUR).await.unwrap(), 1);
    assert!(rig.shown("old").await.is_none());
    assert_eq!(rig.shown("young").await.unwrap().state, State::Dead);
    assert_eq!((rig.payloads().await, rig.members("scheduled").await.len()), (2, 1));

    assert_eq!(rig.when(T0 + HOUR_MS + 2).trim_dead(HOUR).await.unwrap(), 1);
    rig.cancel(&[id("scheduled")]).await.unwrap();
    assert_eq!(rig.keys().await, ["meta"]);
}

#[tokio::test]
async fn trim_dead_leaves_a_new_registration_its_payload() {
    let rig = Rig::new().await;
    rig.buried("a", "old").await;
    rig.hset("a", "new").await;
    rig.zadd("a", T0 + 5 * HOUR_MS).await;
    assert_eq!(rig.when(T0 + 2 * HOUR_MS).trim_dead(HOUR).await.unwrap(), 1);
    let delivery = rig.claim_one(T0 + 5 * HOUR_MS).await;
    assert_eq!((delivery.attempt, delivery.payload.unwrap().as_str()), (1, "new"));
}

#[tokio::test]
async fn trim_dead_takes_a_thousand_at_a_time() {
    let shop = Shop::new("").await;
    shop.bury_many(2300).await;
    let later = shop.rig.when(T0 + 2 * HOUR_MS);
    for (trimmed, left) in [(1000, 1300), (1000, 300), (300, 0), (0, 0)] {
        assert_eq!(later.trim_dead(HOUR).await.unwrap(), trimmed);
        assert_eq!(shop.dead().await.len(), left);
    }
    assert_eq!(shop.rig.on_key::<i64>("EXISTS", "attempts", NOTHING).await, 0);
}

#[tokio::test]
async fn serve_trims_only_where_a_retention_is_set() {
    let (kept, trimmed) = (Shop::new("").await, Shop::new("dead_retention = \"30d\"").await);
    for shop in [&kept, &trimmed] {
        let now_ms = shop.now_ms().await;
        shop.bury("old", "rejected", now_ms - 31 * 24 * HOUR_MS).await;
        shop.bury("young", "rejected", now_ms - 29 * 24 * HOUR_MS).await;
    }
    let keeps = kept.place.serve().await;
    let trims = trimmed.place.serve().await;
    let line = trims.says("trimmed=1").await;
    assert!(line.contains(trimmed.rig.name().as_str()), "{line}");
    assert_eq!(trimmed.dead().await, ["young"]);
    // Polled for at least as long, since it was started first: it has delivered something.
    kept.rig.put("polled", T0, "").await;
    eventually("it polls", async || kept.rig.shown("polled").await.is_none().then_some(())).await;
    assert_eq!(kept.dead().await, ["old", "young"]);
    keeps.stop().await;
    trims.stop().await;
}

#[tokio::test]
async fn more_than_a_call_takes_is_trimmed_poll_by_poll() {
    let shop = Shop::new("dead_retention = \"1h\"").await;
    shop.bury_many(2500).await;
    let serve = shop.place.serve().await;
    eventually("all are gone", async || shop.dead().await.is_empty().then_some(())).await;
    serve.says("trimmed=500").await;
    assert_eq!(serve.log().iter().filter(|line| line.contains("trimmed=1000")).count(), 2);
    serve.stop().await;
}
