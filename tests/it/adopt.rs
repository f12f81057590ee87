//! `overdue adopt`: the way from key expiry, through the real binary on a real Redis.

mod orders;

use std::cell::Cell;

use overdue::{
    error::TroubleKind,
    queue::{Adopted, Candidate, Expected, Mode, Takeover},
};
use redis::Value;
use serde_json::json;

use crate::support::{
    LEASE, NOTHING, RedisServer, Rig, T0, eventually, id,
    process::{Place, Ran},
    registration, trouble,
};
/// 2100-01-01T00:00:00Z: a TTL that does not end while a test runs.
const FAR: i64 = 4_102_444_800_000;

/// A system built on key expiry: keys of its own beside a queue of its own.
struct Shop {
    rig: Rig,
    place: Place,
    /// What every `adopt` gets.
    flags: &'static str,
}

impl Shop {
    async fn new() -> Self {
        Self::on(RedisServer::shared()).await
    }

    async fn on(server: &RedisServer) -> Self {
        Self::with(server, "log").await
    }

    async fn with(server: &RedisServer, handler: &str) -> Self {
        let rig = Rig::rooted_on(server).await;
        let (url, queue) = (server.root_url(), rig.name());
        let config = format!("[redis]\nurl = \"{url}\"\n[queue.{queue}.handler]\ntype = \"{handler}\"\n");
        Self { rig, place: Place::new(&config), flags: if handler == "order" { "" } else { "--in-place" } }
    }

    fn key(&self, name: &str) -> String {
        format!("{}:order:{name}", self.rig.name())
    }

    /// Stores an order as shops do: a hash with a TTL.
    async fn order(&self, name: &str, expires_at: i64) {
        let () = self.rig.send(redis::cmd("HSET").arg(self.key(name)).arg(&["amount", "100.00"])).await;
        self.renew(name, expires_at).await;
    }

    async fn renew(&self, name: &str, expires_at: i64) {
        let () = self.rig.send(redis::cmd("PEXPIREAT").arg(self.key(name)).arg(expires_at)).await;
    }

    /// Orders `0`, `1`, … that expire a millisecond after each other.
    async fn orders(&self, count: i64) {
        let mut pipe = redis::pipe();
        for n in 0..count {
            pipe.hset(self.key(&n.to_string()), "amount", "100.00").ignore();
            pipe.pexpire_at(self.key(&n.to_string()), FAR + n).ignore();
        }
        let () = pipe.query_async(&mut self.rig.connection()).await.expect("a foreign pipeline works");
    }

    /// When a key expires; -1 never.
    async fn expires_at(&self, name: &str) -> i64 {
        self.rig.send(redis::cmd("PEXPIRETIME").arg(self.key(name))).await
    }

    /// The deadline of a key that was adopted under its whole name.
    async fn deadline(&self, name: &str) -> Option<i64> {
        self.rig.on_key("ZSCORE", "scheduled", self.key(name)).await
    }

    /// The deadline of each of so many orders, and when its key expires.
    async fn all(&self, count: i64) -> Vec<(Option<i64>, i64)> {
        let mut pipe = redis::pipe();
        for key in (0..count).map(|n| self.key(&n.to_string())) {
            pipe.zscore(self.rig.key("scheduled"), &key).cmd("PEXPIRETIME").arg(&key);
        }
        let flat: Vec<Option<i64>> =
            pipe.query_async(&mut self.rig.connection()).await.expect("a foreign pipeline works");
        flat.chunks(2).map(|pair| (pair[0], pair[1].expect("an integer"))).collect()
    }

    fn arguments(&self, further: &str) -> Vec<String> {
        let glob = self.key("*");
        let line = format!("adopt {glob} --queue {} {} {further}", self.rig.name(), self.flags);
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn adopt(&self, further: &str) -> Ran {
        let arguments = self.arguments(further);
        self.place.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn report(&self, further: &str) -> serde_json::Value {
        self.adopt(&format!("{further} -o json")).json()
    }
}

#[tokio::test]
async fn a_ttl_becomes_a_deadline_and_goes() {
    let shop = Shop::new().await;
    shop.order("42", FAR + 42).await;
    let () = shop.rig.send(redis::cmd("SET").arg(shop.key("text")).arg("x").arg("PXAT").arg(FAR + 7)).await;
    let () = shop.rig.send(redis::cmd("SET").arg(shop.key("stays")).arg("x")).await;

    let report = shop.report("");
    assert_eq!(
        (&report["scanned"], &report["adopted"], &report["no_ttl"]),
        (&json!(3), &json!(2), &json!(1))
    );
    for (name, due_at) in [("42", FAR + 42), ("text", FAR + 7)] {
        assert_eq!((shop.deadline(name).await, shop.expires_at(name).await), (Some(due_at), -1), "{name}");
    }
    assert_eq!(shop.deadline("stays").await, None);
    let amount: String = shop.rig.send(redis::cmd("HGET").arg(shop.key("42")).arg("amount")).await;
    assert_eq!(amount, "100.00");

    let again = shop.report("");
    assert_eq!((&again["adopted"], &again["already_adopted"]), (&json!(0), &json!(2)));
    assert_eq!(shop.rig.members("scheduled").await.len(), 2);

    let claim = shop.rig.when(FAR + 42).claim(10, LEASE).await.expect("a claim");
    let fired = claim.deliveries.iter().find(|delivery| delivery.id.as_str() == shop.key("42"));
    assert_eq!(fired.expect("it fires").due_at.as_ms(), FAR + 42);
    assert_eq!(shop.report("")["already_adopted"], 2, "what is leased is known");
}

#[tokio::test]
async fn redis_before_7_tells_only_the_time_left_and_the_deadline_is_exact_all_the_same() {
    let server = RedisServer::start();
    let shop = Shop::on(&server).await;
    shop.orders(500).await;
    // To the script this is the same as a Redis that does not know the command.
    shop.rig.admin(&["ACL", "SETUSER", "default", "-pexpiretime"]).await;
    assert_eq!(shop.report("--keep-ttl")["adopted"], 500);
    assert_eq!(shop.report("--keep-ttl")["already_adopted"], 500);
    assert_eq!(shop.report("")["adopted"], 500);
    shop.rig.admin(&["ACL", "SETUSER", "default", "+pexpiretime"]).await;
    assert_eq!(shop.all(500).await, (FAR..FAR + 500).map(|at| (Some(at), -1)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_shows_what_would_be() {
    let shop = Shop::new().await;
    shop.orders(7).await;
    let report = shop.report("--dry-run --id-from match");
    assert_eq!((&report["dry_run"], &report["adopted"]), (&json!(true), &json!(7)));
    let examples = report["examples"].as_array().expect("a list");
    assert_eq!(examples.len(), 5);
    let n: i64 = examples[0]["id"].as_str().expect("text").parse().expect("what the star stands for");
    assert_eq!(examples[0]["key"], shop.key(&n.to_string()));
    assert_eq!(examples[0]["due_at"], overdue::types::rfc3339_ms(FAR + n));
    let text = shop.adopt("--dry-run").ok();
    assert!(text.contains("would_be_adopted") && text.contains("due 2100-01-01T00:00:00.00"), "{text}");

    assert_eq!(shop.expires_at("3").await, FAR + 3);
    assert!(shop.rig.keys().await.is_empty());
}

#[tokio::test]
async fn while_a_key_keeps_its_ttl_renewals_are_followed_and_nothing_is_earlier() {
    let shop = Shop::new().await;
    shop.order("42", FAR).await;
    let ran = shop.adopt("--keep-ttl");
    ran.ok();
    assert!(ran.stderr().contains("may be gone"), "{}", ran.stderr());
    assert_eq!((shop.deadline("42").await, shop.expires_at("42").await), (Some(FAR), FAR));
    assert_eq!(shop.report("--keep-ttl")["already_adopted"], 1);

    shop.renew("42", FAR + 1000).await;
    assert_eq!(shop.report("--keep-ttl")["adopted"], 1);
    assert_eq!(shop.deadline("42").await, Some(FAR + 1000));

    shop.rig.zadd(shop.key("42"), FAR + 2000).await;
    assert_eq!(shop.report("")["adopted"], 1);
    assert_eq!((shop.deadline("42").await, shop.expires_at("42").await), (Some(FAR + 2000), -1));

    shop.renew("42", FAR + 3000).await;
    assert_eq!(shop.report("")["adopted"], 1, "a TTL that an application set again is taken over again");
    assert_eq!((shop.deadline("42").await, shop.expires_at("42").await), (Some(FAR + 3000), -1));
}

#[tokio::test]
async fn no_renewal_is_lost_while_it_runs() {
    const COUNT: i64 = 100;
    const ROUNDS: i64 = 10;
    let shop = Shop::new().await;
    shop.orders(COUNT).await;
    let keys: Vec<_> = (0..COUNT).map(|n| candidate(&shop.key(&n.to_string()))).collect();
    let over = Cell::new(false);
    let application = async {
        for round in 1..=ROUNDS {
            for n in 0..COUNT {
                shop.renew(&n.to_string(), FAR + round * 1000 + n).await;
            }
        }
        over.set(true);
    };
    let adoption = async {
        while !over.get() {
            shop.rig.adopt(&keys, Takeover::Move).await.expect("an answer");
        }
        shop.rig.adopt(&keys, Takeover::Move).await.expect("an answer");
    };
    tokio::join!(application, adoption);
    let last = FAR + ROUNDS * 1000;
    assert_eq!(shop.all(COUNT).await, (last..last + COUNT).map(|at| (Some(at), -1)).collect::<Vec<_>>());
}

#[tokio::test]
async fn killed_in_the_middle_it_leaves_each_key_with_either_a_ttl_or_a_deadline() {
    const COUNT: i64 = 5000;
    let shop = Shop::new().await;
    shop.orders(COUNT).await;
    for _ in 0..3 {
        let before = shop.rig.members("scheduled").await.len();
        let arguments = shop.arguments("--rate 1000");
        let running = shop.place.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
        let adopted_more = async || (shop.rig.members("scheduled").await.len() > before).then_some(());
        eventually("some are adopted", adopted_more).await;
        running.kill9().await;
        let all = shop.all(COUNT).await;
        for (at, seen) in (FAR..).zip(&all) {
            assert!([(None, at), (Some(at), -1)].contains(seen), "{seen:?}");
        }
        assert!(all.iter().any(|(deadline, _)| deadline.is_none()), "it was in the middle");
    }
    let report = shop.report("");
    let count = |name: &str| report[name].as_i64().expect("a number");
    assert!(count("adopted") > 0 && count("already_adopted") > 0, "{report}");
    assert_eq!(count("adopted") + count("already_adopted"), COUNT, "{report}");
    assert_eq!(shop.all(COUNT).await, (FAR..FAR + COUNT).map(|at| (Some(at), -1)).collect::<Vec<_>>());
    assert_eq!(shop.rig.members("scheduled").await.len() as i64, COUNT);
}

#[tokio::test]
async fn what_cannot_be_adopted_is_named_and_stays_as_it_is() {
    let shop = Shop::new().await;
    let long = "x".repeat(300);
    shop.order(&long, FAR).await;
    shop.order("late", 300_000_000_000_000).await;
    shop.order("good", FAR).await;
    let mut binary = shop.key("").into_bytes();
    binary.extend(b"\xff\n");
    let () = shop.rig.send(redis::cmd("SET").arg(&binary).arg("x").arg("PXAT").arg(FAR)).await;

    let ran = shop.adopt("-o json");
    ran.fails(1, &["3 of 4 keys", "as they were"]);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout()).expect("JSON");
    assert_eq!((&report["adopted"], &report["failed"]), (&json!(1), &json!(3)));
    let reasons: Vec<_> = report["failures"].as_array().expect("a list").iter().collect();
    assert_eq!(reasons.iter().find(|row| row["reason"] == "invalid_id").expect("two of them")["count"], 2);
    assert!(ran.stdout().contains("\u{fffd}\\\\n"), "control characters are escaped: {}", ran.stdout());
    assert_eq!(shop.expires_at(&long).await, FAR);
    assert_eq!(shop.expires_at("late").await, 300_000_000_000_000);
    let names = shop.adopt("");
    assert!(names.stdout().contains("past the year 9999"), "{}", names.stdout());
}

#[tokio::test]
async fn what_is_wrong_with_the_call_is_exit_code_2() {
    let shop = Shop::new().await;
    let queue = shop.rig.name().as_str();
    let run = |words: &[&str]| shop.place.run(&[&["adopt"], words, &["--queue", queue]].concat());
    run(&["a*b*", "--in-place", "--id-from", "match"]).fails(2, &["exactly one *", "--id-from key"]);
    run(&["a*", "--in-place", "--rate", "0"]).fails(2, &["--rate"]);
}

#[tokio::test]
async fn keys_of_overdue_are_left_alone() {
    let shop = Shop::new().await;
    shop.rig.zadd("n1", FAR).await;
    shop.rig.on_key::<Value>("PEXPIREAT", "scheduled", FAR).await;
    let lock = format!("overdue:lock:{{{}}}", shop.rig.name());
    shop.rig.send::<()>(redis::cmd("SET").arg(&lock).arg("x").arg("PXAT").arg(FAR)).await;
    for pattern in [shop.rig.key("*"), format!("{lock}*")] {
        let ran = shop.place.run(&["adopt", &pattern, "--queue", "orders", "--in-place", "-o", "json"]);
        assert_eq!(ran.json()["scanned"], 0);
    }
    assert_eq!(shop.rig.on_key::<i64>("PEXPIRETIME", "scheduled", NOTHING).await, FAR);
    assert_eq!(shop.rig.send::<i64>(redis::cmd("PEXPIRETIME").arg(&lock)).await, FAR);
}

#[tokio::test]
async fn it_works_in_the_database_of_the_url() {
    let server = RedisServer::start();
    let url = format!("{}?db=3", server.root_url());
    let place = Place::new(&format!("[redis]\nurl = \"{url}\"\n[queue.orders]\n"));
    let mut client = crate::support::connect(&url).await.expect("it listens");
    let () = redis::cmd("SET")
        .arg(&["a", "x", "PXAT"])
        .arg(FAR)
        .query_async(&mut client)
        .await
        .expect("a foreign command works");
    let report = place.run(&["adopt", "*", "--queue", "orders", "--in-place", "-o", "json"]).json();
    assert_eq!(report["adopted"], 1);
    let score: i64 = redis::cmd("ZSCORE")
        .arg("overdue:{orders}:scheduled")
        .arg("a")
        .query_async(&mut client)
        .await
        .expect("it has a deadline there");
    assert_eq!(score, FAR);
}

fn candidate(key: &str) -> Candidate {
    Candidate { key: key.to_owned(), id: id(key) }
}

#[tokio::test]
async fn a_key_that_is_gone_gets_no_deadline() {
    let shop = Shop::new().await;
    shop.order("expired", T0).await;
    let keys = [candidate(&shop.key("expired")), candidate(&shop.key("deleted"))];
    let answers = shop.rig.adopt(&keys, Takeover::Move).await.expect("an answer");
    assert_eq!(answers, [Adopted::Gone; 2]);
    assert!(shop.rig.keys().await.is_empty());
}

#[tokio::test]
async fn it_starts_with_a_clean_record() {
    let shop = Shop::new().await;
    shop.order("42", FAR).await;
    let key = shop.key("42");
    shop.rig.buried(&key, "old").await;
    shop.adopt("").ok();
    assert_eq!(shop.rig.keys().await, ["meta", "scheduled"], "neither dead, nor a payload, nor attempts");

    shop.rig.schedule(&[registration("x", T0, "y")], Mode::Replace, Expected::Anything).await.expect("room");
    shop.order("x", FAR).await;
    let to_x = [Candidate { key: shop.key("x"), id: id("x") }];
    shop.rig.adopt(&to_x, Takeover::Move).await.expect("an answer");
    let payload: String = shop.rig.on_key("HGET", "payload", "x").await;
    assert_eq!(payload, "y", "a scheduled id keeps its payload");
}

#[tokio::test]
async fn a_full_redis_refuses_and_nothing_has_changed() {
    let server = RedisServer::start();
    let shop = Shop::on(&server).await;
    shop.order("42", FAR).await;
    shop.rig.admin(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = shop.rig.adopt(&[candidate(&shop.key("42"))], Takeover::Move).await;
    assert_eq!(trouble(refused), TroubleKind::OutOfMemory);
    assert_eq!((shop.deadline("42").await, shop.expires_at("42").await), (None, FAR));
    shop.adopt("").fails(1, &["full", "running it again is safe"]);
}

#[tokio::test]
async fn a_key_of_overdue_with_another_type_is_named_and_nothing_has_changed() {
    let shop = Shop::new().await;
    shop.order("42", FAR).await;
    shop.rig.on_key::<Value>("SET", "attempts", "x").await;
    shop.adopt("").fails(1, &["attempts", "expects a hash"]);
    assert_eq!((shop.deadline("42").await, shop.expires_at("42").await), (None, FAR));
}
