//! Where spans go: an OTLP collector, as the variables of OpenTelemetry name it
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).

use std::env;

use anyhow::Context as _;
use opentelemetry::global;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};

use crate::scheduler;

/// Sends spans until it is stopped. They wait in a queue of at most 2048, so a collector that is away costs spans, not
/// deadlines.
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    /// None if no collector is named.
    ///
    /// # Errors
    /// If what names it cannot be read.
    pub(super) fn start() -> anyhow::Result<Option<Self>> {
        let names = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
        if names.iter().all(|name| env::var_os(name).is_none_or(|value| value.is_empty())) {
            return Ok(None);
        }
        let exporter = SpanExporter::builder().with_http().build().context("spans cannot be sent by OTLP")?;
        let resource = Resource::builder();
        // Else it would be an unknown service.
        let is_named = env::var_os("OTEL_SERVICE_NAME").is_some();
        let resource = if is_named { resource } else { resource.with_service_name("overdue") }.build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        global::set_tracer_provider(provider.clone());
        scheduler::start_spans();
        Ok(Some(Self(provider)))
    }

    /// Sends what waits, within 5 s.
    pub(super) async fn stop(self) {
        let stopped = tokio::task::spawn_blocking(move || self.0.shutdown()).await;
        if let Ok(Err(cause)) = stopped {
            tracing::warn!(%cause, "the last spans may not have been sent");
        }
    }
}
