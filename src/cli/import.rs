//! `overdue import`

#[cfg(test)]
mod fuzz;

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{context::Context, csv_lines, durable::Durable, ndjson_lines, output::block};
use crate::{
    duration,
    error::Invalid,
    queue::{Due, Expected, MAX_IDS_PER_CALL, Mode, Queue, Registration, Scheduled},
    types::{DueAt, Id, MAX_PAYLOAD_BYTES, Payload, QueueName},
};

/// Longest line: an id, a payload in which JSON escapes every byte, and the rest.
const MAX_LINE_BYTES: u64 = 8 * MAX_PAYLOAD_BYTES as u64;

/// `overdue import`
#[derive(Debug, Args)]
#[command(after_long_help = "\
NDJSON: one object a line, {\"id\": …, \"due_at\": …, \"payload\": …}, where due_at is RFC 3339 with a zone or
milliseconds since the epoch; or \"delay\": \"30m\" instead of due_at. CSV: a header line with the same names.

Running it twice changes nothing that is still there, because by default an id that is scheduled, in flight or
dead is kept as it is. An id that fired in between is registered again, and fires again.")]
pub(super) struct Import {
    /// The queue
    queue: QueueName,
    /// The file; - reads standard input
    file: PathBuf,
    /// The format [default: by the file's extension, else by its first character]
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// What to do about a line that cannot be read: it is named on stderr either way
    #[arg(long, value_enum, default_value_t = OnError::Stop)]
    on_error: OnError,
    /// What to do with an id that is there already
    #[arg(long, value_enum, default_value_t = Mode::Keep)]
    mode: Mode,
    #[command(flatten)]
    durable: Durable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FileFormat {
    /// One JSON object a line
    Ndjson,
    /// A header line, then one line for each id
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OnError {
    /// Stop there; the lines before it are registered
    Stop,
    /// Leave it out and go on
    Skip,
}

/// What became of the lines.
#[derive(Default, Serialize)]
struct Report {
    lines: u64,
    created: u64,
    replaced: u64,
    kept: u64,
    failed: u64,
}

/// A line as it may stand in either format.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    id: String,
    due_at: Option<DueAt>,
    delay: Option<duration::Text>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

impl Import {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let (input, bytes) = self.open()?;
        let queue = context.queue(&self.queue).await?.durable_at(self.durable.durability);
        context.warn_if_not_served(&self.queue);
        let bar = progress_bar(bytes);
        let mut input = BufReader::with_capacity(1 << 20, bar.wrap_read(input));
        let lines: Lines<'_> = match self.format(&mut input)? {
            FileFormat::Ndjson => Box::new(ndjson_lines::read(input, MAX_LINE_BYTES, parse_json)),
            FileFormat::Csv if is_empty(&mut input)? => Box::new(std::iter::empty()),
            FileFormat::Csv => csv(input)?,
        };
        let report = self.register(&queue, lines, &bar).await;
        bar.finish_and_clear();
        let (report, stopped) = report?;
        context.output.one(&report, &for_people(&report))?;
        if let Some(stopped) = stopped {
            return Err(
                stopped.context("stopped; the lines before are registered, and running it again keeps those that are still there")
            );
        }
        if report.failed > 0 {
            bail!("{} of {} lines could not be read", report.failed, report.lines);
        }
        Ok(())
    }

    fn open(&self) -> anyhow::Result<(Box<dyn std::io::Read + Send>, u64)> {
        if self.file == Path::new("-") {
            return Ok((Box::new(std::io::stdin()), 0));
        }
        let cannot = || format!("cannot read {}", self.file.display());
        let file = File::open(&self.file).with_context(cannot)?;
        let bytes = file.metadata().with_context(cannot)?.len();
        Ok((Box::new(file), bytes))
    }

    fn format(&self, input: &mut impl BufRead) -> anyhow::Result<FileFormat> {
        if let Some(format) = self.format {
            return Ok(format);
        }
        Ok(match self.file.extension().and_then(|extension| extension.to_str()) {
            Some("csv") => FileFormat::Csv,
            Some("ndjson" | "jsonl" | "json") => FileFormat::Ndjson,
            _ if ndjson_lines::begins(beginning(input)?) => FileFormat::Ndjson,
            _ => FileFormat::Csv,
        })
    }

    /// Registers in steps of 1000; the error is the line that stopped it.
    async fn register(
        &self,
        queue: &Queue,
        lines: Lines<'_>,
        bar: &ProgressBar,
    ) -> anyhow::Result<(Report, Option<anyhow::Error>)> {
        let mut report = Report::default();
        let mut step = Vec::with_capacity(MAX_IDS_PER_CALL);
        let mut stopped = None;
        for (number, line) in lines {
            report.lines += 1;
            match line {
                Ok(registration) => step.push(registration),
                Err(cause) => {
                    report.failed += 1;
                    // A broken reader would say the same without end.
                    let broken = is_io(&cause);
                    // Flattened: a bad value in a file is a failure of the import, not wrong usage.
                    let cause = anyhow!("line {number}: {cause:#}");
                    if broken || self.on_error == OnError::Stop {
                        stopped = Some(cause);
                        break;
                    }
                    bar.suspend(|| eprintln!("overdue: {cause:#}"));
                }
            }
            if step.len() == MAX_IDS_PER_CALL {
                self.send(queue, &mut step, &mut report).await?;
            }
        }
        self.send(queue, &mut step, &mut report).await?;
        Ok((report, stopped))
    }

    async fn send(
        &self,
        queue: &Queue,
        step: &mut Vec<Registration>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let answers = queue.schedule(step, self.mode, Expected::Anything).await.with_context(|| {
            let done = report.created + report.replaced + report.kept;
            format!("stopped after {done} lines; running it again keeps those that are still there")
        })?;
        step.clear();
        for answer in answers {
            match answer {
                Scheduled::Created { .. } => report.created += 1,
                Scheduled::Replaced { .. } => report.replaced += 1,
                Scheduled::Kept { .. } | Scheduled::Conflict { .. } => report.kept += 1,
            }
        }
        Ok(())
    }
}

fn beginning(input: &mut impl BufRead) -> anyhow::Result<&[u8]> {
    input.fill_buf().context("cannot read the input")
}

/// An empty export is an empty import, not a CSV file without its header.
fn is_empty(input: &mut impl BufRead) -> anyhow::Result<bool> {
    Ok(beginning(input)?.is_empty())
}

/// Line numbers and what stands there.
type Lines<'a> = Box<dyn Iterator<Item = (u64, anyhow::Result<Registration>)> + Send + 'a>;

fn parse_json(line: &[u8]) -> anyhow::Result<Registration> {
    let line: Line<'_> = ndjson_lines::parse(line)?;
    let due = match (line.due_at, line.delay) {
        (Some(at), None) => Due::At(at),
        (None, Some(duration::Text(delay))) => Due::In(delay),
        _ => bail!("needs either `due_at` or `delay`"),
    };
    let payload = line.payload.map(Payload::from_json).transpose()?.flatten();
    Ok(Registration { id: Id::new(line.id)?, due, payload })
}

fn csv<'a>(input: impl BufRead + Send + 'a) -> anyhow::Result<Lines<'a>> {
    let (input, mut line_counter) = csv_lines::tap(input);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(input);
    let header = reader.headers().map_err(csv_lines::explain).context("cannot read the CSV header")?;
    let columns = Columns::find(header)?;
    let mut record = csv::StringRecord::new();
    let lines = std::iter::from_fn(move || {
        let start = reader.position().byte();
        let read = reader.read_record(&mut record);
        let number = line_counter.line_of(start);
        match read {
            Ok(false) => None,
            Ok(true) => Some((number, columns.parse(&record))),
            Err(cause) => Some((number, Err(csv_lines::explain(cause)))),
        }
    });
    Ok(Box::new(lines))
}

fn is_io(cause: &anyhow::Error) -> bool {
    cause.is::<io::Error>()
}

/// Where the CSV header has which column.
#[derive(Clone, Copy)]
struct Columns {
    id: usize,
    due_at: Option<usize>,
    delay: Option<usize>,
    payload: Option<usize>,
}

impl Columns {
    fn find(header: &csv::StringRecord) -> anyhow::Result<Self> {
        let known = ["id", "due_at", "delay", "payload"];
        if let Some(unknown) = header.iter().find(|name| !known.contains(name)) {
            let why = format!("is unknown; the columns are {}", known.join(", "));
            // Flattened, as the error of a line: a file is no wrong usage.
            bail!("{}", Invalid::new("CSV column", unknown, why));
        }
        if let Some(name) =
            known.iter().find(|name| header.iter().filter(|column| column == *name).count() > 1)
        {
            bail!("the CSV header has the column `{name}` twice");
        }
        let column = |name: &str| header.iter().position(|column| column == name);
        let (due_at, delay) = (column("due_at"), column("delay"));
        match column("id") {
            Some(id) if due_at.or(delay).is_some() => {
                Ok(Self { id, due_at, delay, payload: column("payload") })
            }
            _ => bail!("the CSV header needs a column `id` and one of `due_at` and `delay`"),
        }
    }

    fn parse(self, record: &csv::StringRecord) -> anyhow::Result<Registration> {
        let cell = |column: Option<usize>| {
            column.and_then(|column| record.get(column)).filter(|cell| !cell.is_empty())
        };
        let due = match (cell(self.due_at), cell(self.delay)) {
            (Some(at), None) => Due::At(at.parse()?),
            (None, Some(delay)) => Due::In(duration::parse(delay)?),
            _ => bail!("needs either `due_at` or `delay`"),
        };
        let payload: Option<Result<Payload, Invalid>> = cell(self.payload).map(Payload::new);
        Ok(Registration {
            id: Id::new(cell(Some(self.id)).unwrap_or(""))?,
            due,
            payload: payload.transpose()?,
        })
    }
}

/// By bytes where the size is known, else just a count. Nothing is drawn when stderr is no terminal.
fn progress_bar(bytes: u64) -> ProgressBar {
    let bar = if bytes > 0 { ProgressBar::new(bytes) } else { ProgressBar::new_spinner() };
    let template =
        if bytes > 0 { "{bar:40} {bytes}/{total_bytes} {eta}" } else { "{spinner} {bytes} {bytes_per_sec}" };
    bar.set_style(ProgressStyle::with_template(template).expect("the template is fixed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn for_people(report: &Report) -> String {
    block(&[
        ("lines", report.lines.to_string()),
        ("created", report.created.to_string()),
        ("replaced", report.replaced.to_string()),
        ("kept", report.kept.to_string()),
        ("failed", report.failed.to_string()),
    ])
}
