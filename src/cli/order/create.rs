//! `overdue order create` and `overdue order submit`

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{FieldArguments, InQueue};
use crate::{
    cli::{context::Context, durable::Durable, ndjson_lines, output::block},
    duration,
    order::{Created, Fields, MAX_FIELD_BYTES, NewOrder, Order, Orders, Submitted},
    queue::Due,
    types::{DueAt, Id},
};

/// How many orders go to Redis together.
const STEP: usize = 1000;
/// Longest line: an id, fields in which JSON escapes every byte, and the rest.
const MAX_LINE_BYTES: u64 = 8 * MAX_FIELD_BYTES as u64;
/// How long a file waits for an intake that stays full.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait before asking a full intake again.
const PAUSE: Duration = Duration::from_millis(50);

const LINES_HELP: &str = "\
With --from: one object a line, {\"id\": …, \"due_at\": …, \"fields\": {\"amount\": \"100.00\"}}, where due_at is RFC 3339
with a zone or milliseconds since the epoch; or \"delay\": \"30m\"; or neither, for the timeout of the configuration.
Running it again is safe: creating an order twice is creating it once.";

/// What is to be created.
#[derive(Debug, Args)]
struct New {
    /// The id of the order, 1 to 256 bytes of UTF-8 without control characters
    #[arg(required_unless_present = "from")]
    id: Option<Id>,
    #[command(flatten)]
    queue: InQueue,
    /// By when it must be paid: after this time, such as 30m [default: `order.timeout` of the queue]
    #[arg(long = "in", value_name = "DURATION", value_parser = duration::parse, conflicts_with = "at")]
    delay: Option<Duration>,
    /// By when it must be paid: RFC 3339 with a zone, such as 2026-01-01T14:30:00Z
    #[arg(long, value_name = "TIME")]
    at: Option<DueAt>,
    #[command(flatten)]
    fields: FieldArguments,
    /// Read orders from a file of NDJSON instead; - reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "delay", "at", "fields"])]
    from: Option<PathBuf>,
    #[command(flatten)]
    durable: Durable,
}

impl New {
    fn timeout(&self, context: &Context) -> Due {
        Due::In(self.queue.config(context).timeout)
    }

    /// The one order that the arguments name; none if they name a file.
    fn one(&self, context: &Context) -> anyhow::Result<Option<NewOrder>> {
        let Some(id) = self.id.clone() else { return Ok(None) };
        let due = match (self.at, self.delay) {
            (Some(at), _) => Due::At(at),
            (None, Some(delay)) => Due::In(delay),
            (None, None) => self.timeout(context),
        };
        Ok(Some(NewOrder { id, due, fields: self.fields.fields()? }))
    }

    fn lines(
        &self,
        context: &Context,
    ) -> anyhow::Result<impl Iterator<Item = (u64, anyhow::Result<NewOrder>)>> {
        let path = self.from.as_deref().unwrap_or(Path::new("-"));
        let input: Box<dyn Read> = if path == Path::new("-") {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(path).with_context(|| format!("cannot read {}", path.display()))?)
        };
        let timeout = self.timeout(context);
        let input = BufReader::with_capacity(1 << 20, input);
        Ok(ndjson_lines::read(input, MAX_LINE_BYTES, move |line| parse(line, timeout)))
    }
}

/// A line of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: Id,
    due_at: Option<DueAt>,
    delay: Option<duration::Text>,
    #[serde(default)]
    fields: Fields,
}

pub(super) fn parse(line: &[u8], timeout: Due) -> anyhow::Result<NewOrder> {
    let Line { id, due_at, delay, fields } = ndjson_lines::parse(line)?;
    let due = match (due_at, delay) {
        (Some(at), None) => Due::At(at),
        (None, Some(duration::Text(delay))) => Due::In(delay),
        (None, None) => timeout,
        (Some(_), Some(_)) => bail!("has `due_at` and `delay`; it can have one of them"),
    };
    Ok(NewOrder { id, due, fields })
}

/// What became of the lines of a file.
#[derive(Debug, Default, Serialize)]
struct Report {
    lines: u64,
    /// Created, or accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<u64>,
    existed: u64,
    conflicts: u64,
    failed: u64,
}

impl Report {
    fn print(&self, context: &Context, done: (&'static str, Option<u64>)) -> anyhow::Result<()> {
        let text = block(&[
            ("lines", self.lines.to_string()),
            (done.0, done.1.unwrap_or(0).to_string()),
            ("existed", self.existed.to_string()),
            ("conflicts", self.conflicts.to_string()),
            ("failed", self.failed.to_string()),
        ]);
        context.output.one(self, &text)?;
        if self.conflicts + self.failed > 0 {
            bail!(
                "of {} lines {} are in conflict, and {} cannot be read",
                self.lines,
                self.conflicts,
                self.failed
            );
        }
        Ok(())
    }

    /// What can be read, up to a full step; empty at the end. The rest is named on stderr.
    fn step(&mut self, lines: &mut impl Iterator<Item = (u64, anyhow::Result<NewOrder>)>) -> Vec<NewOrder> {
        let mut step = Vec::with_capacity(STEP);
        for (number, line) in lines.by_ref() {
            self.lines += 1;
            match line {
                Ok(order) => step.push(order),
                Err(cause) => {
                    self.failed += 1;
                    eprintln!("overdue: line {number}: {cause:#}");
                    if cause.is::<io::Error>() {
                        break;
                    }
                }
            }
            if step.len() == STEP {
                break;
            }
        }
        step
    }

    fn conflict(&mut self, id: &Id) {
        self.conflicts += 1;
        eprintln!("overdue: order `{id}` exists with other fields");
    }
}

/// An order and what happened to it.
#[derive(Serialize)]
struct Answer<'a> {
    result: &'static str,
    #[serde(flatten)]
    order: &'a Order,
}

/// `overdue order create`
#[derive(Debug, Args)]
#[command(after_long_help = LINES_HELP)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    new: New,
}

impl Create {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let one = self.new.one(context)?;
        let orders = self.new.queue.orders(context).await?.durable_at(self.new.durable.durability);
        let Some(new) = one else { return self.run_file(context, &orders).await };
        let (result, order) = match orders.create(std::slice::from_ref(&new)).await?.remove(0) {
            Created::Created(order) => ("created", order),
            Created::Exists(order) => ("exists", order),
            Created::Conflict(order) => {
                bail!(
                    "conflict: order `{}` exists with other fields ({}); nothing was changed",
                    new.id,
                    order.status
                )
            }
            Created::NotAnOrder => bail!("the key of order `{}` holds something else than an order", new.id),
        };
        let due = order.due_at.map_or_else(String::new, |due_at| format!(", due {due_at}"));
        let text = match result {
            "exists" => format!("order {} exists ({}){due}", order.id, order.status),
            _ => format!("order {} created{due}", order.id),
        };
        context.output.one(&Answer { result, order: &order }, &text)
    }

    async fn run_file(&self, context: &Context, orders: &Orders) -> anyhow::Result<()> {
        let mut lines = self.new.lines(context)?;
        let mut report = Report { created: Some(0), ..Report::default() };
        loop {
            let step = report.step(&mut lines);
            if step.is_empty() {
                break;
            }
            for (new, answer) in step.iter().zip(orders.create(&step).await.with_context(stopped)?) {
                match answer {
                    Created::Created(_) => *report.created.get_or_insert(0) += 1,
                    Created::Exists(_) => report.existed += 1,
                    Created::Conflict(_) | Created::NotAnOrder => report.conflict(&new.id),
                }
            }
        }
        report.print(context, ("created", report.created))
    }
}

/// `overdue order submit`
#[derive(Debug, Args)]
#[command(after_long_help = LINES_HELP)]
pub(in crate::cli) struct Submit {
    #[command(flatten)]
    new: New,
}

/// The answer to one submission.
#[derive(Serialize)]
struct SubmitAnswer<'a> {
    result: &'static str,
    id: &'a Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<DueAt>,
}

impl Submit {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let one = self.new.one(context)?;
        let orders = self.new.queue.orders(context).await?.durable_at(self.new.durable.durability);
        let Some(new) = one else { return self.run_file(context, &orders).await };
        let (result, due_at) = match orders.submit(std::slice::from_ref(&new)).await?[0] {
            Submitted::Accepted { due_at } => ("accepted", Some(due_at)),
            Submitted::Waiting { due_at } => ("waiting", due_at),
            Submitted::Exists { due_at } => ("exists", due_at),
            Submitted::Conflict => {
                bail!("conflict: order `{}` waits or exists with other fields; nothing was changed", new.id)
            }
            Submitted::Full => bail!(
                "the intake is full: too many orders wait to be created; try again later (see `stats {}`)",
                orders.intake().name()
            ),
        };
        let due = due_at.map_or_else(String::new, |due_at| format!(", due {due_at}"));
        let text = format!("order {} {result}{due}", new.id);
        context.output.one(&SubmitAnswer { result, id: &new.id, due_at }, &text)
    }

    async fn run_file(&self, context: &Context, orders: &Orders) -> anyhow::Result<()> {
        let mut lines = self.new.lines(context)?;
        let mut report = Report { accepted: Some(0), ..Report::default() };
        loop {
            let mut step = report.step(&mut lines);
            if step.is_empty() {
                break;
            }
            let mut progress = Instant::now();
            while !step.is_empty() {
                let before = step.len();
                step = send(orders, step, &mut report).await?;
                if step.len() < before {
                    progress = Instant::now();
                } else if progress.elapsed() > PATIENCE {
                    return Err(anyhow!(
                        "the intake has been full for {}s: does a `serve` create orders of `{}`?",
                        PATIENCE.as_secs(),
                        self.new.queue.queue
                    ))
                    .with_context(stopped);
                }
                if !step.is_empty() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        report.print(context, ("accepted", report.accepted))
    }
}

/// Submits orders; answers those that there was no room for.
async fn send(orders: &Orders, step: Vec<NewOrder>, report: &mut Report) -> anyhow::Result<Vec<NewOrder>> {
    let answers = orders.submit(&step).await.with_context(stopped)?;
    let mut left = Vec::new();
    for (new, answer) in step.into_iter().zip(answers) {
        match answer {
            Submitted::Accepted { .. } => *report.accepted.get_or_insert(0) += 1,
            Submitted::Waiting { .. } | Submitted::Exists { .. } => report.existed += 1,
            Submitted::Conflict => report.conflict(&new.id),
            Submitted::Full => left.push(new),
        }
    }
    Ok(left)
}

fn stopped() -> &'static str {
    "stopped; the lines before are done, and running it again is safe"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_a_line_is_read_as_import_reads_it() {
        let due = |at: &str| parse(format!("{{\"id\":\"42\",\"due_at\":{at}}}").as_bytes(), Due::In(PAUSE));
        let expected = Due::At(DueAt::from_ms(1_767_225_600_000).unwrap());
        for at in ["1767225600000", "1767225600000.0", "1.7672256e12", r#""2026-01-01T00:00:00\u005a""#] {
            assert_eq!(due(at).unwrap().due, expected, "{at}");
        }
        let error = due("[\"2026-01-01T00:00:00Z\"]").unwrap_err().to_string();
        assert!(error.contains("expected a time"), "{error}");
    }
}
