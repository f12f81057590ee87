//! `/`: is all on time, and how is each queue.

use axum::{extract::State, response::Response};
use maud::{Markup, html};

use super::{
    Failed, Viewer, charts, layout,
    live::{RETRIES_AMONG, View, verdict},
};
use crate::http::{Api, extract::Params};

pub(super) async fn page(State(api): State<Api>, viewer: Viewer, params: Params) -> Result<Response, Failed> {
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
    Ok(layout::page(&viewer, "Overview", &[], None, &body))
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
                        @for (_, label, _) in views.iter().take(1).flat_map(View::numbers) { th scope="col" { (label) } }
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
    let queue = &view.queue;
    let key = format!("{queue}.health");
    html! {
        tr data-live-state=(key) data-state=(view.health().word()) {
            th scope="row" { a href=(format!("/queues/{queue}")) { (queue) } span.exact { (view.handler) } }
            td.state { span.badge data-live=(key) { (view.health().word()) } }
            @for (name, label, text) in view.numbers() {
                // On a phone a row is a card, and the label stands before its number.
                td.number data-label=(label) { span data-live=(format!("{queue}.{name}")) { (text) } }
            }
            td { (charts::last_hour(&view.hour)) }
        }
    }
}
