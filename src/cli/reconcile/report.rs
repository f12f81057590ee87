//! What a reconciliation says.

use serde::Serialize;

use super::super::output::{Format, Output, block, line};
use crate::types::{DueAt, Id};

/// How many differences are named for people, of each kind.
const EXAMPLES: usize = 5;

/// How an id differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Missing,
    Past,
    Shifted,
    Extra,
    Dead,
}

/// An id that differs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Difference {
    difference: Kind,
    id: Id,
    /// What the file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_due_at: Option<DueAt>,
    /// What the queue says.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<DueAt>,
    pub(super) repaired: bool,
}

impl Difference {
    pub(super) fn new(kind: Kind, id: &Id, expected: Option<DueAt>, found: Option<DueAt>) -> Self {
        let id = id.clone();
        Self { difference: kind, id, expected_due_at: expected, due_at: found, repaired: false }
    }

    fn for_people(&self) -> String {
        let word = format!("{:?}", self.difference).to_lowercase();
        let time = |word: &str, at: Option<DueAt>| at.map_or_else(String::new, |at| format!(", {word} {at}"));
        let (in_file, in_queue) =
            (time("in the file", self.expected_due_at), time("in the queue", self.due_at));
        let mended = if self.repaired { ", mended" } else { "" };
        format!("{word}: {}{in_file}{in_queue}{mended}", self.id)
    }
}

/// How many of each kind, and how many of them were mended.
#[derive(Debug, Default, Serialize)]
struct Summary {
    lines: u64,
    ids: u64,
    missing: u64,
    past: u64,
    shifted: u64,
    extra: u64,
    dead: u64,
    repaired: u64,
}

/// Counts differences, and writes each as it comes where programs read them line by line.
pub(super) struct Report {
    output: Output,
    /// Lines of the file.
    pub(super) lines: u64,
    /// Ids of the queue.
    pub(super) ids: u64,
    summary: Summary,
    examples: Vec<Difference>,
}

impl Report {
    pub(super) fn new(output: Output) -> Self {
        Self { output, lines: 0, ids: 0, summary: Summary::default(), examples: Vec::new() }
    }

    pub(super) fn note(&mut self, difference: Difference) -> anyhow::Result<()> {
        let summary = &mut self.summary;
        let count = match difference.difference {
            Kind::Missing => &mut summary.missing,
            Kind::Past => &mut summary.past,
            Kind::Shifted => &mut summary.shifted,
            Kind::Extra => &mut summary.extra,
            Kind::Dead => &mut summary.dead,
        };
        *count += 1;
        let of_kind = *count;
        summary.repaired += u64::from(difference.repaired);
        match self.output.format() {
            Format::Ndjson => line(&serde_json::to_string(&difference)?),
            _ if of_kind <= EXAMPLES as u64 => {
                self.examples.push(difference);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Prints the sums; an error if something is left. What has passed was probably handled, and is no difference that
    /// has to be mended.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        (self.summary.lines, self.summary.ids) = (self.lines, self.ids);
        let Summary { lines, ids, missing, past, shifted, extra, dead, repaired } = self.summary;
        match self.output.format() {
            Format::Ndjson => line(&serde_json::to_string(&serde_json::json!({ "summary": self.summary }))?)?,
            Format::Json => {
                let value = serde_json::json!({ "summary": self.summary, "examples": self.examples });
                line(&serde_json::to_string_pretty(&value)?)?;
            }
            Format::Table => {
                let of = |name, count: u64| (name, count.to_string());
                line(&block(&[
                    of("lines", lines),
                    of("ids", ids),
                    of("missing", missing),
                    of("past", past),
                    of("shifted", shifted),
                    of("extra", extra),
                    of("dead", dead),
                    of("repaired", repaired),
                ]))?;
                for example in &self.examples {
                    line(&super::super::output::for_terminal(&example.for_people()))?;
                }
            }
        }
        let left = missing + shifted + extra + dead - repaired;
        if left > 0 {
            anyhow::bail!(
                "{left} differences; --repair mends what is missing, shifted and extra, `dead retry` the dead"
            );
        }
        Ok(())
    }
}
