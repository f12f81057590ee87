//! `/v1/orders`: the verbs on orders; `create` makes them, `change` and this file do the rest, `events` follows them.

pub(super) mod change;
pub(super) mod create;
pub(super) mod events;

use axum::{extract::FromRequestParts, response::Response};
use http::{StatusCode, request::Parts};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    deadlines::json,
    extract::{Params, durability, path_id},
    list::{Paging, paging},
    problem::{Kind, Problem},
};
use crate::{
    order::{Order, Orders, Status},
    types::{Id, QueueName},
};

/// The queue of the orders, where several are served.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes a parameter; `InQueue` reads it")]
pub(super) struct InQueueParam {
    /// The queue of the orders; if left out, `orders`, or the only one with the handler `order`
    #[param(value_type = Option<QueueName>)]
    queue: Option<QueueName>,
}

/// The parameters of a path that names an order.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a path; `OnOrder` reads it")]
pub(super) struct OneOrder {
    /// The id of the order, percent-encoded
    #[param(value_type = Id)]
    id: Id,
}

/// The orders that the query names, and what else is in it.
pub(super) struct InQueue {
    pub(super) orders: Orders,
    pub(super) params: Params,
}

impl FromRequestParts<Api> for InQueue {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let mut params = Params::from_request_parts(parts, api).await?;
        let orders = api.orders(params.take::<QueueName>("queue")?.as_ref())?.durable_at(durability(parts)?);
        Ok(Self { orders, params })
    }
}

/// The order that the path names. No other parameters are taken.
pub(super) struct OnOrder {
    pub(super) orders: Orders,
    pub(super) id: Id,
}

impl FromRequestParts<Api> for OnOrder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let id = path_id(parts, api).await?;
        check_id(&id)?;
        let InQueue { orders, params } = InQueue::from_request_parts(parts, api).await?;
        params.no_more()?;
        Ok(Self { orders, id })
    }
}

impl Api {
    /// The orders of a queue, or of the one that is meant if none is named.
    fn orders(&self, name: Option<&QueueName>) -> Result<&Orders, Problem> {
        let mut all = self.queues.values().filter_map(|served| served.orders.as_ref());
        let named = |orders: &&Orders| match name {
            Some(name) => orders.queue().name() == name,
            None => orders.queue().name().as_str() == "orders",
        };
        let only = if name.is_none() && all.clone().count() == 1 { all.next() } else { all.find(named) };
        only.ok_or_else(|| {
            let why = match name {
                Some(name) => format!("no queue `{name}` with the handler `order` is served here"),
                None => "no queue `orders` with the handler `order` is served here; name another".to_owned(),
            };
            Problem::new(Kind::QueueNotFound, why).field("queue")
        })
    }
}

/// Look up an order.
#[utoipa::path(
    get, path = "/v1/orders/{id}", operation_id = "getOrder", tag = "orders",
    params(OneOrder, InQueueParam),
    responses(
        (status = 200, description = "The order as it is.", body = Order,
            example = json!({"id": "42", "queue": "orders", "status": "created",
                "created_at": "2026-01-01T00:00:00.000Z", "due_at": "2026-01-01T00:30:00.000Z",
                "fields": {"amount": "100.00"}})),
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn get(OnOrder { orders, id }: OnOrder) -> Result<Response, Problem> {
    let order = orders.get(&id).await?.ok_or_else(|| no_such(&orders, &id))?;
    Ok(json(StatusCode::OK, &order))
}

/// A page.
#[derive(Serialize, ToSchema)]
pub(super) struct OrderList {
    /// Created ones in the order of their deadlines, others in that in which they came to their end.
    orders: Vec<Order>,
    /// To pass as `cursor` for what follows; missing on the last page. A page can be short, or empty, and have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which orders.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `list` takes out of the query")]
pub(super) struct OrderFilter {
    /// Where they are; `created` if left out
    #[param(inline)]
    status: Option<Status>,
}

/// List the orders with a status.
#[utoipa::path(
    get, path = "/v1/orders", operation_id = "listOrders", tag = "orders",
    params(InQueueParam, OrderFilter, Paging),
    responses(
        (status = 200, description = "A page.", body = OrderList,
            example = json!({"orders": [{"id": "42", "queue": "orders", "status": "expired",
                "created_at": "2026-01-01T00:00:00.000Z", "due_at": "2026-01-01T00:30:00.000Z",
                "expired_at": "2026-01-01T00:30:00.003Z", "fields": {"amount": "100.00"}}]})),
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn list(InQueue { orders, mut params }: InQueue) -> Result<Response, Problem> {
    let status = params.choice::<Status>("status")?.unwrap_or(Status::Created);
    let (limit, cursor) = paging(&mut params)?;
    params.no_more()?;
    let page = orders.list(status, limit, cursor.as_ref()).await?;
    let next_cursor = page.next.map(|cursor| cursor.to_string());
    Ok(json(StatusCode::OK, &OrderList { orders: page.orders, next_cursor }))
}

/// One id is the name of a route, so an order of it could not be looked up.
pub(super) fn check_id(id: &Id) -> Result<(), Problem> {
    if id.as_str() == "events" {
        return Err(Problem::new(Kind::InvalidValue, "`events` is a route, and so no id of an order here")
            .field("id"));
    }
    Ok(())
}

fn no_such(orders: &Orders, id: &Id) -> Problem {
    let queue = orders.queue().name();
    let why = format!("there is no order `{id}` in queue `{queue}`, or it is no longer kept");
    Problem::new(Kind::OrderNotFound, why).field("id")
}

fn not_an_order(id: &Id) -> Problem {
    let why = format_args!("the key of order `{id}` holds something else than an order").to_string();
    Problem::new(Kind::OrderConflict, why).field("id")
}
