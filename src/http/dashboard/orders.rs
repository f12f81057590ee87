//! `/orders/{queue}`: orders by status, and an order's page.

use axum::response::Response;
use maud::{Markup, html};

use super::{Failed, On, Viewer, layout, words};
use crate::{
    http::{
        Served,
        problem::{Kind, Problem},
    },
    order::{Order, Orders, Status},
    queue::Cursor,
    types::{DueAt, Id, ServerTime},
};

/// Rows of a page.
const ROWS: usize = 100;

fn of(served: &Served) -> Result<&Orders, Failed> {
    let why = || Problem::new(Kind::QueueNotFound, format_args!("queue `{}` has no orders", served.name()));
    served.orders.as_ref().ok_or_else(|| why().into())
}

pub(super) async fn list(viewer: Viewer, On { served, mut params }: On) -> Result<Response, Failed> {
    let status = params.choice::<Status>("status")?.unwrap_or(Status::Created);
    let cursor = params.take::<Cursor>("cursor")?;
    params.no_more()?;
    let orders = of(&served)?;
    let (page, ends, counts) =
        tokio::join!(orders.list(status, ROWS, cursor.as_ref()), orders.counts(), served.queue.counts());
    let (page, ends, counts) = (page?, ends?, counts?);
    let name = served.name();
    let path = format!("/orders/{name}");
    let how_many = |status| match status {
        Status::Created => counts.scheduled,
        Status::Paid => ends.paid,
        Status::Cancelled => ends.cancelled,
        Status::Expired => ends.expired,
    };
    let body = html! {
        h1 { "Orders of " (name) }
        nav.tabs aria-label="Status" {
            @for each in [Status::Created, Status::Paid, Status::Cancelled, Status::Expired] {
                a href=(words::url(&path, &[("status", each.word())])) aria-current=[(each == status).then_some("page")] {
                    (each.word()) " " (words::number(how_many(each)))
                }
            }
        }
        form.search method="get" action=(format!("{path}/order")) role="search" {
            label for="id" { "Find an order" }
            input #id name="id" required maxlength="256" autocomplete="off" spellcheck="false";
            button { "Find" }
        }
        @if page.orders.is_empty() { p.note { "None." } } @else { (table(&served, status, &page.orders, counts.now)) }
        (layout::next_page(&path, &[("status", status.word())], page.next.as_ref()))
    };
    let trail = [(name.as_str(), format!("/queues/{name}")), ("orders", path.clone())];
    let trail: Vec<_> = trail.iter().map(|(name, path)| (*name, path.as_str())).collect();
    Ok(layout::page(&viewer, &format!("Orders of {name}"), &trail, None, &body))
}

fn table(served: &Served, status: Status, orders: &[Order], now: ServerTime) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Orders" {
            table {
                caption { "Orders that are " (status.word()) }
                thead { tr {
                    th scope="col" { "Id" }
                    th scope="col" { "Created" }
                    th scope="col" { "To be paid by" }
                    @if status != Status::Created { th scope="col" { "Ended" } }
                } }
                tbody {
                    @for order in orders {
                        tr {
                            th scope="row" { (link(served, &order.id)) }
                            td { (layout::instant(order.created_at, now)) }
                            td { (layout::instant(order.due_at, now)) }
                            @if status != Status::Created { td { (layout::instant(ended(order), now)) } }
                        }
                    }
                }
            }
        }
    }
}

fn link(served: &Served, id: &Id) -> Markup {
    let address = words::url(&format!("/orders/{}/order", served.name()), &[("id", id.as_str())]);
    html! { a.id href=(address) { bdi { (id) } } }
}

fn ended(order: &Order) -> Option<DueAt> {
    order.paid_at.or(order.cancelled_at).or(order.expired_at)
}

pub(super) async fn order(viewer: Viewer, On { served, mut params }: On) -> Result<Response, Failed> {
    let id = Id::new(params.words("id", 300)?.unwrap_or_default())?;
    params.no_more()?;
    let (order, counts) = tokio::join!(of(&served)?.get(&id), served.queue.counts());
    let (order, now) = (order?, counts?.now);
    let name = served.name();
    let body = html! {
        h1 { bdi { (id) } }
        @match &order {
            None => { p { "There is no such order, or its time of retention is over." } }
            Some(order) => {
                dl.story {
                    div { dt { "Status" } dd { span.badge { (order.status.word()) } } }
                    div { dt { "Created" } dd { (layout::instant(order.created_at, now)) } }
                    div { dt { "To be paid by" } dd { (layout::instant(order.due_at, now)) } }
                    @if let Some(at) = ended(order) {
                        div { dt { "Ended" } dd { (layout::instant(Some(at), now)) } }
                    }
                }
                h2 { "Fields" }
                @if order.fields.is_empty() { p.note { "None." } } @else {
                    dl.story {
                        @for (field, value) in order.fields.iter() {
                            div { dt { bdi { (field) } } dd { bdi { (value) } } }
                        }
                    }
                }
                p { a href=(words::url(&format!("/queues/{name}/id"), &[("id", id.as_str())])) { "Its deadline" } }
            }
        }
    };
    let trail = [(name.as_str(), format!("/queues/{name}")), ("orders", format!("/orders/{name}"))];
    let trail: Vec<_> = trail.iter().map(|(name, path)| (*name, path.as_str())).collect();
    Ok(layout::page(&viewer, &format!("Order {id}"), &trail, None, &body))
}
