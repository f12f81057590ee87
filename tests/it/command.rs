//! The `command` handler, through `serve` and small shell scripts.

use std::{collections::HashSet, fs};

use overdue::queue::{Shown, State};
use serde_json::{Value, json};

use crate::support::{
    RedisServer, Rig, T0, eventually, many,
    process::{Place, field},
};

/// A queue, and a `serve` place whose handler runs a script there.
struct Shop {
    rig: Rig,
    place: Place,
}

impl Shop {
    /// The script's working directory is the place.
    async fn new(script: &str, more: &str) -> Self {
        let shop = Self::with_command("[\"sh\", \"handler.sh\"]", more).await;
        shop.place.write("handler.sh", script);
        shop
    }

    async fn with_command(command: &str, more: &str) -> Self {
        let rig = Rig::new().await;
        let (url, queue) = (RedisServer::shared().url(), rig.name());
        let place = Place::new(&format!(
            "[redis]\nurl = \"{url}\"\n[queue.{queue}]\npoll_interval = \"20ms\"\nbackoff.initial = \"10ms\"\n\
             {more}\n[queue.{queue}.handler]\ntype = \"command\"\ncommand = {command}\n\
             timeout = \"20s\"\ndead_exit_codes = [65]\n"
        ));
        Self { rig, place }
    }

    /// The same with a short timeout.
    fn timeout(self, timeout: &str) -> Self {
        let config = fs::read_to_string(self.place.path("overdue.toml")).expect("written before");
        self.place.write("overdue.toml", &config.replace("\"20s\"", timeout));
        self
    }

    /// Waits until the id is dead.
    async fn dead(&self, id: &str) -> Shown {
        eventually("it is dead", async || self.rig.shown(id).await.filter(|row| row.state == State::Dead))
            .await
    }

    /// Waits until nothing is left to deliver.
    async fn done(&self) {
        eventually("all is done", async || (self.rig.keys().await == ["meta"]).then_some(())).await;
    }

    /// Waits for a file with whole lines, and gives it.
    async fn file(&self, name: &str) -> String {
        let read =
            async || fs::read_to_string(self.place.path(name)).ok().filter(|text| text.ends_with('\n'));
        eventually(name, read).await
    }
}

/// Waits until none of these processes runs. A zombie does not run.
async fn gone(pids: &str) {
    for pid in pids.split_whitespace() {
        eventually("the process is gone", async || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z")).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_event_comes_on_stdin_as_one_line_of_json() {
    let shop = Shop::new("cat > got.part && mv got.part got; echo ignored", "").await;
    let serve = shop.place.serve().await;
    shop.rig.put("order-42", T0, r#"{"amount":12345678901234567890.10}"#).await;
    let text = shop.file("got").await;
    assert!(text.contains(r#""payload":{"amount":12345678901234567890.10}}}"#), "{text}");
    let event: Value = serde_json::from_str(&text).expect("JSON");
    let data = &event["data"];
    assert_eq!(event["type"], "deadline.expired");
    assert!(event["timestamp"].as_str().unwrap().ends_with('Z'), "{text}");
    assert_eq!((&data["queue"], &data["id"]), (&json!(shop.rig.name()), &json!("order-42")));
    assert_eq!((&data["due_at"], &data["attempt"]), (&json!("2026-01-01T00:00:00.000Z"), &json!(1)));
    assert!(data["token"].is_u64());
    shop.done().await;

    fs::remove_file(shop.place.path("got")).unwrap();
    shop.rig.put("bare", T0, "").await;
    let event: Value = serde_json::from_str(&shop.file("got").await).expect("JSON");
    assert_eq!(event["data"]["id"], "bare");
    assert!(event["data"].get("payload").is_none());
    shop.done().await;
    serve.stop().await;
}

#[tokio::test]
async fn exit_codes_decide() {
    let script = "read -r event
        case $event in
            *gone*) echo 'no such order' >&2; exit 65;;
            *temporary*) echo 'try later' >&2; exit 75;;
            *failed*) exit 3;;
        esac";
    let shop = Shop::new(script, "max_attempts = 2").await;
    let serve = shop.place.serve().await;
    for id in ["good", "gone", "temporary", "failed"] {
        shop.rig.put(id, T0, "").await;
    }
    for (id, attempt, reason, error) in [
        ("gone", 1, "rejected", "exit code 65: no such order"),
        ("temporary", 2, "attempts_spent", "exit code 75: try later"),
        ("failed", 2, "attempts_spent", "exit code 3"),
    ] {
        let row = shop.dead(id).await;
        assert_eq!(
            (row.attempt, row.reason.as_deref(), row.error.as_deref()),
            (attempt, Some(reason), Some(error))
        );
    }
    eventually("the good one is done", async || shop.rig.shown("good").await.is_none().then_some(())).await;
    serve.stop().await;
}

#[tokio::test]
async fn a_program_that_is_missing_or_no_program_is_named() {
    for program in ["/nowhere/expire", "./overdue.toml"] {
        let shop = Shop::with_command(&format!("[\"{program}\"]"), "max_attempts = 1").await;
        let serve = shop.place.serve().await;
        shop.rig.put("a", T0, "").await;
        let error = shop.dead("a").await.error.unwrap();
        assert!(error.starts_with(&format!("cannot run `{program}`: ")), "{error}");
        serve.stop().await;
    }
}

#[tokio::test]
async fn a_megabyte_on_stderr_neither_blocks_nor_stays() {
    let script = "head -c 1048576 /dev/zero | tr '\\0' x >&2; printf '\\033[31mthe end\\n' >&2; exit 65";
    let shop = Shop::new(script, "").await;
    let serve = shop.place.serve().await;
    shop.rig.put("a", T0, "").await;
    let error = shop.dead("a").await.error.unwrap();
    assert!(error.starts_with("exit code 65: xxx") && error.ends_with("x\\u{1b}[31mthe end"), "{error}");
    assert_eq!(error.chars().count(), 500);
    let logged = serve.says("now in the dead set").await;
    assert!((2000..3000).contains(&logged.len()), "{}", logged.len());
    serve.stop().await;
}

#[tokio::test]
async fn a_command_that_ignores_stdin_and_one_that_closes_stderr_are_fine() {
    let shop = Shop::new("exec 0<&- 2>&-; exit 0", "").await;
    let serve = shop.place.serve().await;
    // More than a pipe holds, so that writing it fails.
    shop.rig.put("a", T0, &"x".repeat(64 * 1024)).await;
    shop.done().await;
    assert!(!serve.log().concat().contains("failed"), "{:?}", serve.log());
    serve.stop().await;
}

#[tokio::test]
async fn one_that_leaves_a_process_in_the_background_is_done_all_the_same() {
    let shop = Shop::new("sleep 1000 & echo $! > pid", "").await;
    let serve = shop.place.serve().await;
    shop.rig.put("a", T0, &"x".repeat(64 * 1024)).await;
    shop.done().await;
    let pid = shop.file("pid").await;
    let ended = std::process::Command::new("kill").arg(pid.trim()).status().unwrap();
    assert!(ended.success(), "it was left alone");
    serve.stop().await;
}

#[tokio::test]
async fn a_command_that_kills_itself_failed() {
    let shop = Shop::new("kill -ABRT $$", "max_attempts = 2").await;
    let serve = shop.place.serve().await;
    shop.rig.put("a", T0, "").await;
    let row = shop.dead("a").await;
    assert!(row.error.as_ref().unwrap().starts_with("killed by signal: 6 (SIGABRT)"), "{row:?}");
    assert_eq!((row.failures, row.crashes), (2, 0));
    serve.stop().await;
}

#[tokio::test]
async fn a_timeout_kills_the_whole_group_even_if_it_ignores_sigterm() {
    let script = "trap 'echo stubborn >&2' TERM
        (trap '' TERM; exec sleep 1000) & echo $$ $! > pids.part; mv pids.part pids
        while :; do wait; done";
    let shop = Shop::new(script, "max_attempts = 1").await.timeout("\"300ms\"");
    let serve = shop.place.serve().await;
    shop.rig.put("a", T0, "").await;
    gone(&shop.file("pids").await).await;
    let row = shop.dead("a").await;
    assert_eq!(row.error.as_deref(), Some("killed after 300ms: stubborn"));
    // The leader is reaped, not just dead.
    let pids = shop.file("pids").await;
    let leader = pids.split_whitespace().next().unwrap();
    assert!(!fs::exists(format!("/proc/{leader}")).unwrap());
    serve.stop().await;
}

#[tokio::test]
async fn a_delivery_that_outlasts_the_drain_is_killed_and_its_lease_runs_out() {
    let script = "sleep 1000 & echo $$ $! > pids.part; mv pids.part pids; wait";
    let shop = Shop::new(script, "[serve]\ndrain_timeout = \"100ms\"").await;
    let serve = shop.place.serve().await;
    shop.rig.put("a", T0, "").await;
    let pids = shop.file("pids").await;
    serve.stop().await;
    gone(&pids).await;
    let row = shop.rig.shown("a").await.unwrap();
    assert_eq!((row.state, row.attempt), (State::Leased, 1));
}

#[tokio::test]
async fn variables_that_configure_overdue_are_not_passed_on() {
    let shop = Shop::new("env > env.part; mv env.part env", "").await;
    let url = RedisServer::shared().url();
    let serve =
        shop.place.serve_with(&[("OVERDUE_REDIS__URL", &url), ("OVERDUE_PORT", "kept"), ("SHOP", "kept")]);
    shop.rig.put("a", T0, "").await;
    let env = shop.file("env").await;
    let names: HashSet<&str> = env.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(names.contains("SHOP") && names.contains("OVERDUE_PORT"), "{env}");
    assert!(!names.contains("OVERDUE_REDIS__URL"), "{env}");
    serve.stop().await;
}

#[tokio::test]
async fn hundreds_run_side_by_side_and_each_once() {
    let shop = Shop::new("cat >> events", "concurrency = 32").await;
    let serve = shop.place.serve().await;
    shop.rig.schedule_all(&many(300)).await;
    shop.done().await;
    let events = shop.file("events").await;
    let ids: HashSet<String> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON")["data"]["id"].to_string())
        .collect();
    assert_eq!((events.lines().count(), ids.len()), (300, 300));
    assert!(serve.log().iter().all(|line| field(line, "error").is_none()), "{:?}", serve.log());
    serve.stop().await;
}
