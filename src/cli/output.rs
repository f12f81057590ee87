//! Results on stdout: a table for people, JSON for programs.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::types::printable;

/// The forms of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Columns for people
    Table,
    /// One JSON document
    Json,
    /// One JSON object a line
    Ndjson,
}

/// A result that has columns as well as a JSON form.
pub(super) trait Row: Serialize {
    /// The heads of the columns.
    const COLUMNS: &'static [&'static str];

    /// The cells, as many as there are columns.
    fn cells(&self) -> Vec<String>;
}

/// Prints results in the form that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub(super) format: Format,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(super) fn format(self) -> Format {
        self.format
    }

    /// A list of results: a table, a JSON array, or a line each.
    pub(super) fn rows<R: Row>(self, rows: &[R]) -> anyhow::Result<()> {
        match self.format {
            Format::Table => line(&table(rows)),
            Format::Json => line(&serde_json::to_string_pretty(rows)?),
            Format::Ndjson => rows.iter().try_for_each(|row| line(&serde_json::to_string(row)?)),
        }
    }

    /// One result: a sentence or block for people, else one JSON object.
    pub(super) fn one(self, value: &impl Serialize, for_people: &str) -> anyhow::Result<()> {
        match self.format {
            Format::Table => line(for_people),
            Format::Json => line(&serde_json::to_string_pretty(value)?),
            Format::Ndjson => line(&serde_json::to_string(value)?),
        }
    }
}

/// A table without rules, so that it can be cut with awk.
pub(super) fn table<R: Row>(rows: &[R]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(R::COLUMNS.iter().map(|name| name.to_uppercase()));
    table.add_rows(
        rows.iter().map(|row| row.cells().iter().map(|cell| for_terminal(cell)).collect::<Vec<_>>()),
    );
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// What others have written cannot steer the terminal, nor look like another row.
pub(super) fn for_terminal(text: &str) -> String {
    printable(text.as_bytes())
}

/// Key and value in two columns.
pub(super) fn block(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    let lines = pairs.iter().map(|(key, value)| (for_terminal(key), value));
    let lines = lines.map(|(key, value)| format!("{key:width$}  {}", for_terminal(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// A line on stdout. A reader that went away (`| head`) ends the process quietly, as it does for other tools.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// True if somebody looks at stdout.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Counts steps of long work. Nothing is drawn when stderr is no terminal.
pub(super) fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} {eta}");
    let bar = ProgressBar::new(0).with_style(style.expect("the template is fixed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A value that may be missing.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_written_stays_on_its_line() {
        let pairs = [("id", "42".to_owned()), ("no\nte", "a\n\u{1b}[2Jstate  dead".to_owned())];
        assert_eq!(block(&pairs), "id     42\nno\\nte  a\\n\\u{1b}[2Jstate  dead");
    }
}
