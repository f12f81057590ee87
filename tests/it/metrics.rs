//! `/metrics`, and what is written about it: the page, the alert rules and the dashboard for Grafana.

use std::{collections::BTreeSet, fs, path::Path};

use crate::support::{eventually, http::Site};
use serde_json::json;

/// All words that look like names of metrics; those of a histogram without what its series end in.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    let words = words.filter(|word| *word == "overdue_build_info" || word.starts_with("overdue_queue_"));
    let base = |word: &str| {
        let ends = ["_bucket", "_sum", "_count"];
        ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned()
    };
    words.map(base).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The value of a series.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test]
async fn the_page_names_every_metric_and_rules_and_dashboards_name_no_other() {
    let site = Site::pull().await;
    let text = eventually("it has polled", async || {
        let text = site.caller.get("/metrics").await.text;
        text.contains("last_good_poll_timestamp_seconds{").then_some(text)
    })
    .await;
    let exported: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(Into::into)
        .collect();
    let page = read("docs/metrics.md");
    let rows: String = page.lines().filter(|line| line.starts_with("| `overdue_")).collect();
    let rows: BTreeSet<String> = names(&rows);
    assert_eq!(rows, exported);
    serde_json::from_str::<serde_json::Value>(&read("deploy/grafana/overdue.json")).unwrap();
    for path in
        ["deploy/grafana/overdue.json", "deploy/prometheus/alerts.yml", "deploy/prometheus/alerts_test.yml"]
    {
        let named = names(&read(path));
        assert!(!named.is_empty(), "{path}");
        let unknown: Vec<_> = named.difference(&exported).collect();
        assert!(unknown.is_empty(), "{path} names what is not there: {unknown:?}");
    }
    site.serve.stop().await;
}

#[tokio::test]
async fn deliveries_by_pull_are_counted_by_what_became_of_them() {
    let site = Site::pull().await;
    for id in ["done", "tried-again", "hopeless"] {
        site.put(id, json!({"delay": "0s"})).await.is(201);
    }
    let claimed = site.post("/claim", json!({"limit": 3, "wait": "5s"})).await.is(200);
    let token = &claimed["deliveries"][0]["token"];
    let one = |id: &str| json!({"deliveries": [{"id": id, "token": token}]});
    site.post("/ack", one("done")).await.is(200);
    site.post("/ack", one("done")).await.is(200);
    site.post("/retry", one("tried-again")).await.is(200);
    site.post("/bury", one("hopeless")).await.is(200);
    let text = site.caller.get("/metrics").await.text;
    let name = site.rig.name();
    for (outcome, count) in
        [("done", 1.0), ("retried", 1.0), ("dead", 1.0), ("stale", 1.0), ("released", 0.0)]
    {
        let series = format!("overdue_queue_deliveries_total{{queue=\"{name}\",outcome=\"{outcome}\"}}");
        assert_eq!(value(&text, &series), Some(count), "{series} in {text}");
    }
    let lateness = format!("overdue_queue_lateness_seconds_count{{queue=\"{name}\"}}");
    assert_eq!(value(&text, &lateness), Some(3.0));
    site.serve.stop().await;
}
