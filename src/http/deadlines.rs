//! `/v1/queues/{queue}/deadlines/{id}`: register, look up, move, cancel, fire.

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    Served, etag,
    extract::{Json, OnId, present},
    problem::{Kind, Problem},
    schema::{Durable, IfMatch, IfNoneMatch, OneDeadline, Trace, When},
};
use crate::{
    duration,
    order::Extension,
    queue::{
        Cancelled, Due, Expected, Mode, Registration, Rescheduled, Scheduled, Shown, State, TraceParent,
    },
    types::{DueAt, DurabilityLevel, Id, Payload, QueueName, Token},
};

/// How often a move is tried anew when others change the same deadline meanwhile.
const MAX_TRIES: u32 = 5;

/// A deadline to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDeadline {
    /// When it is due; one in the past is due now. Either this or `delay`.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<When>)]
    pub(super) due_at: Option<DueAt>,
    /// How long from now, by the clock of Redis.
    #[serde(default, deserialize_with = "present")]
    delay: Option<duration::Text>,
    /// What the handler gets along, up to 64 KiB. Without it, an id that is scheduled keeps the one it has.
    #[schema(value_type = Option<serde_json::Value>)]
    payload: Option<Box<RawValue>>,
    /// What to do with an id that is scheduled already; `replace` if left out.
    #[serde(default, deserialize_with = "present")]
    mode: Option<Mode>,
    /// What this has to reach before it is answered; what is configured for the queue if left out. In a batch it is
    /// the header field `Overdue-Durability` that says it, for all lines.
    #[serde(default, deserialize_with = "present")]
    pub(super) durability: Option<DurabilityLevel>,
}

/// What became of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Registering {
    /// It was not scheduled; now it is.
    Created,
    /// It was scheduled and has a new deadline.
    Replaced,
    /// The mode left it as it was.
    Kept,
    /// Its deadline was moved.
    Moved,
}

/// A deadline that was registered, moved or kept.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Registered {
    pub(super) queue: QueueName,
    pub(super) id: Id,
    pub(super) result: Registering,
    /// Where the id is.
    pub(super) state: State,
    /// The deadline that holds now; missing if a kept id is leased or dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) due_at: Option<DueAt>,
    /// The one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_due_at: Option<DueAt>,
    /// What the write has reached.
    durability: DurabilityLevel,
}

impl Registered {
    /// An id that was there before, as it is.
    pub(super) fn kept(served: &Served, id: &Id, shown: &Shown) -> Self {
        let (queue, id, due_at) = (served.name().clone(), id.clone(), held(shown));
        let (result, state, durability) = (Registering::Kept, shown.state, served.queue.durability());
        Self { queue, id, result, state, due_at, previous_due_at: None, durability }
    }
}

impl IntoResponse for Registered {
    fn into_response(self) -> Response {
        let status = if self.result == Registering::Created { StatusCode::CREATED } else { StatusCode::OK };
        tagged(status, &self, self.due_at)
    }
}

/// JSON as the answer.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("text and numbers always have a JSON form");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn tagged(status: StatusCode, value: &impl Serialize, due_at: Option<DueAt>) -> Response {
    let mut response = json(status, value);
    if let Some(due_at) = due_at {
        response.headers_mut().insert(header::ETAG, etag::of(due_at));
    }
    response
}

/// Exactly one of both ways to say when.
pub(super) fn due(due_at: Option<DueAt>, delay: Option<duration::Text>) -> Result<Due, Problem> {
    match (due_at, delay) {
        (Some(at), None) => Ok(Due::At(at)),
        (None, Some(duration::Text(delay))) => Ok(Due::In(delay)),
        _ => Err(Problem::new(Kind::InvalidValue, "needs either `due_at` or `delay`").field("due_at")),
    }
}

impl NewDeadline {
    pub(super) fn due(&self) -> Result<Due, Problem> {
        due(self.due_at, self.delay)
    }

    /// What is wrong with the body comes before what may not hold.
    fn check(&self) -> Result<(), Problem> {
        self.due()?;
        self.payload().map(drop)
    }

    pub(super) fn payload(&self) -> Result<Option<Payload>, Problem> {
        let payload = self.payload.as_deref().map(Payload::from_json).transpose();
        Ok(payload.map_err(|invalid| Problem::from(invalid).field("payload"))?.flatten())
    }

    /// Registers it under this id.
    pub(super) async fn register(
        &self,
        served: &Served,
        id: &Id,
        headers: &HeaderMap,
        expected: Expected,
    ) -> Result<Registered, Problem> {
        // To the engine, absent is what is not scheduled. To a caller of HTTP it is what a GET does not find.
        let mode = if expected == Expected::Absent { Mode::Keep } else { self.mode.unwrap_or_default() };
        let registration = Registration { id: id.clone(), due: self.due()?, payload: self.payload()? };
        let trace = headers.get("traceparent").and_then(|value| value.to_str().ok());
        let trace = [trace.and_then(TraceParent::parse)];
        let answers = served.queue.schedule_traced(&[registration], &trace, mode, expected).await?;
        let (result, state, due_at, previous_due_at) = match answers[0] {
            Scheduled::Created { due_at } => (Registering::Created, State::Scheduled, Some(due_at), None),
            Scheduled::Replaced { due_at, old } => {
                (Registering::Replaced, State::Scheduled, Some(due_at), old)
            }
            Scheduled::Kept { due_at, .. } if expected == Expected::Absent => {
                return Err(unexpected(id, due_at));
            }
            Scheduled::Kept { due_at, state } => (Registering::Kept, state, due_at, None),
            Scheduled::Conflict { due_at } => return Err(unexpected(id, due_at)),
        };
        let queue = served.name().clone();
        let durability = served.queue.durability();
        Ok(Registered { queue, id: id.clone(), result, state, due_at, previous_due_at, durability })
    }
}

/// Register a deadline, or move it.
#[utoipa::path(
    put, path = "/v1/queues/{queue}/deadlines/{id}", operation_id = "putDeadline", tag = "deadlines",
    params(OneDeadline, IfMatch, IfNoneMatch, Trace, Durable),
    request_body(content = NewDeadline, example = json!({"delay": "30m", "payload": {"amount": "100.00"}})),
    responses(
        (status = 201, description = "It was not scheduled; now it is.", body = Registered,
            headers(("etag" = String, description = "The deadline in ms, in quotes")),
            example = json!({"queue": "orders", "id": "order-42", "result": "created", "state": "scheduled",
                "due_at": "2026-01-01T00:30:00.000Z", "durability": "memory"})),
        (status = 200, description = "It was replaced, or kept as the mode says.", body = Registered,
            headers(("etag" = String, description = "The deadline in ms, in quotes; none if it is not scheduled")),
            example = json!({"queue": "orders", "id": "order-42", "result": "replaced", "state": "scheduled",
                "due_at": "2026-01-01T01:00:00.000Z", "previous_due_at": "2026-01-01T00:30:00.000Z", "durability": "memory"})),
    ),
    security(("bearer" = ["write"])),
)]
pub(super) async fn put(
    OnId { served, id }: OnId,
    headers: HeaderMap,
    Json(deadline): Json<NewDeadline>,
) -> Result<Registered, Problem> {
    served.check_writable()?;
    deadline.check()?;
    let served = served.durable_at(deadline.durability);
    deadline.register(&served, &id, &headers, etag::expected(&headers)?).await
}

/// Look up all that is known of an id.
#[utoipa::path(
    get, path = "/v1/queues/{queue}/deadlines/{id}", operation_id = "getDeadline", tag = "deadlines",
    params(OneDeadline),
    responses(
        (status = 200, description = "It is scheduled, leased or dead.", body = Shown,
            headers(("etag" = String, description = "For If-Match; none if the id is not scheduled")),
            example = json!({"id": "order-42", "queue": "orders", "state": "scheduled",
                "due_at": "2026-01-01T00:30:00.000Z", "attempt": 0, "failures": 0, "crashes": 0,
                "payload": {"amount": "100.00"}})),
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn get(OnId { served, id }: OnId) -> Result<Response, Problem> {
    let shown = served.queue.show(&id).await?.ok_or_else(|| no_such(&served, &id))?;
    Ok(tagged(StatusCode::OK, &shown, held(&shown)))
}

/// The deadline that `If-Match` is compared with: that in `scheduled`, which of an id that failed is its next
/// attempt.
fn held(shown: &Shown) -> Option<DueAt> {
    let scheduled = shown.due_at.filter(|_| shown.state == State::Scheduled);
    shown.next_attempt_at.or(scheduled)
}

/// A new time for a deadline: exactly one of the three.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Move {
    /// At this time.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<When>)]
    due_at: Option<DueAt>,
    /// So long from now, by the clock of Redis.
    #[serde(default, deserialize_with = "present")]
    delay: Option<duration::Text>,
    /// So much later than it is now.
    #[serde(default, deserialize_with = "present")]
    extend_by: Option<duration::Text>,
}

impl Move {
    /// What exactly one of the three says.
    pub(super) fn extension(self) -> Result<Extension, Problem> {
        match self {
            Self { due_at: None, delay: None, extend_by: Some(duration::Text(by)) } => Ok(Extension::By(by)),
            Self { due_at, delay, extend_by: None } => Ok(Extension::To(due(due_at, delay)?)),
            Self { .. } => {
                let why = "needs one of `due_at`, `delay` and `extend_by`";
                Err(Problem::new(Kind::InvalidValue, why).field("extend_by"))
            }
        }
    }
}

/// Move the deadline of a scheduled id; its payload stays, and its attempts start anew.
#[utoipa::path(
    patch, path = "/v1/queues/{queue}/deadlines/{id}", operation_id = "moveDeadline", tag = "deadlines",
    params(OneDeadline, IfMatch, Durable),
    request_body(content = Move, example = json!({"extend_by": "15m"})),
    responses(
        (status = 200, description = "It was moved.", body = Registered,
            headers(("etag" = String, description = "The deadline in ms, in quotes")),
            example = json!({"queue": "orders", "id": "order-42", "result": "moved", "state": "scheduled",
                "due_at": "2026-01-01T00:45:00.000Z", "previous_due_at": "2026-01-01T00:30:00.000Z", "durability": "memory"})),
    ),
    security(("bearer" = ["write"])),
)]
pub(super) async fn patch(
    OnId { served, id }: OnId,
    headers: HeaderMap,
    Json(body): Json<Move>,
) -> Result<Registered, Problem> {
    served.check_writable()?;
    // What is wrong with the body comes before what may not hold.
    match (body.extension()?, etag::expected(&headers)?) {
        (_, Expected::Absent) => Err(unexpected(&id, None)),
        (Extension::To(due), expected) => {
            moved(&served, &id, served.queue.reschedule(&id, due, expected).await?)
        }
        (Extension::By(by), expected) => extend(&served, &id, by, expected).await,
    }
}

/// Moves by compare-and-set, from the deadline that the caller or else Redis knows.
async fn extend(served: &Served, id: &Id, by: Duration, expected: Expected) -> Result<Registered, Problem> {
    let to = |from: DueAt| Due::At(from.saturating_add(by));
    if let Expected::At(from) = expected {
        return moved(served, id, served.queue.reschedule(id, to(from), expected).await?);
    }
    for _ in 0..MAX_TRIES {
        let shown = served.queue.show(id).await?.ok_or_else(|| no_such(served, id))?;
        // One that is not scheduled gets its verdict from the verb.
        let from = held(&shown).map_or(Expected::Anything, Expected::At);
        let due = held(&shown).map_or(Due::In(by), to);
        match served.queue.reschedule(id, due, from).await? {
            Rescheduled::Conflict { .. } => {}
            answer => return moved(served, id, answer),
        }
    }
    let why = format_args!("`{id}` changed {MAX_TRIES} times meanwhile; try again").to_string();
    Err(Problem::new(Kind::Conflict, why))
}

fn moved(served: &Served, id: &Id, answer: Rescheduled) -> Result<Registered, Problem> {
    match answer {
        Rescheduled::Moved { due_at, old } => Ok(Registered {
            queue: served.name().clone(),
            id: id.clone(),
            result: Registering::Moved,
            state: State::Scheduled,
            due_at: Some(due_at),
            previous_due_at: old,
            durability: served.queue.durability(),
        }),
        Rescheduled::NotFound => Err(no_such(served, id)),
        Rescheduled::InFlight => Err(Problem::new(
            Kind::InFlight,
            format_args!("`{id}` is leased; register it anew, or wait until its delivery has ended"),
        )),
        Rescheduled::Dead => Err(dead(id)),
        Rescheduled::Conflict { due_at } => Err(unexpected(id, due_at)),
    }
}

/// What a cancel has brought about.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Cancelling {
    /// It will not fire.
    Cancelled,
    /// A delivery is under way and may succeed; there is no further attempt.
    InFlight,
}

/// The answer to a cancel.
#[derive(Serialize, ToSchema)]
pub(super) struct Cancellation {
    queue: QueueName,
    id: Id,
    result: Cancelling,
    /// The deadline that it had.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<DueAt>,
    /// The token of the delivery that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
    /// What the write has reached.
    durability: DurabilityLevel,
}

/// Cancel a deadline.
#[utoipa::path(
    delete, path = "/v1/queues/{queue}/deadlines/{id}", operation_id = "cancelDeadline", tag = "deadlines",
    params(OneDeadline, Durable),
    responses(
        (status = 200, description = "It will not fire.", body = Cancellation,
            example = json!({"queue": "orders", "id": "order-42", "result": "cancelled",
                "due_at": "2026-01-01T00:30:00.000Z", "durability": "memory"})),
        (status = 202, description = "A delivery is under way and may succeed; it is the last attempt.",
            body = Cancellation,
            example = json!({"queue": "orders", "id": "order-42", "result": "in_flight",
                "token": 1_767_225_600_012_345_u64, "durability": "memory"})),
    ),
    security(("bearer" = ["write"])),
)]
pub(super) async fn delete(OnId { served, id }: OnId, headers: HeaderMap) -> Result<Response, Problem> {
    served.check_writable()?;
    etag::refuse(&headers)?;
    let answers = served.queue.cancel(std::slice::from_ref(&id)).await?;
    let (status, result, due_at, token) = match answers[0] {
        Cancelled::Cancelled { due_at } => (StatusCode::OK, Cancelling::Cancelled, due_at, None),
        Cancelled::InFlight { token, .. } => (StatusCode::ACCEPTED, Cancelling::InFlight, None, Some(token)),
        Cancelled::Dead => return Err(dead(&id)),
        Cancelled::NotFound => return Err(no_such(&served, &id)),
    };
    let queue = served.name().clone();
    let durability = served.queue.durability();
    Ok(json(status, &Cancellation { queue, id, result, due_at, token, durability }))
}

/// Fire a scheduled id now, whatever its deadline; its attempts start anew.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/deadlines/{id}/fire", operation_id = "fireDeadline", tag = "deadlines",
    params(OneDeadline, IfMatch, Durable),
    responses(
        (status = 200, description = "It is due now.", body = Registered,
            headers(("etag" = String, description = "The deadline in ms, in quotes")),
            example = json!({"queue": "orders", "id": "order-42", "result": "moved", "state": "scheduled",
                "due_at": "2026-01-01T00:12:00.000Z", "previous_due_at": "2026-01-01T00:30:00.000Z", "durability": "memory"})),
    ),
    security(("bearer" = ["write"])),
)]
pub(super) async fn fire(OnId { served, id }: OnId, headers: HeaderMap) -> Result<Registered, Problem> {
    served.check_writable()?;
    match etag::expected(&headers)? {
        Expected::Absent => Err(unexpected(&id, None)),
        expected => {
            moved(&served, &id, served.queue.reschedule(&id, Due::In(Duration::ZERO), expected).await?)
        }
    }
}

pub(super) fn no_such(served: &Served, id: &Id) -> Problem {
    let queue = served.name();
    let why = format!("`{id}` is neither scheduled, leased nor dead in queue `{queue}`");
    Problem::new(Kind::DeadlineNotFound, why).field("id")
}

fn dead(id: &Id) -> Problem {
    let why = format_args!("`{id}` is dead; retry it, delete it there, or register it anew").to_string();
    Problem::new(Kind::Dead, why)
}

fn unexpected(id: &Id, due_at: Option<DueAt>) -> Problem {
    let why = due_at.map_or_else(
        || format!("`{id}` is not scheduled, or is leased or dead"),
        |due_at| format!("`{id}` is scheduled for {due_at}"),
    );
    Problem::new(Kind::PreconditionFailed, why).current(due_at)
}
