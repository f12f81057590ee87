//! `overdue webhook listen`: a receiver to try things out with.

use std::{
    collections::HashSet,
    future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use axum::{Router, body::Bytes, extract::State, routing::post};
use clap::Args;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use super::Secrets;
use crate::{
    cli::output::{Output, block},
    config::Secret,
    duration,
    error::Invalid,
    handler::webhook::{Signed, now_s},
    types::printable,
};

/// `overdue webhook listen`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Any path will do. A call whose signature does not fit is answered 401. Without a secret every call is taken.
A line is printed for each call, with -o ndjson as JSON, and a summary at the end.")]
pub(in crate::cli) struct Listen {
    #[command(flatten)]
    secrets: Secrets,
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The status of an answer
    #[arg(long, default_value = "200", value_parser = status)]
    status: StatusCode,
    /// The share of calls that are answered 500, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    fail_rate: f64,
    /// The share of calls that are never answered, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    stall_rate: f64,
    /// How far a timestamp may be from this machine's clock
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    tolerance: Duration,
}

fn status(text: &str) -> Result<StatusCode, Invalid> {
    let status = text.parse().ok().filter(|status: &StatusCode| (200..600).contains(&status.as_u16()));
    status.ok_or_else(|| Invalid::new("status", text, "is no answer: write 200 to 599"))
}

fn share(text: &str) -> Result<f64, Invalid> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| Invalid::new("share", text, "is none: write 0 to 1, such as 0.3"))
}

/// What is printed of a call.
#[derive(Serialize)]
struct Call {
    webhook_id: String,
    id: String,
    attempt: u64,
    /// `yes`, `unsigned`, or why not.
    verified: String,
    /// What was answered; none if nothing.
    status: Option<u16>,
}

/// What is read of a body.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Event {
    data: EventData,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct EventData {
    id: String,
    attempt: u64,
}

#[derive(Default, Clone, Serialize)]
struct Summary {
    calls: u64,
    accepted: u64,
    refused: u64,
    failed: u64,
    stalled: u64,
    /// Different webhook-ids: each is one registration.
    registrations: usize,
}

struct Receiver {
    secrets: Vec<Secret>,
    status: StatusCode,
    fail_rate: f64,
    stall_rate: f64,
    tolerance: Duration,
    output: Output,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    summary: Summary,
    webhook_ids: HashSet<String>,
}

impl Listen {
    pub(super) async fn run(&self, output: Output) -> anyhow::Result<()> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let receiver = Arc::new(self.receiver(output)?);
        let listener = TcpListener::bind(("127.0.0.1", self.port))
            .await
            .with_context(|| format!("cannot listen on 127.0.0.1:{}", self.port))?;
        let unsigned = if receiver.secrets.is_empty() { "; no secret, so nothing is verified" } else { "" };
        eprintln!("listening on http://{}{unsigned}; Ctrl-C ends it", listener.local_addr()?);

        let router = Router::new().fallback(post(receive)).with_state(Arc::clone(&receiver));
        // Stalled calls never end, so nothing is drained.
        tokio::select! {
            ended = axum::serve(listener, router) => ended?,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let summary = receiver.seen.lock().unwrap_or_else(PoisonError::into_inner).summary.clone();
        output.one(&summary, &summary.block())
    }

    fn receiver(&self, output: Output) -> anyhow::Result<Receiver> {
        Ok(Receiver {
            secrets: self.secrets.checked()?,
            status: self.status,
            fail_rate: self.fail_rate,
            stall_rate: self.stall_rate,
            tolerance: self.tolerance,
            output,
            seen: Mutex::default(),
        })
    }
}

impl Summary {
    fn block(&self) -> String {
        block(&[
            ("calls", self.calls.to_string()),
            ("accepted", self.accepted.to_string()),
            ("refused", self.refused.to_string()),
            ("failed", self.failed.to_string()),
            ("stalled", self.stalled.to_string()),
            ("registrations", self.registrations.to_string()),
        ])
    }
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    match receiver.answer(&headers, &body) {
        Some(status) => status,
        None => future::pending().await,
    }
}

impl Receiver {
    /// The status to answer; none for a call that is left without an answer.
    fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Option<StatusCode> {
        let verified = self.verify(headers, body);
        let (stalls, fails) =
            (rand::random::<f64>() < self.stall_rate, rand::random::<f64>() < self.fail_rate);
        let status = match &verified {
            Err(_) => Some(StatusCode::UNAUTHORIZED),
            Ok(_) if stalls => None,
            Ok(_) if fails => Some(StatusCode::INTERNAL_SERVER_ERROR),
            Ok(_) => Some(self.status),
        };
        let event: Event = serde_json::from_slice(body).unwrap_or_default();
        let call = Call {
            webhook_id: printable(text(headers, "webhook-id").as_bytes()),
            id: printable(event.data.id.as_bytes()),
            attempt: event.data.attempt,
            verified: verified.as_ref().map_or_else(Clone::clone, |how| (*how).to_owned()),
            status: status.map(|status| status.as_u16()),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.note(&call, verified.is_ok());
        // Printed while it is locked, so that lines do not mix.
        if let Err(error) = self.output.one(&call, &call.line()) {
            eprintln!("cannot print: {error}");
        }
        status
    }

    fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<&'static str, String> {
        if self.secrets.is_empty() {
            return Ok("not checked");
        }
        let signatures = text(headers, "webhook-signature");
        if signatures.is_empty() {
            return Err("no header webhook-signature".to_owned());
        }
        let timestamp_s = text(headers, "webhook-timestamp")
            .parse()
            .map_err(|_| "no header webhook-timestamp with seconds".to_owned())?;
        let signed = Signed { id: text(headers, "webhook-id"), timestamp_s, body };
        let verified = signed.verify(&self.secrets, signatures, now_s(), self.tolerance);
        verified.map(|()| "yes").map_err(|refused| refused.to_string())
    }
}

impl Seen {
    fn note(&mut self, call: &Call, verified: bool) {
        self.summary.calls += 1;
        let counter = match call.status {
            _ if !verified => &mut self.summary.refused,
            None => &mut self.summary.stalled,
            Some(200..300) => &mut self.summary.accepted,
            Some(_) => &mut self.summary.failed,
        };
        *counter += 1;
        if verified {
            self.webhook_ids.insert(call.webhook_id.clone());
            self.summary.registrations = self.webhook_ids.len();
        }
    }
}

impl Call {
    fn line(&self) -> String {
        let status = self.status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        let Self { webhook_id, id, attempt, verified, .. } = self;
        format!("answer={status} verified={verified} id={id} attempt={attempt} webhook-id={webhook_id}")
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
