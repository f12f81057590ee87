//! `overdue reconcile`: a queue beside what the user's own database says.
//!
//! Both sides are written to temporary files, spread by the hash of the id, and compared file by file: so memory holds a small
//! part of each, in whatever order they come, and however many there are. What differs is looked at once more in Redis
//! before it counts, since the queue goes on working meanwhile.

#[cfg(test)]
mod fuzz;
mod parts;
mod report;

use std::{collections::HashMap, path::PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use indicatif::ProgressBar;
use parts::{Entry, Parts};
use report::{Difference, Kind, Report};

use super::{
    context::Context,
    deadline_lines::{self, FileFormat},
    durable::Durable,
    output::progress_bar,
};
use crate::{
    error::Invalid,
    queue::{
        Due, Expected, MAX_IDS_PER_CALL, Mode, Queue, Registration, Rescheduled, Scheduled, Shown, State,
    },
    types::{DueAt, Id, QueueName, ServerTime},
};

/// Of a queue that would lose a larger share of its ids, the file is more likely to be wrong than the queue.
const MAX_EXTRA_SHARE: f64 = 0.1;
/// Below this many ids no share is suspicious.
const FEW: u64 = 100;

/// `overdue reconcile`
#[derive(Debug, Args)]
#[command(after_long_help = "\
The file has what should be scheduled, in the formats of `import`: NDJSON {\"id\": …, \"due_at\": …, \"payload\": …} or CSV with a header,
in any order. Differences are

  missing   in the file, and nowhere in the queue
  past      the same, but the deadline has passed: it was probably handled; --include-past makes it missing
  shifted   scheduled for another time
  extra     scheduled, and not in the file
  dead      in the file, and dead in the queue; `dead retry` is for that

What is in flight is in the queue, whatever its deadline. --repair registers what is missing, moves what is shifted and cancels what is
extra, each only if it is still as it was seen. If more than a tenth of the queue would be cancelled it does nothing, unless --yes is
given: a file that was cut short looks like that.

Take the file when nothing is registered, or expect what was registered since among the extra; --keep-extra leaves those alone.

Exit code 0: no differences, or all were mended. 1: some are left.")]
pub(super) struct Reconcile {
    /// The queue
    queue: QueueName,
    /// What your database says; - reads standard input
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The format [default: by the file's extension, else by its first character]
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    /// Mend the differences
    #[arg(long)]
    repair: bool,
    /// Count deadlines that have passed as missing
    #[arg(long)]
    include_past: bool,
    /// Leave what is not in the file
    #[arg(long)]
    keep_extra: bool,
    /// Cancel what is not in the file, however much that is
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    durable: Durable,
}

impl Reconcile {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        if self.repair && context.is_of_orders(&self.queue) {
            let why = "is a queue of orders, and a deadline without its order expires nothing: look without --repair, then \
                       use `overdue order create`, `extend` and `cancel`";
            return Err(Invalid::new("queue", &self.queue, why).into());
        }
        let queue = context.existing_queue(&self.queue).await?.durable_at(self.durable.durability);
        let mut truth = Parts::new()?;
        let mut report = Report::new(context.output);
        report.lines = self.read(&mut truth)?;
        let mut held = Parts::new()?;
        let counts = queue.counts().await?;
        let bar = progress_bar();
        bar.set_length(counts.scheduled + counts.leased);
        report.ids = walk(&queue, &mut held, &bar).await?;
        bar.finish_and_clear();

        let bar = progress_bar();
        bar.set_length(Parts::COUNT as u64);
        let (mut extra, mut extra_count) = (Parts::new()?, 0);
        for (truth, held) in truth.read()?.zip(held.read()?) {
            let (suspects, found_extra) = compare(truth?, held?);
            for entry in found_extra {
                extra.put(&entry).context("cannot write a temporary file")?;
                extra_count += 1;
            }
            for step in suspects.chunks(MAX_IDS_PER_CALL) {
                self.settle(&queue, step, counts.now, &mut report).await?;
            }
            bar.inc(1);
        }
        let cancels = self.cancels(extra_count, report.ids)?;
        for extra in extra.read()? {
            self.settle_extra(&queue, extra?, cancels, &mut report).await?;
        }
        bar.finish_and_clear();
        report.finish()
    }

    /// Spreads the lines of the file, and answers how many there were.
    fn read(&self, truth: &mut Parts) -> anyhow::Result<u64> {
        let (lines, bar) = deadline_lines::open(&self.from, self.format)?;
        let mut count = 0;
        for (number, line) in lines {
            let at_line = |cause: anyhow::Error| anyhow!("line {number}: {cause:#}");
            let Registration { id, due, payload } = line.map_err(at_line)?;
            let Due::At(due_at) = due else {
                bail!("line {number}: a delay is no deadline that could be compared; write `due_at`");
            };
            truth
                .put(&Entry { id, due_at: Some(due_at), payload })
                .context("cannot write a temporary file")?;
            count += 1;
        }
        bar.finish_and_clear();
        Ok(count)
    }

    /// Looks at ids of the file again, and mends what is still another than it should be.
    async fn settle(
        &self,
        queue: &Queue,
        suspects: &[Entry],
        now: ServerTime,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let ids: Vec<Id> = suspects.iter().map(|entry| entry.id.clone()).collect();
        let mut missing = Vec::new();
        for (entry, shown) in suspects.iter().zip(queue.look(&ids).await?) {
            let Some(due_at) = entry.due_at else { continue };
            let Some((kind, found)) = judge(due_at, shown.as_ref(), now, self.include_past) else { continue };
            let mut difference = Difference::new(kind, &entry.id, Some(due_at), found);
            match kind {
                Kind::Missing if self.repair => {
                    missing.push((entry, difference));
                    continue;
                }
                Kind::Shifted if self.repair => {
                    let expected = held_of(shown.as_ref()).map_or(Expected::Anything, Expected::At);
                    let answer = queue.reschedule(&entry.id, Due::At(due_at), expected).await?;
                    difference.repaired = matches!(answer, Rescheduled::Moved { .. });
                }
                _ => {}
            }
            report.note(difference)?;
        }
        let registrations: Vec<Registration> = missing
            .iter()
            .filter_map(|(entry, _)| {
                let due = Due::At(entry.due_at?);
                Some(Registration { id: entry.id.clone(), due, payload: entry.payload.clone() })
            })
            .collect();
        let answers = queue.schedule(&registrations, Mode::Keep, Expected::Anything).await?;
        for ((_, mut difference), answer) in missing.into_iter().zip(answers) {
            difference.repaired = matches!(answer, Scheduled::Created { .. });
            report.note(difference)?;
        }
        Ok(())
    }

    /// Whether ids that are not in the file are to be cancelled.
    fn cancels(&self, extra: u64, ids: u64) -> anyhow::Result<bool> {
        let cancels = self.repair && !self.keep_extra;
        let suspicious = extra > FEW && extra as f64 > ids as f64 * MAX_EXTRA_SHARE;
        if cancels && suspicious && !self.yes {
            bail!(
                "{extra} of {ids} ids are not in the file, and would be cancelled: is it whole? Then pass --yes, or else \
                 --keep-extra; nothing of these was changed"
            );
        }
        Ok(cancels)
    }

    async fn settle_extra(
        &self,
        queue: &Queue,
        extra: Vec<Entry>,
        cancels: bool,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        for step in extra.chunks(MAX_IDS_PER_CALL) {
            let ids: Vec<Id> = step.iter().map(|entry| entry.id.clone()).collect();
            let mut same = Vec::new();
            for (entry, shown) in step.iter().zip(queue.look(&ids).await?) {
                // Fired, cancelled or moved since: it is none of this any more.
                if shown.is_some_and(|shown| shown.state == State::Scheduled && shown.due_at == entry.due_at)
                {
                    same.push(entry);
                }
            }
            if cancels {
                let ids: Vec<Id> = same.iter().map(|entry| entry.id.clone()).collect();
                queue.cancel(&ids).await?;
            }
            for entry in same {
                let mut difference = Difference::new(Kind::Extra, &entry.id, None, entry.due_at);
                difference.repaired = cancels;
                report.note(difference)?;
            }
        }
        Ok(())
    }
}

/// Spreads the ids of the queue, and answers how many there were. Those in flight come first: what is claimed or given
/// back meanwhile is seen in one of both states, and looked at again where it is not.
async fn walk(queue: &Queue, held: &mut Parts, bar: &ProgressBar) -> anyhow::Result<u64> {
    let mut count = 0;
    for state in [State::Leased, State::Scheduled] {
        let mut cursor = None;
        loop {
            let page = queue.list(state, MAX_IDS_PER_CALL, cursor.as_ref()).await?;
            bar.inc(page.rows.len() as u64);
            for row in page.rows {
                // One outside the contract cannot be in the file; `verify` is for those.
                if let Some(id) = row.valid_id {
                    count += 1;
                    let due_at = row.due_at.filter(|_| state == State::Scheduled);
                    held.put(&Entry { id, due_at, payload: None })
                        .context("cannot write a temporary file")?;
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(count)
}

/// What of a part has to be looked at again: entries of the file that differ, and ids that are not in it. Of an id that stands
/// in the file twice the last line counts.
fn compare(truth: Vec<Entry>, held: Vec<Entry>) -> (Vec<Entry>, Vec<Entry>) {
    let mut wanted: HashMap<Id, Entry> = truth.into_iter().map(|entry| (entry.id.clone(), entry)).collect();
    let (mut suspects, mut extra) = (Vec::new(), HashMap::new());
    let mut seen = HashMap::new();
    for Entry { id, due_at, .. } in held {
        // Of one that is in flight and was registered anew, what is scheduled counts.
        let known = seen.entry(id).or_insert(due_at);
        *known = due_at.or(*known);
    }
    for (id, due_at) in seen {
        match (wanted.remove(&id), due_at) {
            (Some(entry), Some(_)) if entry.due_at != due_at => suspects.push(entry),
            (Some(_), _) | (None, None) => {}
            (None, Some(_)) => drop(extra.insert(id.clone(), Entry { id, due_at, payload: None })),
        }
    }
    suspects.extend(wanted.into_values());
    (suspects, extra.into_values().collect())
}

/// The deadline that a change has to expect: the score, which of an id that failed is its next attempt.
fn held_of(shown: Option<&Shown>) -> Option<DueAt> {
    shown.and_then(|shown| shown.next_attempt_at.or(shown.due_at))
}

/// How an id of the file differs from what is in the queue, and the deadline that it has there.
fn judge(
    due_at: DueAt,
    shown: Option<&Shown>,
    now: ServerTime,
    include_past: bool,
) -> Option<(Kind, Option<DueAt>)> {
    match shown.map(|shown| (shown.state, shown.due_at)) {
        Some((State::Scheduled, found)) if found == Some(due_at) => None,
        Some((State::Scheduled, found)) => Some((Kind::Shifted, found)),
        Some((State::Leased, _)) => None,
        Some((State::Dead, _)) => Some((Kind::Dead, None)),
        None if due_at.as_ms() <= now.as_ms() && !include_past => Some((Kind::Past, None)),
        None => Some((Kind::Missing, None)),
    }
}
