//! `overdue replay`, through the real binary.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{
    RedisServer, eventually, foreign_client,
    process::{Place, Ran},
};

/// One order of each kind, for a timeout of 30 minutes.
const ORDERS: &str = "\
order_id,status,order_purchase_timestamp,order_approved_at
in-time,x,2026-03-01 10:00:00,2026-03-01 10:10:00
at-the-deadline,x,2026-03-01 10:00:00,2026-03-01 10:30:00
second-late,x,2026-03-01 10:00:01,2026-03-01 10:30:02
never,x,2026-03-01 10:00:01,
before-creation,x,2026-03-01 10:05:00,2026-03-01 10:04:00
same-second,x,2026-03-01 11:00:00,2026-03-01 11:00:00
created-at-a-deadline,x,2026-03-01 10:30:01,
\"with a zone, quoted\",x,2026-03-01T12:15:00+02:00,2026-03-01T10:46:00Z
";

/// The table of [`ORDERS`], on a server that the replay starts for itself.
fn place() -> Place {
    let place = Place::new("");
    place.write("orders.csv", ORDERS);
    place
}

fn replay(place: &Place, arguments: &str) -> Ran {
    let command = format!("replay orders.csv -o json {arguments}");
    place.run(&command.split_whitespace().collect::<Vec<_>>())
}

async fn scratch_keys(server: &RedisServer) -> Vec<String> {
    let mut client = foreign_client(server).await;
    redis::cmd("KEYS").arg("overdue-replay-*").query_async(&mut client).await.expect("KEYS works")
}

#[test]
fn every_kind_of_order_is_counted_right() {
    let place = place();
    let report = replay(&place, "--timeout 30m --expired-out expired.csv").json();
    let expected = json!({
        "timeout": "30m", "orders": 8, "paid_in_time": 4, "expired": 4, "unreadable": 0, "peak_pending": 5,
    });
    assert_eq!(report, expected);
    let expired = std::fs::read_to_string(place.path("expired.csv")).expect("written");
    assert_eq!(
        expired,
        "id,due_at\n\
         never,2026-03-01T10:30:01.000Z\n\
         second-late,2026-03-01T10:30:01.000Z\n\
         \"with a zone, quoted\",2026-03-01T10:45:00.000Z\n\
         created-at-a-deadline,2026-03-01T11:00:01.000Z\n"
    );
}

#[test]
fn the_timeout_decides() {
    let place = place();
    let figures = |timeout: &str| {
        let report = replay(&place, &format!("--timeout {timeout}")).json();
        (report["paid_in_time"].clone(), report["expired"].clone())
    };
    assert_eq!(figures("31m"), (json!(6), json!(2)));
    assert_eq!(figures("29m"), (json!(3), json!(5)));
    // Whoever pays in the instant of the creation is in time even then.
    assert_eq!(figures("0s"), (json!(2), json!(6)));
}

#[test]
fn more_deadlines_at_one_instant_than_a_claim_takes_all_fire() {
    let place = Place::new("");
    let rows = (0..2500).map(|n| format!("order-{n},2026-03-01 10:00:00,\n"));
    let header = "order_id,order_purchase_timestamp,order_approved_at\n".to_owned();
    place.write("orders.csv", &(header + &rows.collect::<String>()));
    let report = replay(&place, "--timeout 30m").json();
    assert_eq!((&report["expired"], &report["peak_pending"]), (&json!(2500), &json!(2500)));
}

#[test]
fn unreadable_rows_are_named_and_counted() {
    let place = place();
    let bad = "\
in-time,x,2026-03-02 10:00:00,
no-time,x,yesterday,
,x,2026-03-01 10:00:00,
too-few,x
out-of-range,x,9999-12-31 23:59:00,
";
    place.write("orders.csv", &(ORDERS.to_owned() + bad));
    let ran = replay(&place, "--timeout 30m");
    let words = [
        "line 10: id `in-time` stands in line 2 already",
        "line 11: time `yesterday`",
        "line 12: id ``",
        "line 13: it has `2` cells",
        "line 14: deadline `253402302540000`",
        "5 of 13 rows could not be read",
    ];
    ran.fails(1, &words);
    let report: Value = serde_json::from_str(&ran.stdout()).expect("the report comes all the same");
    assert_eq!((&report["orders"], &report["unreadable"]), (&json!(8), &json!(5)));
}

#[test]
fn columns_can_have_other_names() {
    let place = Place::new("");
    // With the byte order mark and the line ends of a spreadsheet.
    place.write(
        "orders.csv",
        "\u{feff}no, made ,paid\r\n7,2026-03-01 10:00:00,\r\n8,2026-03-01 10:00:00,\r\n",
    );
    let report =
        replay(&place, "--timeout 1h --id-column no --created-column made --paid-column paid").json();
    assert_eq!((&report["orders"], &report["expired"]), (&json!(2), &json!(2)));
}

#[test]
fn line_numbers_are_those_of_an_editor() {
    let place = Place::new("");
    let header = "order_id,order_purchase_timestamp,order_approved_at";
    let rows = "\na,bad,\n\n\"b\nb\",2026-03-01 10:00:00,\nc,bad,";
    for (begin, line_end) in [("", "\n"), ("\u{feff}", "\r\n")] {
        place.write("orders.csv", &format!("{begin}{header}\n{rows}").replace('\n', line_end));
        let words = ["line 3: time", "line 5: id", "line 7: time", "3 of 3 rows"];
        replay(&place, "--timeout 1h").fails(1, &words);
    }
}

#[test]
fn a_file_without_orders_is_no_error() {
    let place = place();
    place.write("orders.csv", "order_id,order_purchase_timestamp,order_approved_at\n");
    for speed in ["", "--speed 1000"] {
        let report = replay(&place, &format!("--timeout 1h {speed}")).json();
        assert_eq!((&report["orders"], &report["peak_pending"]), (&json!(0), &json!(0)));
    }
}

#[test]
fn wrong_usage_is_told_from_failure() {
    let place = place();
    let columns = "order_id, status, order_purchase_timestamp, order_approved_at";
    replay(&place, "--timeout 1h --paid-column paid_at").fails(2, &["`paid_at`", "orders.csv", columns]);
    replay(&place, "").fails(2, &["--timeout"]);
    replay(&place, "--timeout 30").fails(2, &["`30`", "unit"]);
    for speed in ["0", "-1", "NaN", "inf", "fast"] {
        replay(&place, &format!("--timeout 1h --speed={speed}")).fails(2, &["speed", "1000"]);
    }
    replay(&place, "--timeout 1h --speed 1e-9").fails(2, &["too slow"]);
    place.run(&["replay", "missing.csv", "--timeout", "1h"]).fails(1, &["missing.csv"]);
    replay(&place, "--timeout 1h --expired-out no/such/dir.csv").fails(1, &["no/such/dir.csv"]);
}

#[tokio::test]
async fn a_shared_redis_is_left_as_it_was() {
    let (server, place) = (RedisServer::start(), place());
    let on_it = format!("--timeout 30m --redis-url {}", server.url());
    assert_eq!(replay(&place, &on_it).json()["expired"], 4);
    let mut client = foreign_client(&server).await;
    let (keys, stats): (u64, String) = redis::pipe()
        .cmd("DBSIZE")
        .cmd("INFO")
        .arg("commandstats")
        .query_async(&mut client)
        .await
        .expect("answered");
    assert_eq!(keys, 0);
    assert!(stats.contains("cmdstat_evalsha"), "it ran elsewhere:\n{stats}");
}

#[test]
fn a_configured_redis_must_answer() {
    replay(&place(), "--timeout 30m --redis-url unix:///nowhere/redis.sock").fails(1, &["cannot be reached"]);
}

/// Compressed so that a timeout takes three seconds: what is paid late is paid three seconds late.
#[tokio::test]
async fn real_time_comes_to_the_same_figures_and_measures_lateness() {
    let (server, place) = (RedisServer::start(), Place::new(""));
    let orders = "\
order_id,order_purchase_timestamp,order_approved_at
paid,2026-03-01 10:00:00,2026-03-01 10:00:00
paid-soon,2026-03-01 10:00:00,2026-03-01 10:01:00
late,2026-03-01 10:00:00,2026-03-01 11:00:00
never,2026-03-01 10:02:00,
";
    place.write("orders.csv", orders);
    let on_it = format!("--timeout 30m --speed 600 --expired-out out.csv --redis-url {}", server.url());
    let ran = replay(&place, &on_it);
    let report = ran.json();
    assert_eq!(
        (&report["orders"], &report["paid_in_time"], &report["expired"]),
        (&json!(4), &json!(2), &json!(2))
    );
    let ms = |name: &str| report[name].as_f64().expect("a number");
    let (p50, p99, max) = (ms("lateness_p50_ms"), ms("lateness_p99_ms"), ms("lateness_max_ms"));
    assert!(0.0 <= p50 && p50 <= p99 && p99 <= max, "{report}");
    assert!(ran.stderr().contains("replaying 1h in 6s"), "{}", ran.stderr());
    let expired = std::fs::read_to_string(place.path("out.csv")).expect("written");
    let in_original_time = "id,due_at\nlate,2026-03-01T10:30:00.000Z\nnever,2026-03-01T10:32:00.000Z\n";
    assert_eq!(expired, in_original_time);
    assert_eq!(scratch_keys(&server).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_interrupted_replay_leaves_nothing_behind() {
    let (server, place) = (RedisServer::start(), place());
    for signal in ["INT", "TERM"] {
        let replay = Command::new(env!("CARGO_BIN_EXE_overdue"))
            .args(["replay", "orders.csv", "--timeout", "30m", "--speed", "1", "--redis-url", &server.url()])
            .current_dir(place.path(""))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        eventually("it registers", async || (!scratch_keys(&server).await.is_empty()).then_some(())).await;
        let pid = replay.id().to_string();
        let sent = Command::new("kill").args([format!("-{signal}"), pid]).status();
        assert!(sent.is_ok_and(|status| status.success()));
        let output = replay.wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("interrupted"), "{stderr}");
        assert_eq!(scratch_keys(&server).await, Vec::<String>::new(), "after SIG{signal}");
    }
}

/// The real orders of a shop, which are not part of the project.
#[test]
fn the_olist_orders_give_the_known_figures() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/olist-orders.csv");
    if !std::path::Path::new(path).exists() {
        eprintln!("skipped: there is no {path}");
        return;
    }
    let place = Place::new("");
    for (timeout, expired) in [("30m", 1980), ("1h", 1704), ("24h", 844), ("48h", 245)] {
        let report = place.run(&["replay", path, "--timeout", timeout, "-o", "json"]).json();
        let figures = [&report["orders"], &report["paid_in_time"], &report["expired"]];
        assert_eq!(figures, [&json!(4615), &json!(4615 - expired), &json!(expired)], "{timeout}");
    }
}
