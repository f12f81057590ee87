//! Deadlines in a file, NDJSON or CSV: what `import` and `reconcile` read.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{csv_lines, ndjson_lines};
use crate::{
    duration,
    error::Invalid,
    queue::{Due, Registration},
    types::{DueAt, Id, MAX_PAYLOAD_BYTES, Payload},
};

/// Longest line: an id, a payload in which JSON escapes every byte, and the rest.
pub(super) const MAX_LINE_BYTES: u64 = 8 * MAX_PAYLOAD_BYTES as u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FileFormat {
    /// One JSON object a line
    Ndjson,
    /// A header line, then one line for each id
    Csv,
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

/// The lines of a file, and a bar that shows how far it is read. Nothing is drawn when stderr is no terminal.
pub(super) fn open(path: &Path, format: Option<FileFormat>) -> anyhow::Result<(Lines<'static>, ProgressBar)> {
    let (input, bytes) = bytes_of(path)?;
    let bar = progress_bar(bytes);
    let mut input = BufReader::with_capacity(1 << 20, bar.wrap_read(input));
    let lines: Lines<'static> = match format_of(path, format, &mut input)? {
        FileFormat::Ndjson => Box::new(ndjson_lines::read(input, MAX_LINE_BYTES, parse_json)),
        FileFormat::Csv if is_empty(&mut input)? => Box::new(std::iter::empty()),
        FileFormat::Csv => csv(input)?,
    };
    Ok((lines, bar))
}

/// What a path leads to, and how long it is; 0 if nobody knows.
fn bytes_of(path: &Path) -> anyhow::Result<(Box<dyn std::io::Read + Send>, u64)> {
    if path == Path::new("-") {
        return Ok((Box::new(std::io::stdin()), 0));
    }
    let cannot = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let bytes = file.metadata().with_context(cannot)?.len();
    Ok((Box::new(file), bytes))
}

fn format_of(
    path: &Path,
    format: Option<FileFormat>,
    input: &mut impl BufRead,
) -> anyhow::Result<FileFormat> {
    if let Some(format) = format {
        return Ok(format);
    }
    Ok(match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => FileFormat::Csv,
        Some("ndjson" | "jsonl" | "json") => FileFormat::Ndjson,
        _ if ndjson_lines::begins(beginning(input)?) => FileFormat::Ndjson,
        _ => FileFormat::Csv,
    })
}

fn beginning(input: &mut impl BufRead) -> anyhow::Result<&[u8]> {
    input.fill_buf().context("cannot read the input")
}

/// An empty export is an empty import, not a CSV file without its header.
fn is_empty(input: &mut impl BufRead) -> anyhow::Result<bool> {
    Ok(beginning(input)?.is_empty())
}

/// Line numbers and what stands there.
pub(super) type Lines<'a> = Box<dyn Iterator<Item = (u64, anyhow::Result<Registration>)> + Send + 'a>;

pub(super) fn parse_json(line: &[u8]) -> anyhow::Result<Registration> {
    let line: Line<'_> = ndjson_lines::parse(line)?;
    let due = match (line.due_at, line.delay) {
        (Some(at), None) => Due::At(at),
        (None, Some(duration::Text(delay))) => Due::In(delay),
        _ => bail!("needs either `due_at` or `delay`"),
    };
    let payload = line.payload.map(Payload::from_json).transpose()?.flatten();
    Ok(Registration { id: Id::new(line.id)?, due, payload })
}

pub(super) fn csv<'a>(input: impl BufRead + Send + 'a) -> anyhow::Result<Lines<'a>> {
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
