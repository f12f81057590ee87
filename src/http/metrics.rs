//! `/metrics`: the Prometheus text format. One series for each queue and name, and two for losses, so as many as there
//! are queues.

use std::fmt::Write as _;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use futures_util::future::join_all;
use http::header;

use super::{Api, queues::overdue};
use crate::{queue::Counts, scheduler::Losses, types::QueueName};

/// A gauge: its name behind `overdue_queue_`, its help, and its value.
type Gauge = (&'static str, &'static str, fn(&Counts) -> f64);

const GAUGES: [Gauge; 6] = [
    ("scheduled", "Ids that wait for a deadline or a retry.", |counts| counts.scheduled as f64),
    ("due", "Of the scheduled, those whose deadline has passed.", |counts| counts.due as f64),
    ("leased", "Ids in flight.", |counts| counts.leased as f64),
    ("dead", "Ids in the dead set.", |counts| counts.dead as f64),
    (
        "oldest_overdue_seconds",
        "How long ago the oldest deadline passed that was not claimed yet.",
        |counts| overdue(counts).as_secs_f64(),
    ),
    ("paused", "1 while nothing may be claimed.", |counts| f64::from(u8::from(counts.paused))),
];

/// Tell what can be measured, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "health",
    responses((status = 200, description = "Prometheus text.", body = String,
        content_type = "text/plain; version=0.0.4; charset=utf-8",
        example = "# HELP overdue_queue_due Of the scheduled, those whose deadline has passed.\n# TYPE overdue_queue_due gauge\noverdue_queue_due{queue=\"orders\"} 0\n")),
    security(("bearer" = ["read"])),
)]
pub(super) async fn metrics(State(api): State<Api>) -> Response {
    let counts = join_all(api.queues.values().map(async |served| {
        // What cannot be asked is down; the others are told all the same.
        (served.name(), served.queue.counts().await.ok())
    }))
    .await;
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let losses: Vec<_> = api.queues.values().map(|served| (served.name(), served.pulse.losses())).collect();
    (content_type, render(&counts, &losses)).into_response()
}

fn render(counts: &[(&QueueName, Option<Counts>)], losses: &[(&QueueName, Losses)]) -> String {
    let mut text = String::new();
    head(&mut text, "overdue_build_info", "gauge", "The version that runs.");
    let _ = writeln!(text, "overdue_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    head(&mut text, "overdue_queue_up", "gauge", "1 if Redis tells how much is where.");
    for (queue, counts) in counts {
        let _ = writeln!(text, "overdue_queue_up{{queue=\"{queue}\"}} {}", u8::from(counts.is_some()));
    }
    for (name, help, value) in GAUGES {
        head(&mut text, &format!("overdue_queue_{name}"), "gauge", help);
        for (queue, counts) in counts {
            if let Some(counts) = counts {
                let _ = writeln!(text, "overdue_queue_{name}{{queue=\"{queue}\"}} {}", value(counts));
            }
        }
    }
    let name = "overdue_queue_data_losses_total";
    head(&mut text, name, "counter", "How often this process found that Redis had lost data of the queue.");
    for (queue, Losses { data_lost, rolled_back }) in losses {
        for (kind, count) in [("data_lost", data_lost), ("rolled_back", rolled_back)] {
            let _ = writeln!(text, "{name}{{queue=\"{queue}\",kind=\"{kind}\"}} {count}");
        }
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
