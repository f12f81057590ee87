//! `/livez` and `/readyz`: for those who restart the process, and those who send it traffic.

use std::time::Duration;

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api,
    deadlines::json,
    problem::{Kind, Problem},
};

/// Who probes waits about a second, and wants an answer by then.
const PING_TIMEOUT: Duration = Duration::from_millis(800);

/// A probe that went well.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

/// Tell whether the process lives. It does not depend on Redis: a restart would not mend that.
#[utoipa::path(
    get, path = "/livez", operation_id = "livez", tag = "health",
    responses((status = 200, description = "It lives.", body = Health, example = json!({"status": "ok"}))),
)]
pub(super) async fn livez() -> Response {
    json(StatusCode::OK, &Health { status: "ok" })
}

/// Tell whether Redis answers, and every queue was polled with success lately.
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "health",
    responses((status = 200, description = "It is ready.", body = Health, example = json!({"status": "ok"}))),
)]
pub(super) async fn readyz(State(api): State<Api>) -> Result<Response, Problem> {
    match tokio::time::timeout(PING_TIMEOUT, api.redis.ping()).await {
        Ok(answer) => answer?,
        Err(_) => return Err(Problem::new(Kind::RedisUnavailable, "Redis did not answer in time")),
    }
    let is_behind = |served: &&std::sync::Arc<super::Served>| {
        let poll_interval = served.settings.borrow().poll_interval;
        !served.pulse.is_good(poll_interval)
    };
    match api.queues.values().find(is_behind) {
        None => Ok(json(StatusCode::OK, &Health { status: "ok" })),
        Some(served) => {
            let why = format!("no good poll of queue `{}` lately", served.name());
            Err(Problem::new(Kind::NotReady, why))
        }
    }
}
