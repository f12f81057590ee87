//! `schedule`, `reschedule`, `cancel` and `show`: the commands on single ids.

use std::{
    fs::File,
    io::{self, Read},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use super::{
    context::{Context, NotFound},
    durable::Durable,
    output::{Row, block, or_dash},
};
use crate::{
    duration,
    error::Invalid,
    queue::{Cancelled, Due, Expected, Mode, Registration, Rescheduled, Scheduled, Shown, State},
    types::{DueAt, DurabilityLevel, Id, MAX_PAYLOAD_BYTES, Payload, QueueName, Token},
};

/// When: exactly one of both.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct When {
    /// After this time, such as 250ms, 30m or 1h30m, counted by the clock of Redis
    #[arg(long = "in", value_name = "DURATION", value_parser = duration::parse)]
    delay: Option<Duration>,
    /// At this time: RFC 3339 with a zone, such as 2026-01-01T14:30:00Z; one in the past is due now
    #[arg(long, value_name = "TIME")]
    at: Option<DueAt>,
}

impl When {
    fn due(&self) -> Due {
        match (self.delay, self.at) {
            (Some(delay), _) => Due::In(delay),
            (None, Some(at)) => Due::At(at),
            (None, None) => unreachable!("clap demands one of the group"),
        }
    }
}

/// Compare-and-set on the deadline that the id has now.
fn expected(text: &str) -> Result<Expected, Invalid> {
    if text == "absent" { Ok(Expected::Absent) } else { text.parse().map(Expected::At) }
}

/// `overdue schedule`
#[derive(Debug, Args)]
pub(super) struct Schedule {
    /// The queue, which need not be in this machine's configuration
    queue: QueueName,
    /// 1 to 256 bytes of UTF-8 without control characters
    id: Id,
    #[command(flatten)]
    when: When,
    /// Up to 64 KiB that the handler gets along, JSON or other text; @FILE reads a file, - standard input
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// What to do with an id that is scheduled already
    #[arg(long, value_enum, default_value_t = Mode::Replace)]
    mode: Mode,
    /// Change it only if it is scheduled for exactly this time, or `absent`; else fail
    #[arg(long, value_name = "TIME|absent", value_parser = expected)]
    expect: Option<Expected>,
    #[command(flatten)]
    durable: Durable,
}

/// The answer to a change of a deadline.
#[derive(Serialize)]
struct Changed<'a> {
    queue: &'a QueueName,
    id: &'a Id,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<DueAt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_due_at: Option<DueAt>,
    durability: DurabilityLevel,
}

impl Schedule {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let payload = self.payload.as_deref().map(read_payload).transpose()?;
        let registration = Registration { id: self.id.clone(), due: self.when.due(), payload };
        let queue = context.queue(&self.queue).await?.durable_at(self.durable.durability);
        let expect = self.expect.unwrap_or_default();
        let answer = queue.schedule(&[registration], self.mode, expect).await?[0];
        let (result, state, due_at, previous_due_at) = match answer {
            Scheduled::Created { due_at } => ("created", None, Some(due_at), None),
            Scheduled::Replaced { due_at, old } => ("replaced", None, Some(due_at), old),
            Scheduled::Kept { due_at, state } => ("kept", Some(state), due_at, None),
            Scheduled::Conflict { due_at } => return Err(conflict(&self.id, due_at)),
        };
        context.warn_if_not_served(&self.queue);
        let (durability, queue, id) = (queue.durability(), &self.queue, &self.id);
        report(context, &Changed { queue, id, result, state, due_at, previous_due_at, durability })
    }
}

/// `overdue reschedule`
#[derive(Debug, Args)]
pub(super) struct Reschedule {
    /// The queue
    queue: QueueName,
    /// The id
    id: Id,
    #[command(flatten)]
    when: When,
    /// Move it only if it is scheduled for exactly this time; else fail
    #[arg(long, value_name = "TIME")]
    expect: Option<DueAt>,
    #[command(flatten)]
    durable: Durable,
}

impl Reschedule {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let (queue, id) = (context.queue(&self.queue).await?.durable_at(self.durable.durability), &self.id);
        let expect = self.expect.map_or(Expected::Anything, Expected::At);
        match queue.reschedule(id, self.when.due(), expect).await? {
            Rescheduled::Moved { due_at, old } => {
                let (durability, queue, due_at) = (queue.durability(), &self.queue, Some(due_at));
                let (result, state, previous_due_at) = ("moved", None, old);
                report(context, &Changed { queue, id, result, state, due_at, previous_due_at, durability })
            }
            Rescheduled::NotFound => Err(no_such_id(&self.queue, id)),
            Rescheduled::InFlight => {
                bail!("`{id}` is in flight; use `schedule` for a new deadline beside it")
            }
            Rescheduled::Dead => bail!("`{id}` is dead; use `dead retry`, or `schedule` for a new deadline"),
            Rescheduled::Conflict { due_at } => Err(conflict(id, due_at)),
        }
    }
}

/// `overdue cancel`
#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// The queue
    queue: QueueName,
    /// The ids
    #[arg(required = true)]
    ids: Vec<Id>,
    #[command(flatten)]
    durable: Durable,
}

/// The verdict on one id.
#[derive(Serialize)]
struct Verdict {
    queue: QueueName,
    id: Id,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<DueAt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_left_ms: Option<u64>,
    durability: DurabilityLevel,
}

impl Row for Verdict {
    const COLUMNS: &'static [&'static str] = &["id", "result", "due_at", "lease_left_ms"];

    fn cells(&self) -> Vec<String> {
        let due_at = or_dash(self.due_at);
        vec![self.id.to_string(), self.result.to_owned(), due_at, or_dash(self.lease_left_ms)]
    }
}

impl Cancel {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        context.warn_if_of_orders(&self.queue);
        let queue = context.queue(&self.queue).await?.durable_at(self.durable.durability);
        let answers = queue.cancel(&self.ids).await?;
        let verdict = |(id, answer): (&Id, &Cancelled)| {
            let (result, due_at, token, left) = match *answer {
                Cancelled::Cancelled { due_at } => ("cancelled", due_at, None, None),
                Cancelled::InFlight { token, lease_left } => {
                    ("in_flight", None, Some(token), Some(lease_left))
                }
                Cancelled::Dead => ("dead", None, None, None),
                Cancelled::NotFound => ("not_found", None, None, None),
            };
            let lease_left_ms = left.map(|left| left.as_millis() as u64);
            let durability = queue.durability();
            Verdict {
                queue: self.queue.clone(),
                id: id.clone(),
                result,
                due_at,
                token,
                lease_left_ms,
                durability,
            }
        };
        let verdicts: Vec<Verdict> = self.ids.iter().zip(&answers).map(verdict).collect();
        context.output.rows(&verdicts)?;

        let count = |result: &str| verdicts.iter().filter(|verdict| verdict.result == result).count();
        let (missing, running, dead) = (count("not_found"), count("in_flight"), count("dead"));
        if missing > 0 {
            return Err(NotFound(format!("{missing} of {} ids not found", verdicts.len())).into());
        }
        if running + dead > 0 {
            bail!(
                "{running} in flight (the running attempt is the last), {dead} dead (see `overdue dead delete`)"
            );
        }
        Ok(())
    }
}

/// `overdue show`
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The queue
    queue: QueueName,
    /// The id
    id: Id,
}

impl Show {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let Some(shown) = context.queue(&self.queue).await?.show(&self.id).await? else {
            return Err(no_such_id(&self.queue, &self.id));
        };
        context.output.one(&shown, &for_people(&shown))
    }
}

fn for_people(shown: &Shown) -> String {
    let mut pairs = vec![
        ("id", shown.id.clone()),
        ("queue", shown.queue.to_string()),
        ("state", shown.state.to_string()),
        ("due_at", or_dash(shown.due_at)),
        ("attempt", format!("{} ({} failed, {} lost)", shown.attempt, shown.failures, shown.crashes)),
    ];
    let mut add = |key, value: Option<String>| pairs.extend(value.map(|value| (key, value)));
    add("next_attempt_at", shown.next_attempt_at.map(|at| at.to_string()));
    add("token", shown.lease.map(|lease| lease.token.to_string()));
    add("lease_until", shown.lease.and_then(|lease| lease.expires_at).map(|at| at.to_string()));
    add("buried_at", shown.buried_at.map(|at| at.to_string()));
    add("reason", shown.reason.clone());
    add("error", shown.error.clone());
    add("payload", shown.payload.as_ref().map(ToString::to_string));
    block(&pairs)
}

fn report(context: &Context, changed: &Changed<'_>) -> anyhow::Result<()> {
    let Changed { queue, id, result, .. } = changed;
    let mut text = format!("{queue}/{id} {result}");
    if let Some(due_at) = changed.due_at {
        text.push_str(&format!(", due {due_at}"));
    }
    if let Some(previous) = changed.previous_due_at {
        text.push_str(&format!(" (was {previous})"));
    }
    if let Some(state) = changed.state {
        text.push_str(&format!(" ({state})"));
    }
    context.output.one(changed, &text)
}

fn no_such_id(queue: &QueueName, id: &Id) -> anyhow::Error {
    NotFound(format!("no id `{id}` in queue `{queue}`: never registered, cancelled, or done")).into()
}

fn conflict(id: &Id, due_at: Option<DueAt>) -> anyhow::Error {
    match due_at {
        Some(due_at) => anyhow::anyhow!("conflict: `{id}` is scheduled for {due_at}; nothing was changed"),
        None => anyhow::anyhow!("conflict: `{id}` is not scheduled; nothing was changed"),
    }
}

/// `@FILE` and `-` are read up to one byte over the limit, which is enough to refuse them.
fn read_payload(argument: &str) -> anyhow::Result<Payload> {
    let read = |input: &mut dyn Read| {
        let mut bytes = Vec::new();
        input.take(MAX_PAYLOAD_BYTES as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
    };
    let (name, bytes) = if argument == "-" {
        ("standard input", read(&mut io::stdin()))
    } else if let Some(path) = argument.strip_prefix('@') {
        (path, File::open(path).and_then(|mut file| read(&mut file)))
    } else {
        return Ok(Payload::new(argument)?);
    };
    let bytes = bytes.with_context(|| format!("cannot read the payload from {name}"))?;
    if bytes.len() > MAX_PAYLOAD_BYTES {
        let why = format!("is too long; a payload has 1 to {MAX_PAYLOAD_BYTES} bytes");
        return Err(Invalid::new("payload", name, why).into());
    }
    let text = String::from_utf8(bytes).map_err(|_| Invalid::new("payload", name, "is not UTF-8"))?;
    Ok(Payload::new(text)?)
}
