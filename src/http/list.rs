//! `GET /v1/queues/{queue}/deadlines`: what is there, in pages.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    deadlines::json,
    extract::{OnQueueWith, Params},
    problem::Problem,
    schema::{OneQueue, When},
};
use crate::{
    error::Result,
    queue::{Cursor, MAX_IDS_PER_CALL, Page, Queue, Shown, State},
    types::{DueAt, MAX_ID_BYTES},
};

const DEFAULT_LIMIT: usize = 100;
/// How many rows one request looks at, so that a filter that fits nothing does not keep it busy for long. The page is
/// shorter then, or empty, and says how to go on.
const MAX_ROWS: usize = 20 * MAX_IDS_PER_CALL;

/// A page.
#[derive(Serialize, ToSchema)]
pub(super) struct Deadlines {
    /// In the order of deadline, claim or burial, without payloads.
    deadlines: Vec<Shown>,
    /// To pass as `cursor` for what follows; missing on the last page. A page can be short, or empty, and have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which rows.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `list` takes out of the query")]
pub(super) struct Filter {
    /// Where they are; `scheduled` if left out
    #[param(inline)]
    state: Option<State>,
    /// Due at this time or later; of an id that failed, the time of its next attempt counts
    #[param(value_type = Option<When>)]
    due_after: Option<DueAt>,
    /// Due before this time
    #[param(value_type = Option<When>)]
    due_before: Option<DueAt>,
    /// Ids that begin with this
    #[param(max_length = 256)]
    prefix: Option<String>,
}

/// How much of a list, and from where on.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `paging` takes out of the query")]
pub(super) struct Paging {
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before
    #[param(pattern = r"^[0-9]{12,15}_([0-9a-f]{2}){1,256}$")]
    cursor: Option<String>,
}

/// List the deadlines of a queue.
#[utoipa::path(
    get, path = "/v1/queues/{queue}/deadlines", operation_id = "listDeadlines", tag = "deadlines",
    params(OneQueue, Filter, Paging),
    responses(
        (status = 200, description = "A page.", body = Deadlines,
            example = json!({"deadlines": [{"id": "order-42", "queue": "orders", "state": "scheduled",
                "due_at": "2026-01-01T00:30:00.000Z", "attempt": 0, "failures": 0, "crashes": 0}],
                "next_cursor": "1767227400000_6f726465722d3432"})),
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn list(
    OnQueueWith { served, mut params }: OnQueueWith,
) -> std::result::Result<Response, Problem> {
    let state = params.choice::<State>("state")?.unwrap_or(State::Scheduled);
    let (after, before) = (params.take::<DueAt>("due_after")?, params.take::<DueAt>("due_before")?);
    let prefix = params.words("prefix", MAX_ID_BYTES)?.unwrap_or_default();
    let (limit, cursor) = paging(&mut params)?;
    params.no_more()?;

    // Scheduled ids come in the order of their times, so these bound the search instead of filtering it.
    let in_order = state == State::Scheduled;
    let cursor = cursor.or_else(|| after.filter(|_| in_order).map(Cursor::at));
    let past_the_end = AtomicBool::new(false);
    let keep = |row: &Shown| {
        let at = row.next_attempt_at.or(row.due_at);
        let too_late = before.is_some_and(|before| at.is_none_or(|at| at >= before));
        past_the_end.fetch_or(too_late && in_order && at.is_some(), Relaxed);
        !too_late && after.is_none_or(|after| at.is_some_and(|at| at >= after)) && row.id.starts_with(&prefix)
    };
    let page = collect(&served.queue, state, limit, cursor, || past_the_end.load(Relaxed), keep).await?;
    Ok(answer(page, past_the_end.load(Relaxed)))
}

/// The two parameters that every list has.
pub(super) fn paging(params: &mut Params) -> std::result::Result<(usize, Option<Cursor>), Problem> {
    Ok((params.count("limit", DEFAULT_LIMIT, MAX_IDS_PER_CALL)?, params.take("cursor")?))
}

pub(super) fn answer(page: Page, past_the_end: bool) -> Response {
    let next_cursor = page.next.filter(|_| !past_the_end).map(|cursor| cursor.to_string());
    json(StatusCode::OK, &Deadlines { deadlines: page.rows, next_cursor })
}

/// Rows that `keep` lets through, from as many pages of the engine as it takes, until `is_over`.
pub(super) async fn collect(
    queue: &Queue,
    state: State,
    limit: usize,
    mut cursor: Option<Cursor>,
    is_over: impl Fn() -> bool,
    mut keep: impl FnMut(&Shown) -> bool,
) -> Result<Page> {
    let (mut rows, mut looked_at) = (Vec::new(), 0);
    loop {
        let page = queue.list_where(state, limit - rows.len(), cursor.as_ref(), &mut keep).await?;
        rows.extend(page.rows);
        cursor = page.next;
        looked_at += MAX_IDS_PER_CALL;
        if cursor.is_none() || rows.len() == limit || looked_at >= MAX_ROWS || is_over() {
            return Ok(Page { rows, next: cursor });
        }
    }
}
