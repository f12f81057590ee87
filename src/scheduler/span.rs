//! A span for each delivery, for those who collect traces. It is made when the handler has ended, so that what runs carries
//! nothing along; where no collector is configured, nothing is made.

use std::{sync::OnceLock, time::SystemTime};

use opentelemetry::{
    Context, KeyValue,
    global::{self, BoxedTracer},
    trace::{
        Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState, Tracer as _,
    },
};

use super::{Timing, settler::Verdict};
use crate::queue::{Delivery, Rejected, TraceParent};

/// The name of all of them.
const SPAN: &str = "overdue deliver";

/// What makes spans, once a collector is known.
static TRACER: OnceLock<BoxedTracer> = OnceLock::new();

/// Makes spans from here on, by the tracer provider that is the global one now.
pub(crate) fn start() {
    TRACER.get_or_init(|| global::tracer("overdue"));
}

/// Tells of a handler that has just ended. A span of its own with a link to that of the registration, not a child: half
/// an hour may lie between.
pub(super) fn delivered(span: Unfinished, timing: Timing, verdict: &Verdict) {
    let ended = SystemTime::now();
    let (outcome, status) = match verdict {
        Verdict::Ack(_) => ("done", Status::Ok),
        Verdict::Retry { error, .. } => ("retried", Status::error(error.clone())),
        Verdict::Bury(Rejected { error, .. }) => ("dead", Status::error(error.clone())),
        Verdict::Release(_) => ("released", Status::Unset),
    };
    let mut attributes = span.attributes;
    attributes.push(KeyValue::new("overdue.outcome", outcome));
    if let Some(lateness) = timing.lateness {
        attributes.push(KeyValue::new("overdue.lateness_ms", lateness.as_secs_f64() * 1e3));
    }
    let mut made = span
        .tracer
        .span_builder(SPAN)
        .with_kind(SpanKind::Consumer)
        .with_start_time(ended - timing.took)
        .with_attributes(attributes)
        .with_links(span.registration.map(Link::with_context).into_iter().collect())
        .start_with_context(span.tracer, &Context::new());
    made.set_status(status);
    made.end_with_timestamp(ended);
}

/// What a span tells of a delivery, which its verdict may take along.
pub(super) struct Unfinished {
    tracer: &'static BoxedTracer,
    attributes: Vec<KeyValue>,
    registration: Option<SpanContext>,
}

impl Unfinished {
    /// None if nobody collects spans.
    pub(super) fn of(delivery: &Delivery) -> Option<Self> {
        let tracer = TRACER.get()?;
        let attributes = vec![
            KeyValue::new("overdue.queue", delivery.queue.to_string()),
            KeyValue::new("overdue.id", delivery.id.to_string()),
            KeyValue::new("overdue.attempt", i64::from(delivery.attempt)),
            KeyValue::new("overdue.due_at", delivery.due_at.to_string()),
        ];
        Some(Self { tracer, attributes, registration: delivery.traceparent.as_ref().and_then(context) })
    }
}

/// As W3C trace context writes it: `version-trace-parent-flags`.
fn context(traceparent: &TraceParent) -> Option<SpanContext> {
    let mut parts = traceparent.as_str().split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(parts.next()?, 16).ok()?);
    Some(SpanContext::new(trace, span, flags, true, TraceState::NONE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_of_a_registration_is_read_whole() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = context(&TraceParent::parse(text).unwrap()).unwrap();
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
        assert!(context.is_sampled() && context.is_remote());
    }
}
