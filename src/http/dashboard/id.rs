//! `/queues/{queue}/id?id=…`: the whole story of an id.

use axum::{extract::State, response::Response};
use maud::{Markup, html};

use super::{Failed, On, Viewer, layout, queue::age, words};
use crate::{
    http::{Api, Served},
    queue::{Shown, State as IdState},
    types::{Id, ServerTime},
};

/// The path of the pages of a queue's ids.
pub(super) fn path(served: &Served) -> String {
    format!("/queues/{}/id", served.name())
}

pub(super) async fn page(
    State(api): State<Api>,
    viewer: Viewer,
    On { served, mut params }: On,
) -> Result<Response, Failed> {
    let flash = api.flash.take(&mut params)?;
    let text = params.words("id", 300)?.unwrap_or_default();
    params.no_more()?;
    let id = Id::new(text)?;
    let name = served.name();
    let (shown, counts) = tokio::join!(served.queue.show(&id), served.queue.counts());
    let (shown, now) = (shown?, counts?.now);
    let queue_path = format!("/queues/{name}");
    let title = format!("{id} in {name}");
    let body = html! {
        h1 { bdi { (id) } }
        @match &shown {
            None => {
                p { "It is not in this queue: never registered, cancelled, or done." }
            }
            Some(shown) => {
                (story(shown, now))
                @if let Some(payload) = &shown.payload {
                    h2 { "Payload" }
                    pre.payload tabindex="0" { (pretty(payload.as_str())) }
                }
                @if viewer.may_act {
                    h2 { "Actions" }
                    @if served.is_writable() || shown.state == IdState::Dead {
                        (actions(&served, &id, shown))
                    } @else {
                        p.note { "Deadlines of orders change with their orders." }
                    }
                }
            }
        }
        @if served.orders.is_some() {
            p { a href=(words::url(&format!("/orders/{name}/order"), &[("id", id.as_str())])) { "The order" } }
        }
    };
    Ok(layout::page(&viewer, &title, &[(name.as_str(), &queue_path)], flash.as_deref(), &body))
}

fn story(shown: &Shown, now: ServerTime) -> Markup {
    html! {
        dl.story {
            div { dt { "State" } dd { span.badge { (shown.state) } } }
            div { dt { "Deadline" } dd { (layout::instant(shown.due_at, now)) } }
            @if let Some(at) = shown.next_attempt_at {
                div { dt { "Next attempt" } dd { (layout::instant(Some(at), now)) } }
            }
            @if let Some(lease) = shown.lease {
                div { dt { "In flight for" } dd { (words::span_or_dash(age(lease.token.get(), now))) } }
                div { dt { "Lease ends" } dd { (layout::instant(lease.expires_at, now)) } }
                div { dt { "Token" } dd { (lease.token.get()) } }
            }
            @if let Some(at) = shown.buried_at {
                div { dt { "Died" } dd { (layout::instant(Some(at), now)) } }
            }
            @if let Some(reason) = &shown.reason {
                div { dt { "Reason" } dd { (reason) } }
            }
            div { dt { "Attempts" } dd {
                (shown.attempt) " begun, " (shown.failures) " failed, " (shown.crashes) " lost with their process"
            } }
            @if let Some(error) = &shown.error {
                div { dt { "Last error" } dd { bdi { (error) } } }
            }
            @if let Some(trace) = &shown.traceparent {
                div { dt { "Trace" } dd { (trace.as_str()) } }
            }
        }
    }
}

/// JSON with indents; anything else as it is.
fn pretty(payload: &str) -> String {
    serde_json::from_str::<serde_json::Value>(payload)
        .ok()
        .and_then(|value| serde_json::to_string_pretty(&value).ok())
        .unwrap_or_else(|| payload.to_owned())
}

fn actions(served: &Served, id: &Id, shown: &Shown) -> Markup {
    let address = words::url(&path(served), &[("id", id.as_str())]);
    // What is moved is what was seen: who has moved it meanwhile is told, not overruled.
    let seen = shown.next_attempt_at.or(shown.due_at);
    let button = |action: &str, label: &str| {
        html! {
            form method="post" action=(address) {
                @if let Some(seen) = seen { input type="hidden" name="seen" value=(seen); }
                button name="action" value=(action) { (label) }
            }
        }
    };
    html! {
        div.actions {
            @match shown.state {
                IdState::Scheduled => {
                    (button("fire", "Fire now"))
                    form method="post" action=(address) {
                        @if let Some(seen) = seen { input type="hidden" name="seen" value=(seen); }
                        label for="in" { "Fire in" }
                        input #in name="in" required placeholder="30m" size="8" autocomplete="off";
                        button name="action" value="reschedule" { "Reschedule" }
                    }
                    (button("cancel", "Cancel it"))
                }
                IdState::Leased => {
                    (button("cancel", "Cancel further attempts"))
                }
                IdState::Dead => {
                    (button("retry", "Retry now"))
                    (button("delete", "Delete it"))
                }
            }
        }
    }
}
