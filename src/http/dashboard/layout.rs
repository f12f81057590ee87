//! What all pages share.

use axum::response::Response;
use maud::{DOCTYPE, Markup, html};

use super::{Viewer, assets, html_page, words};
use crate::{
    queue::Cursor,
    types::{DueAt, QueueName, ServerTime},
};

/// A page. `trail` leads to it: names with addresses, the outermost first.
pub(super) fn page(
    viewer: &Viewer,
    title: &str,
    trail: &[(&str, &str)],
    flash: Option<&str>,
    body: &Markup,
) -> Response {
    html_page(html! {
        (head(title))
        body {
            a.skip href="#main" { "To the content" }
            header {
                nav aria-label="Place" {
                    a href="/" { "overdue" }
                    @for (name, address) in trail {
                        span aria-hidden="true" { "/" }
                        a href=(address) { (name) }
                    }
                }
                p.viewer {
                    span #connection { }
                    @if let Some(name) = &viewer.name {
                        form method="post" action="/logout" {
                            span { (name) }
                            button { "Log out" }
                        }
                    }
                }
            }
            main #main {
                @if let Some(flash) = flash { p.flash role="status" { (flash) } }
                (body)
            }
            footer {
                p {
                    "overdue " (env!("CARGO_PKG_VERSION"))
                    @if !viewer.may_act { " · read-only" }
                }
            }
            script src=(assets::SCRIPT.address()) defer {}
        }
    })
}

/// A page without anything around it.
pub(super) fn bare(title: &str, body: &Markup) -> Markup {
    html! { (head(title)) body { main #main { (body) } } }
}

fn head(title: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en";
        meta charset="utf-8";
        meta name="viewport" content="width=device-width, initial-scale=1";
        meta name="color-scheme" content="light dark";
        title { (title) " · overdue" }
        link rel="icon" href="data:,";
        link rel="stylesheet" href=(assets::STYLE.address());
    }
}

/// An instant, and how far it is from now.
pub(super) fn instant(at: Option<DueAt>, now: ServerTime) -> Markup {
    html! {
        @match at {
            Some(at) => time datetime=(at) { (words::from_now(at, now)) span.exact { (at) } },
            None => "–",
        }
    }
}

/// The way to the page of an id.
pub(super) fn id_link(queue: &QueueName, id: &str) -> Markup {
    html! { a.id href=(words::url(&format!("/queues/{queue}/id"), &[("id", id)])) { bdi { (id) } } }
}

/// The way to the next page of a list, if there is one.
pub(super) fn next_page(path: &str, query: &[(&str, &str)], next: Option<&Cursor>) -> Markup {
    let address = next.map(|next| {
        let next = next.to_string();
        words::url(path, &[query, &[("cursor", &next)]].concat())
    });
    html! { @if let Some(address) = address { p { a rel="next" href=(address) { "Next page" } } } }
}
