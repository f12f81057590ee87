//! `/metrics`: the Prometheus text format. How many series there are depends on the number of queues alone: some 100 for
//! each, most of them buckets of histograms. `docs/metrics.md` is the list.

use std::{fmt::Write as _, time::SystemTime};

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use futures_util::future::join_all;
use http::header;

use super::Api;
use crate::{
    queue::Counts,
    scheduler::{Fate, Histogram, Losses, Pulse, Totals},
    types::QueueName,
};

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
        |counts| counts.overdue().as_secs_f64(),
    ),
    ("paused", "1 while nothing may be claimed.", |counts| f64::from(u8::from(counts.paused))),
];

/// A histogram of one queue: its name, its help, and where it is.
type OneHistogram = (&'static str, &'static str, fn(&Totals) -> &Histogram);

const HISTOGRAMS: [OneHistogram; 3] = [
    (
        "overdue_queue_lateness_seconds",
        "From the deadline to the call of the handler or the entry in a sink; of first attempts.",
        |totals| &totals.lateness,
    ),
    ("overdue_queue_handler_duration_seconds", "How long handlers ran.", |totals| &totals.handler),
    ("overdue_queue_poll_duration_seconds", "How long good polls of Redis took.", |totals| &totals.poll),
];

/// A counter of one queue.
struct Counter {
    name: &'static str,
    help: &'static str,
    /// The label beside `queue`; '' for none.
    label: &'static str,
    /// Its values with their counts.
    values: fn(&Totals, &Pulse) -> Vec<(&'static str, u64)>,
}

const COUNTERS: [Counter; 4] = [
    Counter {
        name: "overdue_queue_deliveries_total",
        help: "Deliveries by what became of them; stale are those that were refused.",
        label: "outcome",
        values: |totals, _| Fate::ALL.iter().map(|fate| (fate.name(), totals.of(*fate))).collect(),
    },
    Counter {
        name: "overdue_queue_lost_leases_total",
        help: "Ids that this process claimed again because a lease had run out.",
        label: "",
        values: |totals, _| vec![("", totals.lost_leases)],
    },
    Counter {
        name: "overdue_queue_redis_errors_total",
        help: "Failed calls of Redis by the scheduler, by kind.",
        label: "kind",
        values: |totals, _| totals.redis_errors.iter().map(|(kind, count)| (*kind, *count)).collect(),
    },
    Counter {
        name: "overdue_queue_data_losses_total",
        help: "How often this process found that Redis had lost data of the queue.",
        label: "kind",
        values: |_, pulse| {
            let Losses { data_lost, rolled_back } = pulse.losses();
            vec![("data_lost", data_lost), ("rolled_back", rolled_back)]
        },
    },
];

/// A gauge that the last good poll set: its name, its help, and its value.
type PollGauge = (&'static str, &'static str, fn(&Totals) -> Option<f64>);

const POLL_GAUGES: [PollGauge; 2] = [
    (
        "overdue_queue_last_good_poll_timestamp_seconds",
        "When this process polled with success last.",
        |totals| {
            let since_epoch = totals.last_good_poll?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some(since_epoch.as_secs_f64())
        },
    ),
    (
        "overdue_queue_clock_skew_seconds",
        "The clock of this machine minus that of Redis. Deadlines go by the latter alone.",
        |totals| totals.clock_skew_s,
    ),
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
    let pulses: Vec<_> = api.queues.values().map(|served| (served.name(), &served.pulse)).collect();
    (content_type, render(&counts, &pulses)).into_response()
}

fn render(counts: &[(&QueueName, Option<Counts>)], pulses: &[(&QueueName, &Pulse)]) -> String {
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
    let totals: Vec<_> = pulses.iter().map(|(queue, pulse)| (*queue, pulse.meter().totals())).collect();
    for (name, help, histogram) in HISTOGRAMS {
        head(&mut text, name, "histogram", help);
        totals.iter().for_each(|(queue, totals)| buckets(&mut text, name, queue, histogram(totals)));
    }
    for Counter { name, help, label, values } in COUNTERS {
        head(&mut text, name, "counter", help);
        for ((queue, totals), (_, pulse)) in totals.iter().zip(pulses) {
            for (word, count) in values(totals, pulse) {
                let _ = match label {
                    "" => writeln!(text, "{name}{{queue=\"{queue}\"}} {count}"),
                    label => writeln!(text, "{name}{{queue=\"{queue}\",{label}=\"{word}\"}} {count}"),
                };
            }
        }
    }
    for (name, help, value) in POLL_GAUGES {
        head(&mut text, name, "gauge", help);
        for (queue, totals) in &totals {
            if let Some(value) = value(totals) {
                let _ = writeln!(text, "{name}{{queue=\"{queue}\"}} {value}");
            }
        }
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn buckets(text: &mut String, name: &str, queue: &QueueName, histogram: &Histogram) {
    for (bound_s, count) in histogram.cumulative() {
        let _ = writeln!(text, "{name}_bucket{{queue=\"{queue}\",le=\"{bound_s}\"}} {count}");
    }
    let count = histogram.count();
    let _ = writeln!(text, "{name}_bucket{{queue=\"{queue}\",le=\"+Inf\"}} {count}");
    let _ = writeln!(text, "{name}_sum{{queue=\"{queue}\"}} {}", histogram.sum_s());
    let _ = writeln!(text, "{name}_count{{queue=\"{queue}\"}} {count}");
}
