//! `/v1/queues/{queue}/claim`: workers in any language take what is due. What follows is in `settle`.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, response::Response};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{
    Api, Served,
    deadlines::json,
    extract::{Json, OnQueue, Whole, present},
    problem::{Kind, Problem},
    schema::{LeaseTime, OneQueue, WaitTime},
};
use crate::{
    duration,
    error::{Invalid, Result},
    handler::EventData,
    queue::{Claim, ClaimOptions, Delivery, Lease, MAX_IDS_PER_CALL, Rejected, Settled},
    types::DueAt,
};

const MAX_WAIT: Duration = Duration::from_secs(30);
pub(super) const MIN_LEASE: Duration = Duration::from_millis(100);
pub(super) const MAX_LEASE: Duration = Duration::from_secs(24 * 3600);
/// How often giving back is tried: the first call may find the connection dead, the next one has a new one.
const GIVE_BACK_TRIES: usize = 3;
/// Calls that one request has under way at once, where the engine takes ids one by one.
pub(super) const AT_ONCE: usize = 16;

impl Served {
    pub(super) fn check_pull(&self) -> Result<(), Problem> {
        if self.handler == "pull" {
            return Ok(());
        }
        let (queue, handler) = (self.name(), self.handler);
        let why = format!("queue `{queue}` has the handler `{handler}`; claiming needs `type = \"pull\"`");
        Err(Problem::new(Kind::NotAPullQueue, why))
    }
}

/// What to claim.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// How many at most; 1 if left out.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<usize>, minimum = 1, maximum = 1000)]
    limit: Option<Whole>,
    /// How long they are yours unless extended: 100ms to 24h; the `lease` of the queue if left out.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<LeaseTime>)]
    lease: Option<duration::Text>,
    /// How long to wait until something is due, up to 30s; not at all if left out.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<WaitTime>)]
    wait: Option<duration::Text>,
}

/// What was claimed.
#[derive(Serialize, ToSchema)]
pub(super) struct Claimed<'a> {
    /// None if nothing fell due in time, or the server stops.
    deliveries: Vec<EventData<'a>>,
    /// When the lease on all of them ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<DueAt>,
}

/// Claim what is due.
///
/// It is yours until the lease ends; then somebody else gets it. With `wait` the answer comes the moment something falls
/// due. Waiters of a queue are served in the order in which they came.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/claim", operation_id = "claim", tag = "pull",
    params(OneQueue),
    request_body(content = Wanted, example = json!({"limit": 10, "lease": "30s", "wait": "20s"})),
    responses(
        (status = 200, description = "What was due, or nothing.", body = Claimed,
            example = json!({"deliveries": [{"queue": "orders", "id": "order-42",
                "due_at": "2026-01-01T00:30:00.000Z", "attempt": 1, "token": 1_767_225_600_012_345_u64,
                "payload": {"amount": "100.00"}}], "expires_at": "2026-01-01T00:30:30.012Z"})),
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn claim(
    State(api): State<Api>,
    OnQueue(served): OnQueue,
    Json(wanted): Json<Wanted>,
) -> Result<Response, Problem> {
    served.check_pull()?;
    let limit = wanted.limit.map_or(1, |Whole(limit)| usize::try_from(limit).unwrap_or(usize::MAX));
    if !(1..=MAX_IDS_PER_CALL).contains(&limit) {
        let why = format!("`{limit}` is no number of 1 to {MAX_IDS_PER_CALL}");
        return Err(Problem::new(Kind::InvalidValue, why).field("limit"));
    }
    let wait = bounded("wait", wanted.wait, Duration::ZERO, Duration::ZERO, MAX_WAIT)?;
    let until = Instant::now() + wait;
    let lease = {
        let settings = served.settings.borrow();
        bounded("lease", wanted.lease, settings.lease, MIN_LEASE, MAX_LEASE)?
    };
    let claim = if wait.is_zero() {
        take(&served, limit, lease).await?
    } else {
        let _place = api.waiting_place()?;
        wait_for(&served, limit, lease, until, &api.stop).await?
    };
    served.pulse.meter().handed_out(&claim.deliveries);
    let now = DueAt::from_ms(claim.now.as_ms()).ok().filter(|_| !claim.deliveries.is_empty());
    let expires_at = now.map(|now| now.saturating_add(lease));
    let deliveries = claim.deliveries.iter().map(EventData::of).collect();
    Ok(json(StatusCode::OK, &Claimed { deliveries, expires_at }))
}

pub(super) fn bounded(
    field: &str,
    value: Option<duration::Text>,
    default: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, Problem> {
    let value = value.map_or(default, |duration::Text(value)| value);
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let [value, least, most] = [value, least, most].map(duration::format);
    let why = format!("is not possible: it can be {least} to {most}");
    Err(Problem::from(Invalid::new("duration", value, why)).field(field))
}

/// Claims once something is due. Only the first in line asks Redis; it sleeps until the next deadline, at most one
/// poll interval. Whoever is gone leaves the line: the future is dropped with the connection.
async fn wait_for(
    served: &Arc<Served>,
    limit: usize,
    lease: Duration,
    until: Instant,
    stop: &CancellationToken,
) -> Result<Claim, Problem> {
    let turn = tokio::select! {
        turn = served.turn.lock() => Some(turn),
        () = tokio::time::sleep_until(until) => None,
        () = stop.cancelled() => None,
    };
    loop {
        let sent = Instant::now();
        let claim = take(served, limit, lease).await?;
        let is_over = turn.is_none() || stop.is_cancelled() || Instant::now() >= until;
        if !claim.deliveries.is_empty() || is_over {
            return Ok(claim);
        }
        let pause = if claim.more { Duration::ZERO } else { pause(served, &claim) };
        // Redis read its clock about half a round trip ago.
        let wake_at = (Instant::now() + pause.saturating_sub(sent.elapsed() / 2)).min(until);
        tokio::select! {
            () = tokio::time::sleep_until(wake_at) => {}
            () = stop.cancelled() => {}
        }
    }
}

fn pause(served: &Served, claim: &Claim) -> Duration {
    let poll_interval = served.settings.borrow().poll_interval;
    claim.next.map_or(poll_interval, |next| claim.now.until(next).min(poll_interval))
}

/// One claim. If the caller is gone when its answer comes, what it took is given back at once.
async fn take(served: &Arc<Served>, limit: usize, lease: Duration) -> Result<Claim, Problem> {
    let (tell, told) = oneshot::channel();
    let served = Arc::clone(served);
    tokio::spawn(async move {
        let claimed = served.claim(limit, lease).await;
        if let Err(Ok(Claim { deliveries, .. })) = tell.send(claimed) {
            served.give_back(&deliveries.iter().map(Delivery::lease).collect::<Vec<_>>()).await;
        }
    });
    let claimed = told.await.map_err(|_| Problem::new(Kind::Internal, Kind::Internal.parts().3))?;
    Ok(claimed?)
}

impl Served {
    /// Claims by the settings of the queue, and leaves only what may be handed out.
    async fn claim(&self, limit: usize, lease: Duration) -> Result<Claim> {
        let options = {
            let settings = self.settings.borrow();
            let (rate_limit, max_crashes) = (settings.rate_limit, Some(settings.max_crashes));
            ClaimOptions { limit, lease, rate_limit, max_crashes }
        };
        let claim = self.queue.claim_with(options).await?;
        self.pulse.meter().claimed(&claim.deliveries);
        let taken: Vec<Lease> = claim.deliveries.iter().map(Delivery::lease).collect();
        let sorted = self.sort(claim).await;
        if sorted.is_err() {
            // Nobody gets any of it, and some may be noted as begun: their leases must not run out, since that would
            // count as the death of a worker.
            self.give_back(&taken).await;
        }
        sorted
    }

    /// Gives back what was claimed and handed out to nobody.
    async fn give_back(&self, leases: &[Lease]) {
        for tries_left in (0..GIVE_BACK_TRIES).rev() {
            let Err(cause) = self.queue.release(leases).await else { return };
            if tries_left == 0 {
                tracing::warn!(queue = %self.name(), %cause, "a claim that nobody got comes back with its lease");
            }
        }
    }

    /// Buries what is outside the contract, and keeps suspects apart.
    async fn sort(&self, mut claim: Claim) -> Result<Claim> {
        let unreadable = std::mem::take(&mut claim.unreadable);
        if let Some(token) = claim.token.filter(|_| !unreadable.is_empty()) {
            let rejected = unreadable.into_iter();
            let rejected =
                rejected.map(|it| Rejected { id: it.id, token, reason: it.reason, error: it.error });
            self.queue.bury(&rejected.collect::<Vec<_>>()).await?;
        }
        claim.deliveries = self.without_suspects(claim.deliveries).await?;
        Ok(claim)
    }

    /// An id that was lost with its worker before is watched from now on; see [`crate::queue::Queue::begin`]. Of
    /// those that may be the cause, only one is handed out at a time, so that its bystanders are cleared.
    async fn without_suspects(&self, deliveries: Vec<Delivery>) -> Result<Vec<Delivery>> {
        if !deliveries.iter().any(Delivery::is_after_a_loss) {
            return Ok(deliveries);
        }
        let (suspects, mut others): (Vec<_>, Vec<_>) =
            deliveries.into_iter().partition(|delivery| delivery.kills > 0);
        let mut suspects = suspects.into_iter();
        others.extend(suspects.next());
        let too_many: Vec<Lease> = suspects.map(|delivery| delivery.lease()).collect();
        if !too_many.is_empty() {
            self.queue.release(&too_many).await?;
        }
        let begun = others.into_iter().map(async |delivery| {
            if delivery.is_after_a_loss() && self.queue.begin(&delivery.lease()).await? == Settled::Stale {
                return Ok(None);
            }
            Ok(Some(delivery))
        });
        let begun: Result<Vec<_>> = stream::iter(begun).buffered(AT_ONCE).try_collect().await;
        Ok(begun?.into_iter().flatten().collect())
    }
}
