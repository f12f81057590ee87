//! `overdue import`

#[cfg(test)]
mod fuzz;

use std::{io, path::PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::{
    context::Context,
    deadline_lines::{self, FileFormat, Lines},
    durable::Durable,
    output::block,
};
use crate::{
    queue::{Expected, MAX_IDS_PER_CALL, Mode, Queue, Registration, Scheduled},
    types::QueueName,
};

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

impl Import {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let queue = context.queue(&self.queue).await?.durable_at(self.durable.durability);
        context.warn_if_not_served(&self.queue);
        let (lines, bar) = deadline_lines::open(&self.file, self.format)?;
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

fn is_io(cause: &anyhow::Error) -> bool {
    cause.is::<io::Error>()
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
