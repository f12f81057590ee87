//! `POST /v1/orders` and `PUT /v1/orders/{id}`: make an order, at once or by the intake.

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{InQueue, InQueueParam, OnOrder, OneOrder, check_id, not_an_order};
use crate::{
    duration,
    http::{
        create::{derived_id, key, random_id},
        deadlines::{due, json},
        extract::{Json, present},
        problem::{Kind, Problem},
        schema::{Durable, When},
    },
    order::{Created, Fields, NewOrder, Order, Orders, Submitted},
    queue::Due,
    types::{DueAt, DurabilityLevel, Id, QueueName},
};

/// RFC 7240.
const PREFER: &str = "prefer";
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const RESPOND_ASYNC: &str = "respond-async";

/// An order to create. Without `due_at` and `delay` it has the timeout of the configuration.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct OrderBody {
    /// By when it must be paid.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<When>)]
    due_at: Option<DueAt>,
    /// How long from now it may be paid, by the clock of Redis.
    #[serde(default, deserialize_with = "present")]
    delay: Option<duration::Text>,
    /// What you keep with it.
    #[serde(default)]
    #[schema(value_type = Option<Fields>)]
    fields: Fields,
}

/// The same with an id.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewOrderBody {
    /// Its id; the server makes one if it is left out.
    #[serde(default, deserialize_with = "present")]
    id: Option<Id>,
    /// By when it must be paid.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<When>)]
    due_at: Option<DueAt>,
    /// How long from now it may be paid, by the clock of Redis.
    #[serde(default, deserialize_with = "present")]
    delay: Option<duration::Text>,
    /// What you keep with it.
    #[serde(default)]
    #[schema(value_type = Option<Fields>)]
    fields: Fields,
}

/// What became of it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Creating {
    /// It is new.
    Created,
    /// It existed, with the same fields. Its deadline is that of the first time.
    Exists,
}

/// An order that was created, or existed.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct CreatedOrder {
    result: Creating,
    #[serde(flatten)]
    order: Order,
    /// What the write has reached.
    durability: DurabilityLevel,
}

/// What became of a submission.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Submitting {
    /// It is created soon.
    Accepted,
    /// It was submitted before, and waits.
    Waiting,
    /// It exists.
    Exists,
}

/// An order that waits to be created.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct SubmittedOrder {
    result: Submitting,
    id: Id,
    queue: QueueName,
    /// By when it must be paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<DueAt>,
    /// What the write has reached.
    durability: DurabilityLevel,
}

/// Create an order.
///
/// Creating one twice is creating it once, so a call without an answer can be repeated; without an `id` only with an
/// `Idempotency-Key`, from which the id is then derived. `Prefer: respond-async` puts it into the intake instead: it is
/// accepted at once, and created a moment later.
#[utoipa::path(
    post, path = "/v1/orders", operation_id = "createOrder", tag = "orders",
    params(InQueueParam, Durable,
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$"),
        ("Prefer" = Option<String>, Header,
            description = "respond-async to accept it and create it later; others are ignored, as RFC 7240 asks")),
    request_body(content = NewOrderBody,
        example = json!({"id": "42", "delay": "30m", "fields": {"amount": "100.00"}})),
    responses(
        (status = 201, description = "It is created.", body = CreatedOrder,
            headers(("location" = String, description = "Where it can be looked up")),
            example = json!({"result": "created", "id": "42", "queue": "orders", "status": "created",
                "created_at": "2026-01-01T00:00:00.000Z", "due_at": "2026-01-01T00:30:00.000Z",
                "fields": {"amount": "100.00"}})),
        (status = 200, description = "It existed, with the same fields.", body = CreatedOrder,
            headers(("location" = String, description = "Where it can be looked up")),
            example = json!({"result": "exists", "id": "42", "queue": "orders", "status": "paid",
                "created_at": "2026-01-01T00:00:00.000Z", "due_at": "2026-01-01T00:30:00.000Z",
                "paid_at": "2026-01-01T00:04:10.123Z", "fields": {"amount": "100.00"}})),
        (status = 202, description = "It waits to be created, with `Prefer: respond-async`.", body = SubmittedOrder,
            headers(("location" = String, description = "Where it can be looked up a moment later"),
                ("preference-applied" = String, description = "respond-async")),
            example = json!({"result": "accepted", "id": "42", "queue": "orders",
                "due_at": "2026-01-01T00:30:00.000Z"})),
    ),
    security(("bearer" = ["write"])),
)]
pub(in crate::http) async fn post(
    InQueue { orders, params }: InQueue,
    headers: HeaderMap,
    Json(body): Json<NewOrderBody>,
) -> Result<Response, Problem> {
    params.no_more()?;
    let key = key(&headers)?;
    let id = match (body.id, key) {
        (Some(id), None) => {
            check_id(&id)?;
            id
        }
        (None, key) => key.map_or_else(random_id, derived_id),
        (Some(_), Some(_)) => {
            let why = "an `id` makes the call repeatable already: leave one of them out";
            return Err(Problem::new(Kind::InvalidValue, why).field("idempotency-key"));
        }
    };
    let new = NewOrder { id, due: due_or_timeout(&orders, body.due_at, body.delay)?, fields: body.fields };
    let mut response =
        if prefers_async(&headers) { submit(&orders, &new).await? } else { create(&orders, &new).await? };
    let path = url::form_urlencoded::byte_serialize(new.id.as_str().as_bytes()).collect::<String>();
    let location = format!("/v1/orders/{}", path.replace('+', "%20"));
    response
        .headers_mut()
        .insert(header::LOCATION, HeaderValue::try_from(location).expect("percent-encoded text is ASCII"));
    Ok(response)
}

/// Create an order under this id; creating it twice is creating it once.
#[utoipa::path(
    put, path = "/v1/orders/{id}", operation_id = "putOrder", tag = "orders",
    params(OneOrder, InQueueParam, Durable),
    request_body(content = OrderBody, example = json!({"delay": "30m", "fields": {"amount": "100.00"}})),
    responses(
        (status = 201, description = "It is created.", body = CreatedOrder,
            example = json!({"result": "created", "id": "42", "queue": "orders", "status": "created",
                "created_at": "2026-01-01T00:00:00.000Z", "due_at": "2026-01-01T00:30:00.000Z",
                "fields": {"amount": "100.00"}})),
        (status = 200, description = "It existed, with the same fields.", body = CreatedOrder,
            example = json!({"result": "exists", "id": "42", "queue": "orders", "status": "created",
                "created_at": "2026-01-01T00:00:00.000Z", "due_at": "2026-01-01T00:30:00.000Z",
                "fields": {"amount": "100.00"}})),
    ),
    security(("bearer" = ["write"])),
)]
pub(in crate::http) async fn put(
    OnOrder { orders, id }: OnOrder,
    Json(body): Json<OrderBody>,
) -> Result<Response, Problem> {
    let due = due_or_timeout(&orders, body.due_at, body.delay)?;
    create(&orders, &NewOrder { id, due, fields: body.fields }).await
}

fn due_or_timeout(
    orders: &Orders,
    due_at: Option<DueAt>,
    delay: Option<duration::Text>,
) -> Result<Due, Problem> {
    if due_at.is_none() && delay.is_none() { Ok(orders.default_due()) } else { due(due_at, delay) }
}

/// A preference may have parameters, and a value in quotes may hold anything.
pub(in crate::http) fn prefers_async(headers: &HeaderMap) -> bool {
    let preferences = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    preferences.flat_map(split_unquoted).any(|preference| {
        let name = preference.split(';').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case(RESPOND_ASYNC)
    })
}

/// The parts between commas that stand in no quotes.
fn split_unquoted(text: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |character| {
        let is_literal = std::mem::take(&mut is_escaped);
        match character {
            '"' if !is_literal => is_quoted = !is_quoted,
            '\\' if is_quoted && !is_literal => is_escaped = true,
            _ => {}
        }
        character == ',' && !is_quoted
    })
}

async fn create(orders: &Orders, new: &NewOrder) -> Result<Response, Problem> {
    let durability = orders.queue().durability();
    match orders.create(std::slice::from_ref(new)).await?.remove(0) {
        Created::Created(order) => {
            Ok(json(StatusCode::CREATED, &CreatedOrder { result: Creating::Created, order, durability }))
        }
        Created::Exists(order) => {
            Ok(json(StatusCode::OK, &CreatedOrder { result: Creating::Exists, order, durability }))
        }
        Created::Conflict(_) => Err(conflict(&new.id)),
        Created::NotAnOrder => Err(not_an_order(&new.id)),
    }
}

async fn submit(orders: &Orders, new: &NewOrder) -> Result<Response, Problem> {
    let (result, due_at) = match orders.submit(std::slice::from_ref(new)).await?[0] {
        Submitted::Accepted { due_at } => (Submitting::Accepted, Some(due_at)),
        Submitted::Waiting { due_at } => (Submitting::Waiting, due_at),
        Submitted::Exists { due_at } => (Submitting::Exists, due_at),
        Submitted::Conflict => return Err(conflict(&new.id)),
        Submitted::Full => return Err(Problem::new(Kind::IntakeFull, Kind::IntakeFull.parts().3)),
    };
    let (id, queue) = (new.id.clone(), orders.queue().name().clone());
    let durability = orders.queue().durability();
    let mut response = json(StatusCode::ACCEPTED, &SubmittedOrder { result, id, queue, due_at, durability });
    response.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static(RESPOND_ASYNC));
    Ok(response)
}

fn conflict(id: &Id) -> Problem {
    Problem::new(Kind::OrderConflict, format_args!("order `{id}` exists with other fields")).field("fields")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_known_by_its_name() {
        let prefers = |value: &'static str| {
            prefers_async(&HeaderMap::from_iter([(
                HeaderName::from_static(PREFER),
                HeaderValue::from_static(value),
            )]))
        };
        for value in
            ["respond-async", "wait=1, Respond-Async", "respond-async; x=1", "a=\"b\\\",\", respond-async"]
        {
            assert!(prefers(value), "{value}");
        }
        for value in ["", "respond-asynchronously", "a=\"b, respond-async\"", "a=\"b\\\", respond-async"] {
            assert!(!prefers(value), "{value}");
        }
    }
}
