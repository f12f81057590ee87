//! `/queues/{queue}`: what is coming, what is in flight, what failed.

use std::time::Duration;

use axum::{extract::State, response::Response};
use maud::{Markup, html};
use tokio::join;

use super::{Failed, On, Viewer, charts, layout, words};
use crate::{
    http::{Api, Served},
    queue::{Coming, Cursor, Page, Shown, State as IdState},
    types::{DueAt, QueueName, ServerTime},
};

/// Rows of a list on the page of a queue.
const FEW: usize = 20;
/// Rows of a page that has nothing else.
const MANY: usize = 100;

/// The stretches that are shown: their name, how many bars, and how long a bar is.
const STRETCHES: [(&str, usize, Duration); 3] = [
    ("next minute", 60, Duration::from_secs(1)),
    ("next hour", 60, Duration::from_secs(60)),
    ("next day", 24, Duration::from_secs(3600)),
];

pub(super) async fn page(
    State(api): State<Api>,
    viewer: Viewer,
    On { served, mut params }: On,
) -> Result<Response, Failed> {
    let flash = api.flash.take(&mut params)?;
    let state = params.choice::<IdState>("state")?;
    let cursor = params.take::<Cursor>("cursor")?;
    params.no_more()?;
    let name = served.name();
    let title = format!("Queue {name}");
    let path = format!("/queues/{name}");
    if let Some(state) = state {
        let page = served.queue.list(state, MANY, cursor.as_ref()).await?;
        let now = served.queue.counts().await?.now;
        let body = html! {
            h1 { (state) " in " (name) }
            (rows(name, state, &page, now))
            (layout::next_page(&path, &[("state", &state.to_string())], page.next.as_ref()))
        };
        return Ok(layout::page(&viewer, &title, &[(name.as_str(), &path)], flash.as_deref(), &body));
    }
    let queue = &served.queue;
    let (views, coming, scheduled, retrying, leased, dead) = join!(
        api.live.look(&api),
        coming(&served),
        queue.list(IdState::Scheduled, FEW, None),
        // Among the next 1000: retries are due within `backoff.max`, so they are near the front.
        queue.list_where(IdState::Scheduled, FEW, None, |row| row.failures > 0),
        queue.list(IdState::Leased, FEW, None),
        queue.list(IdState::Dead, FEW, None),
    );
    let (counts, coming) = (queue.counts().await?, coming?);
    let now = counts.now;
    let view = views.iter().find(|view| view.queue == *name);
    let body = html! {
        h1 { "Queue " (name) }
        @if let Some(view) = view {
            p.verdict data-live-state=(format!("{name}.health")) data-state=(view.health().word()) {
                span data-live=(format!("{name}.health")) { (view.health().word()) }
            }
            dl.numbers {
                @for (key, label, text) in view.numbers() {
                    div { dt { (label) } dd data-live=(format!("{name}.{key}")) { (text) } }
                }
            }
            figure { figcaption { "Fired in the last hour by this process" } (charts::last_hour(&view.hour)) }
        }
        div.tools {
            (search(name))
            @if viewer.may_act { (pausing(&path, counts.paused)) }
            @if served.orders.is_some() { p { a href=(format!("/orders/{name}")) { "Orders" } } }
        }
        h2 { "What is coming" }
        div.coming {
            @for (stretch, (label, _, _)) in coming.iter().zip(STRETCHES) { (histogram(stretch, label)) }
        }
        (section(&path, name, IdState::Scheduled, "Next deadlines", &scheduled?, now))
        @let retrying = retrying?;
        @if !retrying.rows.is_empty() {
            h2 { "Retrying" }
            (rows(name, IdState::Scheduled, &retrying, now))
        }
        (section(&path, name, IdState::Leased, "In flight", &leased?, now))
        (section(&path, name, IdState::Dead, "Dead", &dead?, now))
        @if viewer.may_act && counts.dead > 0 {
            form.actions method="get" action=(format!("{path}/dead")) {
                button name="action" value="retry" { "Retry dead ids…" }
                button name="action" value="delete" { "Delete dead ids…" }
            }
        }
    };
    Ok(layout::page(&viewer, &title, &[(name.as_str(), &path)], flash.as_deref(), &body))
}

async fn coming(served: &Served) -> crate::Result<Vec<Coming>> {
    let mut stretches = Vec::with_capacity(STRETCHES.len());
    for (_, bars, step) in STRETCHES {
        stretches.push(served.queue.coming(bars, step).await?);
    }
    Ok(stretches)
}

fn histogram(coming: &Coming, label: &str) -> Markup {
    let total: u64 = coming.counts.iter().sum();
    let text = format!("{} in the {label}", words::ids(total));
    html! {
        figure {
            figcaption { (text) }
            (charts::bars(&coming.counts, &text, |place, count| {
                let from = words::span(coming.step * place as u32);
                let to = words::span(coming.step * (place as u32 + 1));
                format!("in {from} to {to}: {}", words::ids(count))
            }))
        }
    }
}

fn search(name: &QueueName) -> Markup {
    html! {
        form.search method="get" action=(format!("/queues/{name}/id")) role="search" {
            label for="id" { "Find an id" }
            input #id name="id" required maxlength="256" autocomplete="off" spellcheck="false";
            button { "Find" }
        }
    }
}

fn pausing(path: &str, paused: bool) -> Markup {
    html! {
        form method="post" action=(path) {
            @if paused {
                button name="action" value="resume" { "Resume" }
            } @else {
                button name="action" value="pause" { "Pause" }
            }
        }
    }
}

fn section(
    path: &str,
    name: &QueueName,
    state: IdState,
    title: &str,
    page: &Page,
    now: ServerTime,
) -> Markup {
    html! {
        h2 { (title) }
        (rows(name, state, page, now))
        @if page.next.is_some() {
            p { a href=(words::url(path, &[("state", &state.to_string())])) { "All that are " (state) } }
        }
    }
}

fn rows(name: &QueueName, state: IdState, page: &Page, now: ServerTime) -> Markup {
    if page.rows.is_empty() {
        return html! { p.note { "None." } };
    }
    let columns: &[&str] = match state {
        IdState::Scheduled => &["Id", "Fires", "Failures", "Last error"],
        IdState::Leased => &["Id", "In flight for", "Lease ends", "Deadline", "Attempt", "Last error"],
        IdState::Dead => &["Id", "Died", "Reason", "Attempts", "Last error"],
    };
    html! {
        div.scroll tabindex="0" role="region" aria-label=(format!("Ids that are {state}")) {
            table {
                caption { "Ids that are " (state) }
                thead { tr { @for name in columns { th scope="col" { (name) } } } }
                tbody { @for row in &page.rows { tr { (cells(name, state, row, now)) } } }
            }
        }
    }
}

fn cells(name: &QueueName, state: IdState, row: &Shown, now: ServerTime) -> Markup {
    let error = row.error.as_deref().unwrap_or("–");
    html! {
        th scope="row" { (layout::id_link(name, &row.id)) }
        @match state {
            IdState::Scheduled => {
                td { (layout::instant(row.next_attempt_at.or(row.due_at), now)) }
                td.number { (row.failures) }
            }
            IdState::Leased => {
                td { (row.lease.map_or_else(|| "–".to_owned(), |lease| words::span_or_dash(age(lease.token.get(), now)))) }
                td { (layout::instant(row.lease.and_then(|lease| lease.expires_at), now)) }
                td { (layout::instant(row.due_at, now)) }
                td.number { (row.attempt) }
            }
            IdState::Dead => {
                td { (layout::instant(row.buried_at, now)) }
                td { (row.reason.as_deref().unwrap_or("–")) }
                td.number { (row.attempt) }
            }
        }
        td.text { bdi { (error) } }
    }
}

/// A token is about the instant of its claim in µs.
pub(super) fn age(token: u64, now: ServerTime) -> Option<Duration> {
    let claimed_at = DueAt::from_ms(i64::try_from(token / 1000).ok()?).ok()?;
    Some(now.since(claimed_at))
}
