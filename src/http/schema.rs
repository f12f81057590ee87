//! How the values of the contract look in OpenAPI. The bounds are those that [`crate::types`] holds.

use std::borrow::Cow;

use serde_json::json;
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        KnownFormat, RefOr, Schema, SchemaFormat,
        schema::{Object, ObjectBuilder, OneOfBuilder, SchemaType, Type},
    },
};

use crate::{
    duration,
    order::{Fields, MAX_FIELDS, MAX_NAME_BYTES, RESERVED},
    types::{DueAt, DurabilityLevel, Id, MAX_ID_BYTES, MAX_QUEUE_NAME_BYTES, Payload, QueueName, Token},
};

/// The parameters of a path that names a queue.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a path; the extractors read it")]
pub(super) struct OneQueue {
    /// A queue of the configuration
    #[param(value_type = QueueName)]
    queue: QueueName,
}

/// The parameters of a path that names an id.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "describes a path; the extractors read it")]
pub(super) struct OneDeadline {
    /// A queue of the configuration
    #[param(value_type = QueueName)]
    queue: QueueName,
    /// The id, percent-encoded
    #[param(value_type = Id)]
    id: Id,
}

/// The condition that a deadline is still the one that the caller knows.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header; `etag` reads it")]
pub(super) struct IfMatch {
    /// Change it only if it is scheduled for the time in this entity tag
    #[param(
        rename = "If-Match",
        min_length = 14,
        max_length = 17,
        pattern = r#"^"([1-9][0-9]{11,13}|1[0-9]{14}|2[0-4][0-9]{13})"$"#
    )]
    if_match: Option<String>,
}

/// What a write has to reach.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header; `extract` reads it")]
pub(super) struct Durable {
    /// What this has to reach before it is answered; what is configured for the queue if left out
    #[param(rename = "Overdue-Durability", inline)]
    durability: Option<DurabilityLevel>,
}

/// The condition that there is no such id.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header; `etag` reads it")]
pub(super) struct IfNoneMatch {
    /// `*`: register it only if it is neither scheduled, leased nor dead
    #[param(rename = "If-None-Match")]
    if_none_match: Option<String>,
}

/// The trace that a registration belongs to.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header; `deadlines` reads it")]
pub(super) struct Trace {
    /// W3C trace context: kept with the deadline, and handed to its handler. An invalid one is ignored
    traceparent: Option<String>,
}

/// How long a claim lasts, as a caller writes it.
pub(super) struct LeaseTime;

/// How long a claim waits, as a caller writes it.
pub(super) struct WaitTime;

/// A time as a caller writes it; answers have the first form.
pub(super) struct When;

macro_rules! schema {
    ($type:ty, $name:literal, $schema:expr) => {
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                RefOr::T(Schema::from($schema))
            }
        }
        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
        }
    };
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn time() -> ObjectBuilder {
    text()
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .description(Some("RFC 3339 with a zone; answers are in UTC with milliseconds"))
        .examples([json!("2026-01-01T00:30:00.000Z")])
}

fn any() -> Object {
    let schema = ObjectBuilder::new().schema_type(SchemaType::AnyValue);
    schema.description(Some("any JSON of up to 64 KiB")).examples([json!({"amount": "100.00"})]).build()
}

schema!(
    Id,
    "Id",
    text()
        .min_length(Some(1))
        .max_length(Some(MAX_ID_BYTES))
        .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]+$"))
        .description(Some("1 to 256 bytes of UTF-8 without control characters"))
        .examples([json!("order-42")])
        .build()
);
schema!(
    QueueName,
    "QueueName",
    text()
        .min_length(Some(1))
        .pattern(Some(format!("^[a-z0-9_-]{{1,{MAX_QUEUE_NAME_BYTES}}}(\\.(intake|notify))?$")))
        .examples([json!("orders")])
        .build()
);
schema!(
    Fields,
    "Fields",
    ObjectBuilder::new()
        .property_names(Some(
            text()
                .min_length(Some(1))
                .max_length(Some(MAX_NAME_BYTES))
                .pattern(Some(format!("^(?!({})$)[ -~]+$", RESERVED.join("|"))))
        ))
        .additional_properties(Some(text().pattern(Some(r"^[\t\n\r -~]*$"))))
        .property("amount", text().pattern(Some(r"^[0-9]+(\.[0-9]+)?$")).description(Some("decimal digits")))
        .max_properties(Some(MAX_FIELDS))
        .description(Some(
            "Names and texts, 30 KiB together; other characters than ASCII are fine too, control characters are not"
        ))
        .examples([json!({"amount": "100.00", "customer": "7"})])
        .build()
);
schema!(DueAt, "Time", time().build());
schema!(
    When,
    "When",
    OneOfBuilder::new()
        .item(time().pattern(Some(r"^(197[4-9]|19[89]\d|[2-9]\d{3})-")))
        .item(
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
                .minimum(Some(utoipa::Number::Int(DueAt::MIN_MS as isize)))
                .maximum(Some(utoipa::Number::Int(DueAt::MAX_MS as isize)))
                .description(Some("milliseconds since the Unix epoch"))
        )
        .build()
);
schema!(
    duration::Text,
    "Duration",
    text()
        .pattern(Some(r"^([0-9]{1,4}(\.[0-9]{1,3})?(ms|s|m|h|d)){1,3}$"))
        .description(Some("a number with a unit: ms, s, m, h or d, or several of them; at most 100 years"))
        .examples([json!("30m"), json!("1h30m")])
        .build()
);
schema!(
    LeaseTime,
    "LeaseTime",
    text()
        .pattern(Some("^([1-9][0-9]{2,4}ms|[1-9][0-9]{0,3}s|[1-9][0-9]{0,2}m|([1-9]|1[0-9]|2[0-4])h)$"))
        .description(Some("a duration of 100ms to 24h"))
        .examples([json!("30s")])
        .build()
);
schema!(
    WaitTime,
    "WaitTime",
    text()
        .pattern(Some("^([0-9]{1,4}ms|([0-9]|[12][0-9]|30)s)$"))
        .description(Some("a duration of up to 30s"))
        .examples([json!("20s")])
        .build()
);
schema!(Payload, "Payload", any());
schema!(
    Token,
    "Token",
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(utoipa::Number::Int(0)))
        .maximum(Some(utoipa::Number::Int(9_007_199_254_740_991)))
        .description(Some("grows with every claim of the queue"))
        .examples([json!(1_767_225_600_012_345_u64)])
        .build()
);
