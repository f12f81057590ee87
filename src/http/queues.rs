//! `/v1/queues`: how much is where; pause and resume.

use axum::{extract, response::Response};
use futures_util::future::try_join_all;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Api, Served, deadlines::json, extract::OnQueue, problem::Problem, schema::OneQueue};
use crate::{
    scheduler::Losses,
    types::{DueAt, QueueName},
};

/// A queue at one instant.
#[derive(Serialize, ToSchema)]
pub(super) struct Queue {
    queue: QueueName,
    /// The type of its handler.
    handler: &'static str,
    /// True while nothing may be claimed.
    paused: bool,
    /// Ids that wait for a deadline or a retry.
    #[schema(minimum = 0)]
    scheduled: u64,
    /// Of these, how many are due.
    #[schema(minimum = 0)]
    due: u64,
    /// Ids in flight.
    #[schema(minimum = 0)]
    leased: u64,
    #[schema(minimum = 0)]
    dead: u64,
    /// The earliest deadline; if it has passed, the oldest overdue one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_due_at: Option<DueAt>,
    /// How long ago the oldest deadline passed that was not claimed yet.
    #[schema(minimum = 0)]
    overdue_ms: u64,
    /// How often this process found that Redis had lost data of the queue; see the log.
    #[schema(minimum = 0)]
    data_losses: u64,
    /// Over how many shards it is spread; left out of a queue of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 2, maximum = 64)]
    shards: Option<u16>,
}

/// All queues.
#[derive(Serialize, ToSchema)]
pub(super) struct Queues {
    queues: Vec<Queue>,
}

async fn look_at(served: &Served) -> crate::Result<Queue> {
    let counts = served.queue.counts().await?;
    let Losses { data_lost, rolled_back } = served.pulse.losses();
    let shards = served.queue.shards().homes();
    Ok(Queue {
        queue: served.name().clone(),
        handler: served.handler,
        paused: counts.paused,
        scheduled: counts.scheduled,
        due: counts.due,
        leased: counts.leased,
        dead: counts.dead,
        next_due_at: counts.next_due_at,
        overdue_ms: counts.overdue().as_millis() as u64,
        data_losses: data_lost + rolled_back,
        shards: (shards > 1).then_some(shards),
    })
}

/// List the queues that are served here.
#[utoipa::path(
    get, path = "/v1/queues", operation_id = "listQueues", tag = "queues",
    responses(
        (status = 200, description = "All of them.", body = Queues,
            example = json!({"queues": [{"queue": "orders", "handler": "webhook", "paused": false,
                "scheduled": 1200, "due": 0, "leased": 3, "dead": 1,
                "next_due_at": "2026-01-01T00:30:00.000Z", "overdue_ms": 0,
                "data_losses": 0}]})),
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn list(
    extract::State(api): extract::State<Api>,
    params: super::extract::Params,
) -> Result<Response, Problem> {
    params.no_more()?;
    let queues = try_join_all(api.queues.values().map(|served| look_at(served))).await?;
    Ok(json(StatusCode::OK, &Queues { queues }))
}

/// Look at a queue.
#[utoipa::path(
    get, path = "/v1/queues/{queue}", operation_id = "getQueue", tag = "queues",
    params(OneQueue),
    responses(
        (status = 200, description = "How much is where.", body = Queue,
            example = json!({"queue": "orders", "handler": "webhook", "paused": false,
                "scheduled": 1200, "due": 0, "leased": 3, "dead": 1,
                "next_due_at": "2026-01-01T00:30:00.000Z", "overdue_ms": 0,
                "data_losses": 0})),
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn get(OnQueue(served): OnQueue) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, &look_at(&served).await?))
}

/// Whether a queue is paused.
#[derive(Serialize, ToSchema)]
pub(super) struct Paused<'a> {
    #[schema(value_type = QueueName)]
    queue: &'a QueueName,
    paused: bool,
    /// False if it was so before.
    changed: bool,
}

async fn set_paused(served: &Served, paused: bool) -> Result<Response, Problem> {
    let changed = served.queue.pause(paused).await?;
    Ok(json(StatusCode::OK, &Paused { queue: served.name(), paused, changed }))
}

/// Stop claiming, in all processes. What is in flight goes on, and so do registering and cancelling.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/pause", operation_id = "pauseQueue", tag = "queues",
    params(OneQueue),
    responses(
        (status = 200, description = "It is paused.", body = Paused,
            example = json!({"queue": "orders", "paused": true, "changed": true})),
    ),
    security(("bearer" = ["admin"])),
)]
pub(super) async fn pause(OnQueue(served): OnQueue) -> Result<Response, Problem> {
    set_paused(&served, true).await
}

/// Let a paused queue go on: what fell due meanwhile is claimed at once.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/resume", operation_id = "resumeQueue", tag = "queues",
    params(OneQueue),
    responses(
        (status = 200, description = "It is not paused.", body = Paused,
            example = json!({"queue": "orders", "paused": false, "changed": true})),
    ),
    security(("bearer" = ["admin"])),
)]
pub(super) async fn resume(OnQueue(served): OnQueue) -> Result<Response, Problem> {
    set_paused(&served, false).await
}
