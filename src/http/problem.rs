//! What an error looks like: `application/problem+json`, RFC 9457. The kinds are part of the interface.

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::{
    error::{Error, Invalid},
    types::{DueAt, shortened},
};

/// What every `type` begins with.
const TYPE_PREFIX: &str = "urn:overdue:problem:";
/// Enough for 20 names of queues.
const MAX_DETAIL_CHARS: usize = 1500;
const MAX_FIELD_CHARS: usize = 200;
/// When to come back after trouble with Redis: a restart of it takes about a second.
const RETRY_AFTER_S: &str = "1";

/// What can be wrong, as a fixed set: status, `type`, `title`, and an example of a `detail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    MalformedRequest,
    Unauthorized,
    Forbidden,
    CrossOrigin,
    NoSuchRoute,
    QueueNotFound,
    DeadlineNotFound,
    OrderNotFound,
    MethodNotAllowed,
    RequestTimeout,
    InFlight,
    Dead,
    NotDead,
    Conflict,
    NotAPullQueue,
    QueueOfOrders,
    OrderConflict,
    OrderExpired,
    OrderPaid,
    OrderCancelled,
    PreconditionFailed,
    BodyTooLarge,
    UnsupportedMediaType,
    InvalidValue,
    IdempotencyKeyReused,
    Internal,
    RedisUnavailable,
    NotDurable,
    IntakeFull,
    TooManyWaiting,
    NotReady,
}

impl Kind {
    pub(super) const fn parts(self) -> (u16, &'static str, &'static str, &'static str) {
        match self {
            Self::MalformedRequest => (
                400,
                "malformed-request",
                "The request cannot be read",
                "body: expected `,` or `}` at line 1 column 24",
            ),
            Self::Unauthorized => (
                401,
                "unauthorized",
                "No valid token",
                "this needs a bearer token, as in `Authorization: Bearer …`",
            ),
            Self::Forbidden => {
                (403, "forbidden", "The token does not allow this", "`shop` lacks the scope `admin`")
            }
            Self::CrossOrigin => (
                403,
                "cross-origin",
                "A page of another site asks",
                "Origin and Host differ: pages of other sites may not use this server",
            ),
            Self::NoSuchRoute => {
                (404, "no-such-route", "No such route", "nothing is at this path; see /v1/openapi.json")
            }
            Self::QueueNotFound => (
                404,
                "queue-not-found",
                "No such queue",
                "queue `order` is not served here; those are: orders, payments",
            ),
            Self::DeadlineNotFound => (
                404,
                "deadline-not-found",
                "No such deadline",
                "`order-42` is neither scheduled, leased nor dead in queue `orders`",
            ),
            Self::OrderNotFound => (
                404,
                "order-not-found",
                "No such order",
                "there is no order `42` in queue `orders`, or it is no longer kept",
            ),
            Self::MethodNotAllowed => (
                405,
                "method-not-allowed",
                "Not with this method",
                "the header Allow says what can be done here",
            ),
            Self::RequestTimeout => {
                (408, "request-timeout", "The body did not come in time", "the body stalled for 60s")
            }
            Self::InFlight => (
                409,
                "in-flight",
                "A delivery is under way",
                "`order-42` is leased; register it anew, or wait until its delivery has ended",
            ),
            Self::Dead => (
                409,
                "dead",
                "The id is in the dead set",
                "`order-42` is dead; retry it, delete it there, or register it anew",
            ),
            Self::NotDead => (409, "not-dead", "The id is not dead", "`order-42` is scheduled"),
            Self::Conflict => (
                409,
                "conflict",
                "Others change the same deadline",
                "`order-42` changed five times meanwhile; try again",
            ),
            Self::NotAPullQueue => (
                409,
                "not-a-pull-queue",
                "Nobody can claim from this queue",
                "queue `orders` has the handler `webhook`; claiming needs `type = \"pull\"`",
            ),
            Self::QueueOfOrders => (
                409,
                "queue-of-orders",
                "Deadlines of orders are changed with their orders",
                "queue `orders` holds deadlines of orders: use /v1/orders",
            ),
            Self::OrderConflict => {
                (409, "order-conflict", "The order is another one", "order `42` exists with other fields")
            }
            Self::OrderExpired => (
                409,
                "order-expired",
                "The order has expired",
                "order `42` expired at 2026-01-01T00:30:00.003Z",
            ),
            Self::OrderPaid => {
                (409, "order-paid", "The order is paid", "order `42` was paid at 2026-01-01T00:04:10.123Z")
            }
            Self::OrderCancelled => (
                409,
                "order-cancelled",
                "The order is cancelled",
                "order `42` was cancelled at 2026-01-01T00:04:10.123Z",
            ),
            Self::PreconditionFailed => (
                412,
                "precondition-failed",
                "The deadline is not the expected one",
                "`order-42` is scheduled for 2026-01-01T00:00:00.000Z",
            ),
            Self::BodyTooLarge => {
                (413, "body-too-large", "The body is too large", "a body may have 1 MiB; use deadlines:batch")
            }
            Self::UnsupportedMediaType => (
                415,
                "unsupported-media-type",
                "The body has another type",
                "the body must come with `Content-Type: application/json`",
            ),
            Self::InvalidValue => (
                422,
                "invalid-value",
                "A value is outside the contract",
                "duration `10x` has an unknown unit; write it like 250ms, 30m, 2h or 1h30m",
            ),
            Self::IdempotencyKeyReused => (
                422,
                "idempotency-key-reused",
                "The key was used for something else",
                "this Idempotency-Key came with another due_at or payload before",
            ),
            Self::Internal => {
                (500, "internal", "A fault of the server", "the log of the server has the cause")
            }
            Self::RedisUnavailable => (
                503,
                "redis-unavailable",
                "Redis cannot do it now",
                "Redis is loading its data from disk: wait until it is done",
            ),
            Self::NotDurable => (
                503,
                "not-durable",
                "Written, but not as durably as asked for",
                "not replicated within 1s: 0 of 1 replicas have it; the write may still exist: say it again",
            ),
            Self::IntakeFull => (
                503,
                "intake-full",
                "Too many orders wait to be created",
                "the intake holds as many orders as it may; try again later",
            ),
            Self::TooManyWaiting => (
                503,
                "too-many-waiting",
                "Too many wait already",
                "three quarters of `http.max_connections` wait for deliveries or follow orders",
            ),
            Self::NotReady => {
                (503, "not-ready", "The server is not ready", "no good poll of queue `orders` lately")
            }
        }
    }

    pub(super) fn status(self) -> u16 {
        self.parts().0
    }

    fn r#type(self) -> String {
        format!("{TYPE_PREFIX}{}", self.parts().1)
    }

    /// The headers that come with it, beside the content type.
    pub(super) fn header(self) -> Option<(HeaderName, &'static str)> {
        match self.status() {
            401 => Some((header::WWW_AUTHENTICATE, "Bearer realm=\"overdue\"")),
            503 => Some((header::RETRY_AFTER, RETRY_AFTER_S)),
            _ => None,
        }
    }
}

/// An error answer.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    detail: String,
    field: Option<String>,
    /// The entity tag of what holds instead.
    current: Option<DueAt>,
}

/// Its JSON.
#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

#[cfg(test)]
impl Body<'_> {
    pub(super) fn detail(&self) -> &str {
        self.detail
    }
}

impl Problem {
    /// The detail may quote what the caller has sent: it is cut, and fit for the log and the terminal of whoever reads it.
    pub(super) fn new(kind: Kind, detail: impl fmt::Display) -> Self {
        Self { kind, detail: shortened(&detail.to_string(), MAX_DETAIL_CHARS), field: None, current: None }
    }

    /// At fault is this field of the body or parameter.
    pub(super) fn field(self, field: impl AsRef<str>) -> Self {
        Self { field: Some(shortened(field.as_ref(), MAX_FIELD_CHARS)), ..self }
    }

    /// A deadline holds that the caller did not expect.
    pub(super) fn current(self, current: Option<DueAt>) -> Self {
        Self { current, ..self }
    }

    pub(super) fn body(&self) -> Body<'_> {
        let (status, _, title, _) = self.kind.parts();
        Body { r#type: self.kind.r#type(), title, status, detail: &self.detail, field: self.field.as_deref() }
    }

    /// For people: the title, and what it is in this case.
    pub(super) fn told(&self) -> (&'static str, &str) {
        (self.kind.parts().2, &self.detail)
    }

    /// As the documentation shows it.
    pub(super) fn example(kind: Kind) -> Self {
        let problem = Self::new(kind, kind.parts().3);
        if kind == Kind::InvalidValue { problem.field("delay") } else { problem }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.status()).expect("the table has real ones");
        let body = serde_json::to_vec(&self.body()).expect("text and numbers always have a JSON form");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = self.kind.header() {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(current) = self.current {
            headers.insert(header::ETAG, super::etag::of(current));
        }
        response
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::new(Kind::InvalidValue, invalid)
    }
}

impl From<Error> for Problem {
    /// The details of Redis and of the operating system are for the log: they may name machines and users.
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(invalid) => invalid.into(),
            Error::Redis(trouble) => {
                tracing::warn!(kind = trouble.kind.name(), cause = %trouble, "Redis trouble in an HTTP call");
                Self::new(Kind::RedisUnavailable, format_args!("Redis {}", trouble.kind.meaning()))
            }
            Error::WrongType { .. } => {
                tracing::error!(cause = %error, "Redis trouble in an HTTP call");
                Self::new(Kind::RedisUnavailable, "a key of the queue has another type; see the log")
            }
            Error::NotDurable { level, reached, waited } => {
                tracing::warn!(level, reached, "a write is not as durable as it was asked to be");
                let why = format_args!(
                    "not {level} within {}: {reached}; the write may still exist: say it again",
                    crate::duration::format(waited)
                );
                Self::new(Kind::NotDurable, why)
            }
            Error::Reply { .. } => {
                tracing::error!(cause = %error, "unexpected reply in an HTTP call");
                Self::new(Kind::Internal, Kind::Internal.parts().3)
            }
        }
    }
}
