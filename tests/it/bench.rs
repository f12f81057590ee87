//! `overdue bench`, through the real binary. The figures are those of a debug build on a busy machine, so what counts is
//! that they are there.

use std::{fs, process::Stdio};

use serde_json::Value;

use crate::support::{
    RedisServer, eventually, foreign_client,
    process::{Place, Ran},
};

/// Every case of every measure, with what it stands beside.
const CASES: &[(&str, &str, &[&str])] = &[
    ("register", "rust_single", &["bare_zadd"]),
    ("register", "rust_pipelined", &["bare_zadd"]),
    ("register", "rust_bulk", &["bare_zadd_pipeline", "bare_zadd_variadic"]),
    ("register", "http_single", &["bare_zadd"]),
    ("register", "http_batch", &["bare_zadd_pipeline"]),
    ("fire", "in_process", &["bare_loop"]),
    ("fire", "stream", &["bare_loop", "bare_ids"]),
    ("fire", "list", &["bare_ids"]),
    ("fire", "order", &[]),
    ("fire", "webhook", &[]),
    ("lateness", "p50", &["nothing_pending"]),
    ("lateness", "p99", &["nothing_pending"]),
    ("lateness", "p99.9", &["nothing_pending"]),
    ("lateness", "max", &["nothing_pending"]),
    ("storm", "rate", &[]),
    ("storm", "drained", &[]),
    ("storm", "lateness_max", &[]),
    ("storm", "ping_p99", &["quiet"]),
    ("storm", "script_mean", &[]),
    ("storm", "script_longest", &[]),
    ("memory", "id", &["bare_zset"]),
    ("memory", "id_and_payload", &["bare_zset_and_hash"]),
    ("idle", "requests", &[]),
    ("idle", "script_calls", &[]),
    ("idle", "redis_cpu", &["redis_alone"]),
    ("scale", "schedulers", &["smallest"]),
    ("scale", "queues", &["smallest"]),
    ("scale", "register", &["smallest"]),
    ("scale", "cancel", &["smallest"]),
    ("scale", "fire", &["smallest"]),
    ("shards", "register", &["smallest"]),
    ("shards", "fire_redis_cpu", &["smallest"]),
    ("shards", "fire_busiest_node", &["smallest"]),
];

async fn keys(server: &RedisServer) -> Vec<String> {
    let mut keys: Vec<String> =
        redis::cmd("KEYS").arg("*").query_async(&mut foreign_client(server).await).await.expect("KEYS works");
    keys.sort();
    keys
}

async fn set(server: &RedisServer, key: &str) {
    let set = redis::cmd("SET").arg(key).arg("x").exec_async(&mut foreign_client(server).await).await;
    set.expect("SET works");
}

/// Runs `bench` with a temporary directory that must be empty afterwards.
fn bench(place: &Place, arguments: &str) -> Ran {
    let dir = place.path("tmp");
    fs::create_dir_all(&dir).expect("the directory is ours");
    let arguments: Vec<&str> = ["bench"].into_iter().chain(arguments.split_whitespace()).collect();
    let ran = place.run_with(&arguments, Stdio::null(), &[("TMPDIR", dir.to_str().expect("text"))]);
    let left: Vec<_> =
        fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("an entry").path()).collect();
    assert!(left.is_empty(), "{left:?}");
    ran
}

/// Each value of a figure is a number above zero. What is idle may have been caught between two polls.
fn check(figure: &Value) {
    let beside = figure["beside"].as_array().expect("a list");
    for stats in beside.iter().chain([figure]).chain(beside.iter().map(|beside| &beside["ratio"])) {
        let stats = ["median", "min", "max"].map(|name| stats[name].as_f64());
        let is_sound = |value: &Option<f64>| match figure["measure"].as_str() {
            Some("idle") => value.is_none_or(|value| value >= 0.0),
            _ => value.is_some_and(|value| value > 0.0),
        };
        assert!(stats.iter().all(is_sound), "{figure:#}");
    }
    assert_eq!(figure["values"].as_array().map(Vec::len), Some(1), "{figure:#}");
    assert!(figure["unit"].is_string() && figure["settings"].is_object(), "{figure:#}");
}

#[test]
fn a_quick_benchmark_has_every_figure_in_its_json_and_draws_it() {
    let place = Place::new("[redis]\nurl = \"redis://127.0.0.1:1\"\n");
    let report = bench(&place, "--quick --seed 7 -o json --plot charts").json();
    for (name, value) in [("seed", 7), ("runs", 1), ("ids", 2000), ("backlog", 20_000), ("span_ms", 300)] {
        assert_eq!(report[name], value, "{name}");
    }
    assert_eq!(
        (&report["redis"], &report["aof"], &report["quick"]),
        (&"private".into(), &false.into(), &true.into())
    );
    let redis_version = report["redis_version"].as_str().expect("text");
    assert!(redis_version.contains('.') && report["took_s"].as_f64().is_some(), "{redis_version}");

    let figures = report["figures"].as_array().expect("a list");
    figures.iter().for_each(check);
    for (measure, case, beside) in CASES {
        let named = |figure: &&Value| figure["measure"] == *measure && figure["case"] == *case;
        let found: Vec<&Value> = figures.iter().filter(named).collect();
        assert!(!found.is_empty(), "no {measure} {case}");
        for name in *beside {
            let stands = |figure: &&Value| {
                figure["beside"].as_array().expect("a list").iter().any(|beside| beside["case"] == *name)
            };
            assert!(found.iter().any(stands), "{measure} {case} without {name}");
        }
    }

    let charts = fs::read_dir(place.path("charts")).expect("it is there");
    let mut names: Vec<String> = Vec::new();
    for chart in charts {
        let path = chart.expect("an entry").path();
        let svg = fs::read_to_string(&path).expect("text");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && svg.contains("--seed 7"), "{svg}");
        names.push(path.file_stem().expect("a name").to_string_lossy().into_owned());
    }
    for name in
        ["register-rate", "fire-rate", "lateness-ms", "storm-ms", "memory-bytes", "idle-calls", "scale-cost"]
    {
        assert!(names.iter().any(|found| found == name), "no {name} in {names:?}");
    }
}

#[test]
fn a_figure_a_line_comes_also_from_a_redis_with_its_append_only_file_on() {
    let place = Place::new("");
    let lines = bench(&place, "fire --quick --aof -o ndjson --batch-sizes 100,1000").ok();
    let figures: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    figures.iter().for_each(check);
    let sizes: Vec<_> = figures.iter().map(|figure| figure["settings"]["batch_size"].as_u64()).collect();
    assert_eq!(sizes, [Some(100), Some(1000)].repeat(5), "{lines}");
}

#[tokio::test]
async fn a_given_redis_is_left_as_it_was() {
    let server = RedisServer::start();
    set(&server, "shop:1").await;
    let place = Place::new("");
    let report =
        bench(&place, &format!("register storm --quick -o json --redis-url {}", server.root_url())).json();
    assert_eq!(report["redis"], "given");
    // It would take a change to the configuration of that Redis.
    let cases: Vec<_> =
        report["figures"].as_array().expect("a list").iter().map(|figure| &figure["case"]).collect();
    assert!(
        cases.contains(&&"script_mean".into()) && !cases.contains(&&"script_longest".into()),
        "{cases:?}"
    );
    assert_eq!(keys(&server).await, ["shop:1"]);
}

#[tokio::test]
async fn where_there_are_keys_of_a_benchmark_no_other_begins() {
    let server = RedisServer::start();
    let place = Place::new("");
    let arguments = format!("fire --quick --redis-url {}", server.root_url());
    for key in ["overdue-bench:{q}:scheduled", "overdue-bench:running"] {
        set(&server, key).await;
        bench(&place, &arguments).fails(1, &[key, "another benchmark", "remove"]);
        assert_eq!(keys(&server).await, [key]);
        let mut client = foreign_client(&server).await;
        redis::cmd("DEL").arg(key).exec_async(&mut client).await.expect("DEL works");
    }
}

#[tokio::test]
async fn an_interrupted_benchmark_removes_its_keys() {
    let server = RedisServer::start();
    let place = Place::new("");
    let url = server.root_url();
    let mut running = place.start(&["bench", "fire", "--ids", "10000000", "--redis-url", &url], &[]);
    eventually("it writes", async || (keys(&server).await.len() > 1).then_some(())).await;
    running.signal("INT");
    assert_eq!(running.ended().await, Some(1), "{:?}", running.log());
    assert!(running.log().iter().any(|line| line.contains("interrupted")), "{:?}", running.log());
    assert_eq!(keys(&server).await, [""; 0]);
}

#[test]
fn sizes_are_bounded_and_contradictions_named() {
    let place = Place::new("");
    for (arguments, words) in [
        ("--ids 10", &["--ids", "1000..=10000000"][..]),
        ("--batch-sizes 100,1001", &["--batch-sizes", "1..=1000"]),
        ("--span 1h", &["--span", "100ms to 10m"]),
        ("--rates 1,2,3,4,5,6,7,8,9,10", &["--rates", "10..=200000"]),
        ("--batch-sizes 1,2,3,4,5,6,7,8,9,10,11", &["batch-sizes", "10 at most"]),
        ("--aof --redis-url redis://127.0.0.1:1", &["--aof", "--redis-url"]),
        ("speed", &["speed", "lateness"]),
    ] {
        bench(&place, arguments).fails(2, words);
    }
    bench(&place, "fire --quick --redis-url redis://127.0.0.1:1").fails(1, &["cannot be reached"]);
}
