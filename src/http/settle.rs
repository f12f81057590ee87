//! What became of a delivery: `/v1/queues/{queue}/ack`, `/retry`, `/extend`, `/bury`.

use axum::response::Response;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Served,
    dead::Bulk,
    deadlines::json,
    extract::{Json, OnQueue, present, token},
    problem::Problem,
    pull::{AT_ONCE, MAX_LEASE, MIN_LEASE, bounded},
    schema::{LeaseTime, OneQueue},
};
use crate::{
    duration,
    queue::{Lease, Rejected, Retried, Retry, Settled},
    scheduler::Fate,
    types::{DueAt, Id, Token},
};

/// A delivery that you hold.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Held {
    id: Id,
    /// As the claim answered it.
    #[serde(deserialize_with = "token")]
    token: Token,
}

impl From<Held> for Lease {
    fn from(Held { id, token }: Held) -> Self {
        Self { id, token }
    }
}

/// Deliveries, 1 to 1000.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Done {
    #[schema(value_type = Vec<Held>, min_items = 1, max_items = 1000)]
    deliveries: Bulk<Held>,
}

/// What became of one delivery.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SettledVerdict)]
enum Verdict {
    /// It is done.
    Done,
    /// It is tried again.
    Scheduled,
    /// Its attempts are spent.
    Dead,
    /// It was registered anew meanwhile; that deadline stands.
    Superseded,
    /// The lease was lost or the id cancelled. Nothing was changed.
    Stale,
}

/// One of many.
#[derive(Serialize, ToSchema)]
#[schema(as = SettledResult)]
struct One<'a> {
    #[schema(value_type = Id)]
    id: &'a Id,
    result: Verdict,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<DueAt>,
}

/// An answer for each delivery, in order.
#[derive(Serialize, ToSchema)]
#[schema(as = SettledResults)]
pub(super) struct Results<'a> {
    results: Vec<One<'a>>,
}

fn results<'a>(
    ids: impl Iterator<Item = &'a Id>,
    verdicts: impl IntoIterator<Item = (Verdict, Option<DueAt>)>,
) -> Response {
    let one = |(id, (result, next_attempt_at))| One { id, result, next_attempt_at };
    json(StatusCode::OK, &Results { results: ids.zip(verdicts).map(one).collect() })
}

fn settled(leases: &[Lease], answers: Vec<Settled>) -> Response {
    let verdict = |settled| (if settled == Settled::Done { Verdict::Done } else { Verdict::Stale }, None);
    results(leases.iter().map(|lease| &lease.id), answers.into_iter().map(verdict))
}

fn leases(Bulk(held): Bulk<Held>) -> Vec<Lease> {
    held.into_iter().map(Lease::from).collect()
}

/// Say that deliveries are done.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/ack", operation_id = "ack", tag = "pull",
    params(OneQueue),
    request_body(content = Done,
        example = json!({"deliveries": [{"id": "order-42", "token": 1_767_225_600_012_345_u64}]})),
    responses(
        (status = 200, description = "A verdict for each.", body = Results,
            example = json!({"results": [{"id": "order-42", "result": "done"}]})),
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn ack(
    OnQueue(served): OnQueue,
    Json(Done { deliveries }): Json<Done>,
) -> Result<Response, Problem> {
    served.check_pull()?;
    let leases = leases(deliveries);
    let answers = served.queue.ack(&leases).await?;
    served.pulse.meter().answered(Fate::Done, &answers);
    Ok(settled(&leases, answers))
}

/// A failed attempt.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Failed {
    id: Id,
    /// As the claim answered it.
    #[serde(deserialize_with = "token")]
    token: Token,
    /// What went wrong, for people; of over 500 characters the beginning and the end are kept.
    #[serde(default, deserialize_with = "present")]
    error: Option<String>,
    /// How long to wait; by the queue's backoff if left out.
    #[serde(default, deserialize_with = "present")]
    delay: Option<duration::Text>,
}

/// Failed attempts, 1 to 1000.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Failures {
    #[schema(value_type = Vec<Failed>, min_items = 1, max_items = 1000)]
    deliveries: Bulk<Failed>,
}

/// Say that attempts failed: they are tried again, until `max_attempts` of them failed.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/retry", operation_id = "retry", tag = "pull",
    params(OneQueue),
    request_body(content = Failures, example = json!({"deliveries": [
        {"id": "order-42", "token": 1_767_225_600_012_345_u64, "error": "the shop is down", "delay": "10s"}]})),
    responses(
        (status = 200, description = "A verdict for each.", body = Results,
            example = json!({"results": [{"id": "order-42", "result": "scheduled",
                "next_attempt_at": "2026-01-01T00:30:10.034Z"}]})),
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn retry(
    OnQueue(served): OnQueue,
    Json(Failures { deliveries: Bulk(failures) }): Json<Failures>,
) -> Result<Response, Problem> {
    served.check_pull()?;
    let retries = failures.into_iter().map(|failed| served.retry_of(failed));
    let retries: Vec<Retry> = stream::iter(retries).buffered(AT_ONCE).try_collect().await?;
    let max_attempts = served.settings.borrow().max_attempts;
    let answers = served.queue.retry(&retries, max_attempts).await?;
    answers.iter().for_each(|retried| served.pulse.meter().settled(Fate::of(*retried), 1));
    let verdict = |retried| match retried {
        Retried::Scheduled { at } => (Verdict::Scheduled, Some(at)),
        Retried::Dead => (Verdict::Dead, None),
        Retried::Superseded => (Verdict::Superseded, None),
        Retried::Stale => (Verdict::Stale, None),
    };
    Ok(results(retries.iter().map(|retry| &retry.lease.id), answers.into_iter().map(verdict)))
}

impl Served {
    /// Without a delay the backoff counts, and for that the failures so far.
    async fn retry_of(&self, Failed { id, token, error, delay }: Failed) -> crate::Result<Retry> {
        let delay = match delay {
            Some(duration::Text(delay)) => delay,
            None => {
                let failures = self.queue.show(&id).await?.map_or(0, |shown| shown.failures);
                self.settings.borrow().backoff.delay(failures.saturating_add(1), rand::random())
            }
        };
        Ok(Retry { lease: Lease { id, token }, delay, error: error.unwrap_or_default() })
    }
}

/// Deliveries, 1 to 1000, and how long they are yours from now.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Longer {
    /// 100ms to 24h; the `lease` of the queue if left out.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<LeaseTime>)]
    lease: Option<duration::Text>,
    #[schema(value_type = Vec<Held>, min_items = 1, max_items = 1000)]
    deliveries: Bulk<Held>,
}

/// Keep deliveries for longer. A lease belongs to all ids of one claim, so it is extended for all of them.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/extend", operation_id = "extend", tag = "pull",
    params(OneQueue),
    request_body(content = Longer, example = json!({"lease": "30s",
        "deliveries": [{"id": "order-42", "token": 1_767_225_600_012_345_u64}]})),
    responses(
        (status = 200, description = "A verdict for each.", body = Results,
            example = json!({"results": [{"id": "order-42", "result": "done"}]})),
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn extend(
    OnQueue(served): OnQueue,
    Json(Longer { lease, deliveries }): Json<Longer>,
) -> Result<Response, Problem> {
    served.check_pull()?;
    let default = served.settings.borrow().lease;
    let lease = bounded("lease", lease, default, MIN_LEASE, MAX_LEASE)?;
    let leases = leases(deliveries);
    let answers = served.queue.extend_ids(&leases, lease).await?;
    Ok(settled(&leases, answers))
}

/// A delivery that no further attempt can mend.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Hopeless {
    id: Id,
    /// As the claim answered it.
    #[serde(deserialize_with = "token")]
    token: Token,
    /// What went wrong, for people; of over 500 characters the beginning and the end are kept.
    #[serde(default, deserialize_with = "present")]
    error: Option<String>,
}

/// Deliveries that no further attempt can mend, 1 to 1000.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HopelessOnes {
    #[schema(value_type = Vec<Hopeless>, min_items = 1, max_items = 1000)]
    deliveries: Bulk<Hopeless>,
}

/// Set deliveries aside in the dead set, without a further attempt.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/bury", operation_id = "bury", tag = "pull",
    params(OneQueue),
    request_body(content = HopelessOnes, example = json!({"deliveries": [
        {"id": "order-42", "token": 1_767_225_600_012_345_u64, "error": "no such order"}]})),
    responses(
        (status = 200, description = "A verdict for each.", body = Results,
            example = json!({"results": [{"id": "order-42", "result": "done"}]})),
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn bury(
    OnQueue(served): OnQueue,
    Json(HopelessOnes { deliveries: Bulk(hopeless) }): Json<HopelessOnes>,
) -> Result<Response, Problem> {
    served.check_pull()?;
    let (leases, errors): (Vec<Lease>, Vec<String>) = hopeless
        .into_iter()
        .map(|Hopeless { id, token, error }| (Lease { id, token }, error.unwrap_or_default()))
        .unzip();
    let rejected = leases.iter().zip(errors).map(|(lease, error)| Rejected {
        id: lease.id.as_str().into(),
        token: lease.token,
        reason: "rejected",
        error,
    });
    let answers = served.queue.bury(&rejected.collect::<Vec<_>>()).await?;
    served.pulse.meter().answered(Fate::Dead, &answers);
    Ok(settled(&leases, answers))
}
