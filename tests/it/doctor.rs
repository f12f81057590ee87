//! `overdue doctor`, and what `serve` makes of it.

use serde_json::Value;

use crate::support::{
    RedisServer, Rig, eventually,
    group::{Clustered, Node, Watched},
    process::{Place, Ran},
};

fn place(url: &str) -> Place {
    Place::new(&format!("[redis]\nurl = \"{url}\"\n[queue.orders]\nhandler.type = \"log\"\n"))
}

fn findings(ran: &Ran) -> Vec<Value> {
    serde_json::from_str(&ran.stdout()).expect("JSON on stdout")
}

/// The level and what was found of a check.
fn of<'a>(findings: &'a [Value], check: &str) -> (&'a str, &'a str) {
    let finding = findings.iter().find(|finding| finding["check"] == check);
    let finding = finding.unwrap_or_else(|| panic!("no {check} in {findings:?}"));
    (finding["level"].as_str().expect("text"), finding["found"].as_str().expect("text"))
}

#[tokio::test]
async fn a_healthy_server_is_found_healthy_and_nothing_is_left_behind() {
    let server = RedisServer::start_with(&["--appendonly", "yes"]);
    let rig = Rig::on(&server).await;
    let place = place(&server.url());
    let ran = place.run(&["doctor", "-o", "json"]);
    ran.ok();
    let found = findings(&ran);
    for check in ["role", "eviction", "rights", "round_trip", "clock", "loading"] {
        assert_eq!(of(&found, check).0, "ok", "{found:?}");
    }
    assert_eq!(of(&found, "persistence"), ("note", "append-only file"));
    let keys: Vec<String> = rig.send(redis::cmd("KEYS").arg("*")).await;
    assert_eq!(keys, [""; 0]);
    // For people it says what follows from each note.
    assert!(place.run(&["doctor"]).ok().contains("about the last second"));
    assert!(!place.run(&["doctor", "--quiet"]).ok().contains("rights"));
}

#[tokio::test]
async fn serve_refuses_a_redis_that_evicts_unless_that_is_allowed() {
    let server = RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let place = place(&server.url());
    let ran = place.run(&["doctor", "-o", "json"]);
    assert_eq!(ran.code(), 1);
    assert_eq!(of(&findings(&ran), "eviction"), ("error", "allkeys-lru"));
    let mut serve = place.serve_with(&[]);
    assert_eq!(serve.ended().await, Some(1));
    serve.says("maxmemory-policy noeviction").await;

    let allowed = [("OVERDUE_REDIS__ALLOW_EVICTION", "true")];
    let serve = place.serve_with(&allowed);
    serve.says("check=\"eviction\"").await;
    place.run(&["schedule", "orders", "a", "--in", "1ms"]).ok();
    serve.says("id=a").await;
    serve.stop().await;
    let ran = place.run_with(&["doctor", "-o", "json", "--strict"], std::process::Stdio::null(), &allowed);
    assert_eq!((ran.code(), of(&findings(&ran), "eviction").0), (1, "warning"));
}

#[tokio::test]
async fn a_redis_that_evicts_is_refused_when_it_comes_back_as_such() {
    let mut server = RedisServer::start();
    server.kill9();
    let place = place(&server.url());
    let mut serve = place.serve_with(&[]);
    serve.says("unreachable").await;
    server.restart_with(&["--maxmemory-policy", "allkeys-random"]);
    assert_eq!(serve.ended().await, Some(1));
}

#[tokio::test]
async fn a_replica_and_a_short_memory_are_named() {
    let master = Node::start(&[]);
    let replica = Node::start(&["--replicaof", "127.0.0.1", &master.port().to_string()]);
    eventually("the replica is online", async || {
        master.info("replication", "slave0").await.contains("state=online").then_some(())
    })
    .await;
    let used: u64 = master.info("memory", "used_memory").await.parse().expect("a number");
    let _: redis::Value = master.ask(&["CONFIG", "SET", "maxmemory", &(used * 11 / 10).to_string()]).await;
    let ran = place(&master.url()).run(&["doctor", "-o", "json"]);
    let found = findings(&ran);
    assert_eq!(of(&found, "replicas"), ("ok", "1, all online"));
    assert_eq!(of(&found, "memory").0, "warning");
    assert_eq!(of(&found, "persistence").0, "warning");
    let ran = place(&replica.url()).run(&["doctor", "-o", "json"]);
    assert_eq!((ran.code(), of(&findings(&ran), "role").0), (1, "error"));
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_with_its_verbs() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    for (right, verbs) in [
        ("-xadd", &["fire_stream", "order_create"][..]),
        ("-lpush", &["fire_list"]),
        ("-zremrangebyrank", &["claim"]),
        ("-pexpire", &["order_pay", "lock_extend"]),
        ("-info", &[]),
    ] {
        rig.admin(&["ACL", "SETUSER", "clerk", "reset", "on", ">secret", "~*", "+@all", right]).await;
        let place = place(&format!("{}?user=clerk&pass=secret", server.root_url()));
        let ran = place.run(&["doctor", "-o", "json"]);
        let text = ran.stdout();
        assert_eq!(ran.code(), i32::from(!verbs.is_empty()), "{right}: {text}");
        for verb in verbs {
            assert!(text.contains(&format!("`{verb}` is refused")), "{right}: {text}");
        }
        if verbs.is_empty() {
            assert_eq!(of(&findings(&ran), "info"), ("warning", "refused"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_slots_are_looked_at() {
    let mut group = Watched::start(&[]).await;
    let place = Place::new(&group.config());
    let found = findings(&place.run(&["doctor", "-o", "json"]));
    assert_eq!(found.iter().filter(|finding| finding["check"] == "sentinels").count(), 3);
    assert_eq!(of(&found, "sentinels").0, "ok");
    group.sentinels[0].kill9();
    let ran = place.run(&["doctor", "-o", "json"]);
    assert_eq!((ran.code(), of(&findings(&ran), "sentinels").0), (0, "warning"));
    group.sentinels[1].kill9();
    assert_eq!(place.run(&["doctor", "-o", "json"]).code(), 1);

    let group = Clustered::start(3, 0, &[]).await;
    let place = Place::new(&group.config());
    let ran = place.run(&["doctor", "-o", "json"]);
    let found = findings(&ran);
    assert_eq!((ran.code(), of(&found, "slots")), (0, ("ok", "ok, 16384 of 16384 covered")));
    assert_eq!(found.iter().filter(|finding| finding["check"] == "role").count(), 3);
    // As who may not ask for the slots.
    for node in &group.nodes {
        let user = ["ACL", "SETUSER", "clerk", "on", ">secret", "~*", "+@all", "-cluster|info"];
        let _: redis::Value = node.ask(&user).await;
    }
    let clerk = Place::new(&format!("{}username = \"clerk\"\npassword = \"secret\"\n", group.config()));
    let ran = clerk.run(&["doctor", "-o", "json"]);
    assert_eq!((ran.code(), of(&findings(&ran), "slots")), (0, ("warning", "refused")));

    let _: redis::Value = group.nodes[0].ask(&["CLUSTER", "DELSLOTS", "7"]).await;
    let ran = place.run(&["doctor", "-o", "json"]);
    let slots = |finding: &&Value| finding["check"] == "slots" && finding["level"] == "error";
    assert!(ran.code() == 1 && findings(&ran).iter().any(|finding| slots(&finding)), "{}", ran.stdout());
}
