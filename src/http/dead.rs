//! `/v1/queues/{queue}/dead`: what was set aside.

use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    deadlines::{json, no_such},
    extract::{Json, OnId, OnQueue, OnQueueWith},
    list::{Deadlines, Paging, answer, collect, paging},
    problem::{Kind, Problem},
    schema::{OneDeadline, OneQueue},
};
use crate::{
    error::Invalid,
    queue::{MAX_IDS_PER_CALL, Settled, State},
    types::{Id, MAX_ID_BYTES},
};

/// Which rows.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `list` takes out of the query")]
pub(super) struct Filter {
    /// Only with this reason, such as attempts_spent
    #[param(max_length = 100)]
    reason: Option<String>,
    /// Ids that begin with this
    #[param(max_length = 256)]
    prefix: Option<String>,
}

/// List the dead set.
#[utoipa::path(
    get, path = "/v1/queues/{queue}/dead", operation_id = "listDead", tag = "dead",
    params(OneQueue, Filter, Paging),
    responses(
        (status = 200, description = "A page, in the order of burial.", body = Deadlines,
            example = json!({"deadlines": [{"id": "order-42", "queue": "orders", "state": "dead",
                "due_at": "2026-01-01T00:30:00.000Z", "attempt": 10, "failures": 10, "crashes": 0,
                "buried_at": "2026-01-01T01:42:00.000Z", "reason": "attempts_spent", "error": "HTTP 500"}]})),
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn list(OnQueueWith { served, mut params }: OnQueueWith) -> Result<Response, Problem> {
    let reason = params.words("reason", 100)?;
    let prefix = params.words("prefix", MAX_ID_BYTES)?.unwrap_or_default();
    let (limit, cursor) = paging(&mut params)?;
    params.no_more()?;
    let page = collect(
        &served.queue,
        State::Dead,
        limit,
        cursor,
        || false,
        |row| {
            reason.as_ref().is_none_or(|reason| row.reason.as_ref() == Some(reason))
                && row.id.starts_with(&prefix)
        },
    )
    .await?;
    Ok(answer(page, false))
}

/// Ids, 1 to 1000.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ids {
    #[schema(value_type = Vec<Id>, min_items = 1, max_items = 1000)]
    ids: Bulk<Id>,
}

/// 1 to 1000 items.
#[derive(Deserialize)]
#[serde(try_from = "Vec<T>")]
pub(super) struct Bulk<T>(pub(super) Vec<T>);

impl<T> TryFrom<Vec<T>> for Bulk<T> {
    type Error = Invalid;

    fn try_from(items: Vec<T>) -> Result<Self, Invalid> {
        if items.is_empty() || items.len() > MAX_IDS_PER_CALL {
            let why = format!("items are not possible here: 1 to {MAX_IDS_PER_CALL} are");
            return Err(Invalid::new("a list of", items.len(), why));
        }
        Ok(Self(items))
    }
}

/// What became of one of many.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DeadVerdict)]
enum Verdict {
    /// It was dead, and it is done.
    Done,
    /// It is not dead. Nothing was changed.
    NotDead,
}

/// One of many.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadResult)]
struct One<'a> {
    #[schema(value_type = Id)]
    id: &'a Id,
    result: Verdict,
}

/// An answer for each id, in order.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadResults)]
pub(super) struct Results<'a> {
    results: Vec<One<'a>>,
}

fn results(ids: &[Id], answers: &[Settled]) -> Response {
    let one = |(id, settled): (_, &Settled)| {
        let result = if *settled == Settled::Done { Verdict::Done } else { Verdict::NotDead };
        One { id, result }
    };
    json(StatusCode::OK, &Results { results: ids.iter().zip(answers).map(one).collect() })
}

/// Schedule dead ids again: due now, with payload and original deadline, and all attempts before them.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/dead/retry", operation_id = "retryDead", tag = "dead",
    params(OneQueue),
    request_body(content = Ids, example = json!({"ids": ["order-42", "order-43"]})),
    responses(
        (status = 200, description = "A verdict for each id.", body = Results,
            example = json!({"results": [{"id": "order-42", "result": "done"},
                {"id": "order-43", "result": "not_dead"}]})),
    ),
    security(("bearer" = ["admin"])),
)]
pub(super) async fn retry(
    OnQueue(served): OnQueue,
    Json(Ids { ids: Bulk(ids) }): Json<Ids>,
) -> Result<Response, Problem> {
    Ok(results(&ids, &served.queue.retry_dead(&ids).await?))
}

/// Remove dead ids for good, payload included.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/dead/delete", operation_id = "deleteDead", tag = "dead",
    params(OneQueue),
    request_body(content = Ids, example = json!({"ids": ["order-42", "order-43"]})),
    responses(
        (status = 200, description = "A verdict for each id.", body = Results,
            example = json!({"results": [{"id": "order-42", "result": "done"},
                {"id": "order-43", "result": "not_dead"}]})),
    ),
    security(("bearer" = ["admin"])),
)]
pub(super) async fn delete(
    OnQueue(served): OnQueue,
    Json(Ids { ids: Bulk(ids) }): Json<Ids>,
) -> Result<Response, Problem> {
    Ok(results(&ids, &served.queue.delete_dead(&ids).await?))
}

/// Schedule a dead id again: due now, with payload and original deadline, and all attempts before it.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/deadlines/{id}/retry", operation_id = "retryDeadline", tag = "dead",
    params(OneDeadline),
    responses(
        (status = 200, description = "It is due now.", body = Results,
            example = json!({"results": [{"id": "order-42", "result": "done"}]})),
    ),
    security(("bearer" = ["admin"])),
)]
pub(super) async fn retry_one(OnId { served, id }: OnId) -> Result<Response, Problem> {
    let ids = [id];
    let answers = served.queue.retry_dead(&ids).await?;
    if answers[0] == Settled::Stale {
        let [id] = &ids;
        let shown = served.queue.show(id).await?.ok_or_else(|| no_such(&served, id))?;
        return Err(Problem::new(Kind::NotDead, format_args!("`{id}` is {}", shown.state)));
    }
    Ok(results(&ids, &answers))
}
