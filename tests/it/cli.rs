//! The commands, through the real binary: what they print, and their exit codes.

use std::{fs::File, process::Stdio};

use serde_json::{Value, json};

use crate::support::{
    RedisServer, Rig, T0,
    process::{Place, Ran},
};

/// A queue of its own on the shared server, and a place whose configuration knows it.
struct Shop {
    rig: Rig,
    place: Place,
}

impl Shop {
    async fn new() -> Self {
        let rig = Rig::new().await;
        let url = RedisServer::shared().url();
        let place = Place::new(&format!("[redis]\nurl = \"{url}\"\n[queue.{}]\n", rig.name()));
        Self { rig, place }
    }

    /// Runs a command; `Q` stands for the queue.
    fn run(&self, command: &str) -> Ran {
        self.run_all(&command.split(' ').collect::<Vec<_>>())
    }

    fn run_all(&self, arguments: &[&str]) -> Ran {
        let queue = self.rig.name().as_str();
        let arguments: Vec<&str> =
            arguments.iter().map(|word| if *word == "Q" { queue } else { word }).collect();
        self.place.run(&arguments)
    }

    fn json(&self, command: &str) -> Value {
        self.run(&format!("{command} -o json")).json()
    }
}

#[tokio::test]
async fn schedule_says_what_it_did_and_show_agrees() {
    let shop = Shop::new().await;
    let created =
        shop.json("schedule Q order-42 --at 2036-01-01T14:30:00+01:00 --payload {\"amount\":\"100.00\"}");
    assert_eq!(created["result"], "created");
    assert_eq!(created["due_at"], "2036-01-01T13:30:00.000Z");

    let shown = shop.json("show Q order-42");
    assert_eq!((&shown["state"], &shown["attempt"]), (&json!("scheduled"), &json!(0)));
    assert_eq!(shown["due_at"], "2036-01-01T13:30:00.000Z");
    assert_eq!(shown["payload"], json!({"amount": "100.00"}));

    let replaced = shop.json("schedule Q order-42 --in 1h");
    assert_eq!(replaced["result"], "replaced");
    assert_eq!(replaced["previous_due_at"], "2036-01-01T13:30:00.000Z");
    let kept = shop.json("schedule Q order-42 --in 1s --mode keep");
    assert_eq!((&kept["result"], &kept["due_at"]), (&json!("kept"), &replaced["due_at"]));
    let text = shop.run("schedule Q order-43 --at 2036-01-01T00:00:00Z").ok();
    assert!(text.contains("order-43 created, due 2036-01-01T00:00:00.000Z"), "{text}");
}

#[tokio::test]
async fn compare_and_set_changes_nothing_on_a_conflict() {
    let shop = Shop::new().await;
    shop.run("schedule Q a --at 2036-01-01T00:00:00Z --expect absent").ok();
    shop.run("schedule Q a --in 1h --expect absent").fails(1, &["conflict", "2036-01-01T00:00:00.000Z"]);
    shop.run("reschedule Q a --in 1h --expect 2036-01-02T00:00:00Z").fails(1, &["conflict"]);
    let moved = shop.json("reschedule Q a --at 2037-01-01T00:00:00Z --expect 2036-01-01T00:00:00Z");
    assert_eq!(moved["result"], "moved");
    assert_eq!(shop.json("show Q a")["due_at"], "2037-01-01T00:00:00.000Z");
}

#[tokio::test]
async fn cancel_tells_each_verdict() {
    let shop = Shop::new().await;
    shop.rig.leased("flying", "").await;
    shop.rig.buried("buried", "").await;
    shop.run("schedule Q pending --in 1h").ok();
    assert_eq!(shop.json("cancel Q pending")[0]["result"], "cancelled");

    let ran = shop.run("cancel Q pending flying buried -o json");
    ran.fails(3, &["1 of 3 ids not found"]);
    let verdicts: Value = serde_json::from_str(&ran.stdout()).unwrap();
    let results: Vec<&str> =
        verdicts.as_array().unwrap().iter().map(|row| row["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["not_found", "in_flight", "dead"]);
    assert!(verdicts[1]["token"].is_u64() && verdicts[1]["lease_left_ms"].is_u64());
    shop.run("cancel Q buried").fails(1, &["1 dead"]);
}

#[tokio::test]
async fn what_is_not_there_is_exit_code_3() {
    let shop = Shop::new().await;
    for command in [
        "show Q nope",
        "reschedule Q nope --in 1h",
        "cancel Q nope",
        "dead retry Q nope",
        "dead delete Q nope",
    ] {
        shop.run(command).fails(3, &[]);
    }
    for command in ["list nowhere", "stats nowhere", "dead list nowhere", "export nowhere"] {
        shop.run(command).fails(3, &["nowhere", "configuration"]);
    }
    assert_eq!(shop.run("list Q").ok(), "", "a configured queue may be empty");
}

#[tokio::test]
async fn list_pages_and_stats_count() {
    let shop = Shop::new().await;
    for n in 0..5 {
        shop.rig.zadd(format!("a{n}"), T0 + n).await;
    }
    let page = shop.run("list Q --limit 2 -o ndjson");
    assert_eq!(page.ok().lines().count(), 2);
    let stderr = page.stderr();
    let cursor = stderr.trim().rsplit(' ').next().unwrap();
    let rest = shop.json(&format!("list Q --cursor {cursor}"));
    let names: Vec<&str> = rest.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["a2", "a3", "a4"]);
    shop.run("list Q --cursor rubbish").fails(2, &["cursor"]);

    let stats = &shop.json("stats")[0];
    assert_eq!((&stats["scheduled"], &stats["due"], &stats["dead"]), (&json!(5), &json!(5), &json!(0)));
    assert_eq!(stats["next_due_at"], "2026-01-01T00:00:00.000Z");
    assert!(stats["overdue_ms"].as_u64().unwrap() > 0);
    let table = shop.run("stats").ok();
    assert!(table.starts_with("QUEUE") && table.contains("NEXT_DUE_AT"), "{table}");
}

#[tokio::test]
async fn dead_ids_are_listed_retried_and_deleted() {
    let shop = Shop::new().await;
    for name in ["a", "b", "c", "d"] {
        shop.rig.buried(name, "kept").await;
    }
    let dead = shop.json("dead list Q");
    assert_eq!(dead.as_array().unwrap().len(), 4);
    assert_eq!((&dead[0]["reason"], &dead[0]["error"]), (&json!("rejected"), &json!("the handler said so")));

    assert_eq!(shop.json("dead retry Q a")["count"], 1);
    let shown = shop.json("show Q a");
    assert_eq!((&shown["state"], &shown["payload"]), (&json!("scheduled"), &json!("kept")));
    assert_eq!(shop.json("dead delete Q b")["count"], 1);
    shop.run("show Q b").fails(3, &[]);
    assert_eq!(shop.json("dead retry Q --all")["count"], 2);
    assert_eq!(shop.json("stats")[0]["dead"], 0);
    shop.run("dead delete Q").fails(2, &["--all"]);
}

const NDJSON: &str = r#"{"id":"a","due_at":"2036-01-01T00:00:00Z","payload":{"n":1}}
{"id":"b","due_at":2082758400000}
{"id":"c","delay":"30m","payload":"plain text"}
"#;

#[tokio::test]
async fn import_reads_ndjson_and_is_safe_to_run_twice() {
    let shop = Shop::new().await;
    shop.place.write("orders.ndjson", NDJSON);
    let first = shop.json("import Q orders.ndjson");
    assert_eq!((&first["lines"], &first["created"], &first["kept"]), (&json!(3), &json!(3), &json!(0)));
    let before = shop.json("show Q c");
    let second = shop.json("import Q orders.ndjson");
    assert_eq!((&second["created"], &second["kept"]), (&json!(0), &json!(3)));
    assert_eq!(shop.json("show Q c"), before);
    assert_eq!(before["payload"], "plain text");
    assert_eq!(shop.json("show Q a")["payload"], json!({"n": 1}));
}

#[tokio::test]
async fn import_reads_csv_from_stdin() {
    let shop = Shop::new().await;
    shop.place.write(
        "orders.txt",
        "id,due_at,payload\na,2036-01-01T00:00:00Z,\"{\"\"n\"\":1}\"\n42,2082758400000,\n",
    );
    let file = File::open(shop.place.path("orders.txt")).unwrap();
    let queue = shop.rig.name().as_str();
    let report = shop.place.run_with(&["import", queue, "-", "-o", "json"], Stdio::from(file), &[]).json();
    assert_eq!(report["created"], 2);
    assert_eq!(shop.json("show Q a")["payload"], json!({"n": 1}));
    assert_eq!(shop.json("show Q 42")["due_at"], "2036-01-01T00:00:00.000Z");
}

#[tokio::test]
async fn import_names_bad_lines_and_stops_or_goes_on_as_told() {
    let shop = Shop::new().await;
    let lines = [
        r#"{"id":"good-1","delay":"1h"}"#,
        r#"{"id":"no-zone","due_at":"2036-01-01T00:00:00"}"#,
        r#"{"id":"seconds","due_at":2082758400}"#,
        r#"{"id":"both","due_at":2082758400000,"delay":"1h"}"#,
        r#"{"id":"unknown","delay":"1h","colour":"red"}"#,
        &format!(r#"{{"id":"{}","delay":"1h"}}"#, "x".repeat(300)),
        &format!(r#"{{"id":"big","delay":"1h","payload":"{}"}}"#, "x".repeat(1 << 20)),
        "not json",
        "",
        r#"{"id":"good-2","delay":"1h"}"#,
    ];
    shop.place.write("orders.ndjson", &lines.join("\n"));
    let stopped = shop.run("import Q orders.ndjson");
    stopped.fails(1, &["line 2", "no zone"]);
    assert!(!stopped.stderr().contains("line 3"));

    let skipped = shop.run("import Q orders.ndjson --on-error skip -o json");
    skipped.fails(
        1,
        &[
            "line 2",
            "line 3: ",
            "seconds",
            "line 4",
            "line 5",
            "colour",
            "line 6",
            "300 bytes",
            "line 7",
            "line 8",
        ],
    );
    let report: Value = serde_json::from_str(&skipped.stdout()).unwrap();
    assert_eq!((&report["created"], &report["kept"], &report["failed"]), (&json!(1), &json!(1), &json!(7)));
    shop.place.write("orders.csv", "id,when\na,1h\n");
    shop.run("import Q orders.csv").fails(1, &["`when`", "due_at"]);
    shop.place.write("empty", "");
    assert_eq!(shop.json("import Q empty")["lines"], 0);
    shop.run("import Q missing.csv").fails(1, &["missing.csv"]);
}

#[tokio::test]
async fn export_gives_what_import_takes() {
    let (from, to) = (Shop::new().await, Shop::new().await);
    from.place.write("orders.ndjson", NDJSON);
    from.run("import Q orders.ndjson").ok();
    from.rig.leased("flying", "[1,2]").await;
    from.rig.put("lines", T0 + 1, "{\n \"n\": 12345678901234567890\n}").await;
    let exported = from.run("export Q").ok();
    assert_eq!(exported.lines().count(), 5);
    to.place.write("exported.ndjson", &exported);
    to.run("import Q exported.ndjson").ok();
    for name in ["a", "b", "c", "flying", "lines"] {
        let (left, right) = (from.json(&format!("show Q {name}")), to.json(&format!("show Q {name}")));
        assert_eq!((&left["due_at"], &left["payload"]), (&right["due_at"], &right["payload"]), "{name}");
    }
}

#[tokio::test]
async fn bad_input_is_one_clear_line_and_the_right_exit_code() {
    let shop = Shop::new().await;
    let (long_id, big) = ("x".repeat(300), "x".repeat(1 << 20));
    shop.place.write("big", &big);
    shop.place.write("wide", &"é".repeat(1 << 20));
    for (arguments, code, words) in [
        (vec!["schedule", "Q", "a", "--in", "10x"], 2, vec!["10x", "30m"]),
        (vec!["schedule", "Q", "a", "--at", "2036-01-01T00:00:00"], 2, vec!["no zone"]),
        (vec!["schedule", "Q", "a", "--at", "1767225600"], 2, vec!["seconds"]),
        (vec!["schedule", "Q", "a"], 2, vec!["--in"]),
        (vec!["schedule", "Q", &long_id, "--in", "1h"], 2, vec!["300 bytes"]),
        (vec!["schedule", "Q", "a\nb", "--in", "1h"], 2, vec!["control character"]),
        (vec!["schedule", "Q", "a", "--in", "1h", "--payload", "@big"], 2, vec!["65536"]),
        (vec!["schedule", "Q", "a", "--in", "1h", "--payload", "@wide"], 2, vec!["too long", "65536"]),
        (vec!["schedule", "Q", "a", "--in", "1h", "--payload", "@missing"], 1, vec!["missing"]),
        (vec!["schedule", "Big Queue", "a", "--in", "1h"], 2, vec!["queue name", "a-z"]),
        (vec!["frobnicate"], 2, vec!["frobnicate"]),
    ] {
        shop.run_all(&arguments).fails(code, &words);
    }
    assert!(shop.rig.keys().await.is_empty(), "nothing was registered");
}

#[tokio::test]
async fn a_bad_configuration_is_exit_code_2_and_names_file_and_key() {
    for (config, words) in [
        ("[queue.orders]\npol_interval = \"1s\"\n", ["overdue.toml:2", "pol_interval"]),
        ("[queue.orders]\nlease = \"10x\"\n", ["overdue.toml:2", "10x"]),
        ("[queue.orders]\nlease = \"150ms\"\n", ["queue.orders.lease", "poll_interval"]),
        ("[queue.orders\n", ["overdue.toml:1", "]"]),
        ("[queue.orders.handler]\ntype = \"carrier-pigeon\"\n", ["carrier-pigeon", "stream"]),
    ] {
        let place = Place::new(config);
        for command in [["config", "check"], ["stats", "orders"]] {
            place.run(&command).fails(2, &words);
        }
    }
    let place = Place::new("");
    place.run(&["--config", "missing.toml", "config", "check"]).fails(2, &["missing.toml"]);
    let bad = [("OVERDUE_QUEUE__ORDERS__LEASE", "10x")];
    place
        .run_with(&["config", "check"], Stdio::null(), &bad)
        .fails(2, &["OVERDUE_QUEUE__ORDERS__LEASE", "10x"]);
}

#[tokio::test]
async fn config_show_hides_the_password_and_check_names_the_file() {
    let place = Place::new("[redis]\nurl = \"redis://user:geheim@localhost:1/0\"\n[queue.eu]\n[queue.us]\n");
    let shown = place.run(&["config", "show"]).ok();
    assert!(!shown.contains("geheim") && shown.contains("***@localhost"), "{shown}");
    assert!(
        shown.contains("[queue.eu]") && shown.contains("[queue.us]") && !shown.contains("[queue.orders]")
    );
    assert_eq!(place.run(&["config", "show", "-o", "json"]).json()["queue"]["eu"]["batch_size"], 500);
    let checked = place.run(&["config", "check"]).ok();
    assert!(checked.contains("overdue.toml") && checked.contains("eu, us"), "{checked}");
}

#[tokio::test]
async fn without_a_redis_commands_fail_at_once_and_say_what_to_do() {
    let place = Place::new("[redis]\nurl = \"redis://127.0.0.1:1\"\n");
    for command in ["schedule orders a --in 1h", "show orders a", "list orders", "stats", "cancel orders a"] {
        let words: Vec<&str> = command.split(' ').collect();
        place.run(&words).fails(1, &["cannot be reached", "redis.url"]);
    }
    let place = Place::new("");
    place.run(&["stats"]).fails(1, &["redis.url", "overdue serve", "--redis-url"]);
    place.run(&["stats", "--redis-url", "http://x"]).fails(2, &["redis-url", "redis://"]);
}

#[test]
fn help_and_completions_are_there() {
    let place = Place::new("");
    let help = place.run(&["--help"]).ok();
    for command in [
        "serve",
        "schedule",
        "reschedule",
        "cancel",
        "show",
        "list",
        "stats",
        "import",
        "export",
        "dead",
        "config",
        "replay",
        "completions",
    ] {
        assert!(help.contains(&format!("  {command} ")), "{command}");
        assert!(place.run(&[command, "--help"]).ok().contains("Usage: overdue"));
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.run(&["completions", shell]).ok().contains("reschedule"));
    }
}

#[tokio::test]
async fn ids_outside_the_contract_are_never_taken_for_others() {
    let shop = Shop::new().await;
    shop.rig.zadd("bad\nid", T0).await;
    shop.run("export Q").fails(1, &["1 left out"]);
    assert_eq!(shop.run("export Q").stdout(), "");

    shop.rig.zadd("bad\nid", 5).await;
    shop.rig.reject().await.unwrap();
    shop.rig.buried("bad\\nid", "").await;
    let listed = shop.run("dead list Q").ok();
    assert_eq!(listed.lines().count(), 3, "one line each: {listed}");
    shop.run("dead delete Q --all").fails(1, &["1 ids are outside the contract", "ZREM"]);
    assert_eq!(shop.rig.members("dead").await, ["bad\nid"]);
}

#[tokio::test]
async fn a_file_that_breaks_off_ends_the_import() {
    let shop = Shop::new().await;
    for name in ["folder.ndjson", "folder.csv"] {
        std::fs::create_dir(shop.place.path(name)).unwrap();
        shop.run_all(&["import", "Q", name, "--on-error", "skip"]).fails(1, &["directory"]);
    }
}

#[test]
fn a_configuration_that_is_not_used_is_not_read() {
    let place = Place::new("this is no configuration");
    place.write("good.toml", "");
    place
        .write("orders.csv", "order_id,order_purchase_timestamp,order_approved_at\na,2026-01-01 00:00:00,\n");
    let arguments = ["--config", "good.toml", "replay", "orders.csv", "--timeout", "1h", "-o", "json"];
    assert_eq!(place.run(&arguments).json()["expired"], 1);
}
