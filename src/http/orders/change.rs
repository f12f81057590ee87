//! `/v1/orders/{id}/pay`, `/cancel` and `/extend`.

use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{InQueueParam, OnOrder, OneOrder, no_such, not_an_order};
use crate::{
    http::{
        deadlines::{Move, json},
        extract::Json,
        problem::{Kind, Problem},
        schema::Durable,
    },
    order::{Extended, Fields, Order, Orders, Status, Verdict},
    types::{DueAt, DurabilityLevel, Id},
};

/// What is added to the order. A field that it has must have the same value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Details {
    /// Such as the reference of the payment.
    #[serde(default)]
    #[schema(value_type = Option<Fields>)]
    fields: Fields,
}

/// What was done.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Ending {
    /// By this call.
    Paid,
    /// By an earlier one.
    AlreadyPaid,
    /// By this call.
    Cancelled,
    /// By an earlier one.
    AlreadyCancelled,
}

/// An order that came to an end that was asked for.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct EndedOrder {
    result: Ending,
    #[serde(flatten)]
    order: Order,
    /// What the write has reached.
    durability: DurabilityLevel,
}

/// Pay an order, unless it has expired or was cancelled.
#[utoipa::path(
    post, path = "/v1/orders/{id}/pay", operation_id = "payOrder", tag = "orders",
    params(OneOrder, InQueueParam, Durable),
    request_body(content = Details, example = json!({"fields": {"payment": "pi_3MtwBw"}})),
    responses(
        (status = 200, description = "It is paid, by this call or an earlier one.", body = EndedOrder,
            example = json!({"result": "paid", "id": "42", "queue": "orders", "status": "paid",
                "created_at": "2026-01-01T00:00:00.000Z", "due_at": "2026-01-01T00:30:00.000Z",
                "paid_at": "2026-01-01T00:04:10.123Z", "fields": {"amount": "100.00", "payment": "pi_3MtwBw"}})),
    ),
    security(("bearer" = ["write"])),
)]
pub(in crate::http) async fn pay(
    OnOrder { orders, id }: OnOrder,
    Json(Details { fields }): Json<Details>,
) -> Result<Response, Problem> {
    let verdict = orders.pay(&id, &fields).await?;
    ended(&orders, &id, verdict, Ending::Paid, Ending::AlreadyPaid)
}

/// Cancel an order, unless it has expired or was paid.
#[utoipa::path(
    post, path = "/v1/orders/{id}/cancel", operation_id = "cancelOrder", tag = "orders",
    params(OneOrder, InQueueParam, Durable),
    request_body(content = Details, example = json!({"fields": {"reason": "changed my mind"}})),
    responses(
        (status = 200, description = "It is cancelled, by this call or an earlier one.", body = EndedOrder,
            example = json!({"result": "cancelled", "id": "42", "queue": "orders", "status": "cancelled",
                "created_at": "2026-01-01T00:00:00.000Z", "due_at": "2026-01-01T00:30:00.000Z",
                "cancelled_at": "2026-01-01T00:04:10.123Z", "fields": {"amount": "100.00"}})),
    ),
    security(("bearer" = ["write"])),
)]
pub(in crate::http) async fn cancel(
    OnOrder { orders, id }: OnOrder,
    Json(Details { fields }): Json<Details>,
) -> Result<Response, Problem> {
    let verdict = orders.cancel(&id, &fields).await?;
    ended(&orders, &id, verdict, Ending::Cancelled, Ending::AlreadyCancelled)
}

fn ended(
    orders: &Orders,
    id: &Id,
    verdict: Verdict,
    done: Ending,
    already: Ending,
) -> Result<Response, Problem> {
    let (result, order) = match verdict {
        Verdict::Done(order) => (done, order),
        Verdict::Already(order) => (already, order),
        Verdict::TooLate(order) => return Err(too_late(&order)),
        Verdict::Conflict { field, .. } => {
            let why = format_args!("order `{id}` has another `{field}`").to_string();
            return Err(Problem::new(Kind::OrderConflict, why).field(format!("fields.{field}")));
        }
        Verdict::NotFound => return Err(no_such(orders, id)),
        Verdict::NotAnOrder => return Err(not_an_order(id)),
    };
    let durability = orders.queue().durability();
    Ok(json(StatusCode::OK, &EndedOrder { result, order, durability }))
}

fn too_late(order: &Order) -> Problem {
    let kind = match order.status {
        Status::Created | Status::Expired => Kind::OrderExpired,
        Status::Paid => Kind::OrderPaid,
        Status::Cancelled => Kind::OrderCancelled,
    };
    let at = order.settled_at().map_or_else(String::new, |at| format!(" at {at}"));
    let was = if order.status == Status::Expired { "" } else { "was " };
    Problem::new(kind, format_args!("order `{}` {was}{}{at}", order.id, order.status))
}

/// An order whose deadline was moved.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct ExtendedOrder {
    #[serde(flatten)]
    order: Order,
    /// The deadline before.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_due_at: Option<DueAt>,
    /// What the write has reached.
    durability: DurabilityLevel,
}

/// Move the deadline of an order that is not paid yet.
#[utoipa::path(
    post, path = "/v1/orders/{id}/extend", operation_id = "extendOrder", tag = "orders",
    params(OneOrder, InQueueParam, Durable),
    request_body(content = Move, example = json!({"extend_by": "10m"})),
    responses(
        (status = 200, description = "Its deadline was moved.", body = ExtendedOrder,
            example = json!({"id": "42", "queue": "orders", "status": "created",
                "created_at": "2026-01-01T00:00:00.000Z", "due_at": "2026-01-01T00:40:00.000Z",
                "fields": {"amount": "100.00"}, "previous_due_at": "2026-01-01T00:30:00.000Z"})),
    ),
    security(("bearer" = ["write"])),
)]
pub(in crate::http) async fn extend(
    OnOrder { orders, id }: OnOrder,
    Json(body): Json<Move>,
) -> Result<Response, Problem> {
    match orders.extend(&id, body.extension()?).await? {
        Extended::Moved { order, old } => {
            let durability = orders.queue().durability();
            Ok(json(StatusCode::OK, &ExtendedOrder { order, previous_due_at: old, durability }))
        }
        Extended::TooLate(order) => Err(too_late(&order)),
        Extended::NotFound => Err(no_such(&orders, &id)),
        Extended::NotAnOrder => Err(not_an_order(&id)),
    }
}
