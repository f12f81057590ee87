//! `/`: is all on time, and how is each queue.

use axum::{extract::State, response::Response};
use maud::{Markup, html};

use super::{
    Failed, Viewer, charts, layout,
    live::{RETRIES_AMONG, View, verdict},
};
use crate::http::{Api, extract::Params};

/// The columns of numbers, the most urgent first: what they are called in a look, and on the page.
pub(super) const NUMBERS: [(&str, &str); 10] = [
    ("overdue", "Oldest overdue"),
    ("due", "Due now"),
    ("scheduled", "Scheduled"),
    ("next", "Next deadline"),
    ("leased", "In flight"),
    ("retrying", "Retrying"),
    ("dead", "Dead"),
    ("rate", "Fired / s"),
    ("p50", "Late p50"),
    ("p99", "Late p99"),
];

pub(super) async fn page(
    State(api): State<Api>,
    viewer: Viewer,
    mut params: Params,
) -> Result<Response, Failed> {
    let flash = params.words("done", 200)?;
    params.no_more()?;
    let views = api.live.look(&api).await;
    let (health, text) = verdict(&views);
    let body = html! {
        h1.verdict data-live-state="health" data-state=(health.word()) role="status" {
            span data-live="verdict" { (text) }
        }
        @if views.is_empty() {
            p { "No queue is configured: name one in the configuration, as " code { "[queue.orders]" } "." }
        } @else {
            (table(&views))
            p.note {
                "Fired, lateness and the last hour are those of this process since it started; all else is of the queue, \
                 whoever delivers it. Retrying is counted among the next " (RETRIES_AMONG) " ids."
            }
        }
    };
    Ok(layout::page(&viewer, "Overview", &[], flash.as_deref(), &body))
}

fn table(views: &[View]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Queues" {
            table.queues {
                caption { "Queues" }
                thead {
                    tr {
                        th scope="col" { "Queue" }
                        th scope="col" { "State" }
                        @for (_, label) in NUMBERS { th scope="col" { (label) } }
                        th scope="col" { "Last hour" }
                    }
                }
                tbody {
                    @for view in views { (row(view)) }
                }
            }
        }
    }
}

fn row(view: &View) -> Markup {
    let (queue, numbers) = (&view.queue, view.numbers());
    let number = |wanted: &str, label: &str| {
        let text = numbers.iter().find(|(name, _)| *name == wanted).map_or("", |(_, text)| text.as_str());
        // On a phone a row is a card, and the label stands before its number.
        html! { td.number data-label=(label) { span data-live=(format!("{queue}.{wanted}")) { (text) } } }
    };
    let key = format!("{queue}.health");
    html! {
        tr data-live-state=(key) data-state=(view.health().word()) {
            th scope="row" { a href=(format!("/queues/{queue}")) { (queue) } span.exact { (view.handler) } }
            td.state { span.badge data-live=(key) { (view.health().word()) } }
            @for (name, label) in NUMBERS { (number(name, label)) }
            td { (charts::last_hour(&view.hour)) }
        }
    }
}
