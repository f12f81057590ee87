//! `overdue verify`

use std::{collections::BTreeMap, time::Duration};

use anyhow::bail;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::{
    context::Context,
    output::{Format, Row, for_terminal, line, progress_bar},
};
use crate::{
    error::Error,
    queue::{Flaw, Found, MAX_IDS_PER_CALL, Part, Queue},
    types::QueueName,
};

/// How long a payload may be there before its id: registering takes two commands.
const GRACE: Duration = Duration::from_secs(2);
/// How many of those are asked about again together; more are, in several rounds.
const MAX_ORPHANS: usize = 10 * MAX_IDS_PER_CALL;
/// How many ids are named for each finding.
const EXAMPLES: usize = 5;

/// `overdue verify`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Looks whether every id is in one state and one shard, whether every lease has an end and an id, whether payloads and records
belong to somebody, and whether no key expires. It goes in steps of some hundred entries, each of which is one instant for Redis, so it can run beside
a busy queue, and what is in motion is no finding.

--repair mends in the same step, and loses no id: where one is in two states, the one that is delivered stays.

Exit code 0: all is well, or was mended. 1: something is left.")]
pub(super) struct Verify {
    /// The queues; without any, all of the configuration
    queues: Vec<QueueName>,
    /// Mend what is found
    #[arg(long)]
    repair: bool,
}

/// A flaw of a queue.
#[derive(Serialize)]
struct Finding {
    queue: QueueName,
    finding: Flaw,
    count: u64,
    /// Some of the ids, tokens or keys.
    examples: Vec<String>,
    consequence: &'static str,
    mend: &'static str,
    repaired: bool,
}

impl Row for Finding {
    const COLUMNS: &'static [&'static str] = &["queue", "finding", "count", "repaired", "examples"];

    fn cells(&self) -> Vec<String> {
        let repaired = if self.repaired { "yes" } else { "no" };
        let count = self.count.to_string();
        vec![
            self.queue.to_string(),
            self.finding.to_string(),
            count,
            repaired.to_owned(),
            self.examples.join(" "),
        ]
    }
}

impl Verify {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let queues = if self.queues.is_empty() {
            let all = context.config.queues.iter();
            all.flat_map(|(name, config)| config.handler.queues(name)).collect()
        } else {
            self.queues.clone()
        };
        let bar = progress_bar();
        let (mut findings, mut looked_at) = (Vec::new(), 0);
        for name in &queues {
            let queue = context.existing_queue(name).await?;
            let mut walk =
                Walk { queue, repair: self.repair, bar: &bar, tally: BTreeMap::new(), looked_at: 0 };
            walk.shards().await?;
            for shard in walk.queue.each_shard().await? {
                walk.queue = shard;
                walk.all().await?;
            }
            looked_at += walk.looked_at;
            findings.extend(walk.findings());
        }
        bar.finish_and_clear();
        if context.output.format() != Format::Table || !findings.is_empty() {
            context.output.rows(&findings)?;
        }
        if context.output.format() == Format::Table {
            for Finding { finding, consequence, mend, .. } in &findings {
                line(&for_terminal(&format!("{finding}: {consequence}; mended by: {mend}")))?;
            }
        }
        eprintln!("{looked_at} entries of {} queues looked at", queues.len());
        let left: u64 =
            findings.iter().filter(|finding| !finding.repaired).map(|finding| finding.count).sum();
        if left > 0 {
            let how = if self.repair { "they have to be mended by hand" } else { "--repair mends them" };
            bail!("{left} findings; {how}");
        }
        Ok(())
    }
}

/// A look at a whole queue.
struct Walk<'a> {
    queue: Queue,
    repair: bool,
    bar: &'a ProgressBar,
    tally: BTreeMap<Flaw, (u64, Vec<String>)>,
    looked_at: u64,
}

impl Walk<'_> {
    /// What is wrong between the shards.
    async fn shards(&mut self) -> Result<(), Error> {
        let mut cursor = None;
        loop {
            let step = match self.queue.verify_shards(cursor.as_ref()).await {
                Err(Error::WrongType { .. }) => return Ok(()),
                step => step?,
            };
            self.looked_at += step.looked_at;
            step.found.iter().for_each(|found| self.note(found));
            cursor = step.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn all(&mut self) -> anyhow::Result<()> {
        for part in Part::ALL {
            match self.part(part).await {
                Ok(()) => {}
                // Named when the keys were looked at; what is in the others is looked at all the same.
                Err(Error::WrongType { .. }) => {}
                Err(cause) => return Err(cause.into()),
            }
        }
        Ok(())
    }

    async fn part(&mut self, part: Part) -> Result<(), Error> {
        let (mut cursor, mut orphans) = (None, Vec::new());
        loop {
            let step = self.queue.verify(part, cursor.as_ref(), self.repair).await?;
            self.looked_at += step.looked_at;
            self.bar.inc_length(step.looked_at);
            self.bar.inc(step.looked_at);
            for found in step.found {
                match found.flaw {
                    Flaw::PayloadOfNobody => orphans.push(found.subject),
                    _ => self.note(&found),
                }
            }
            cursor = step.next;
            if orphans.len() >= MAX_ORPHANS || (cursor.is_none() && !orphans.is_empty()) {
                self.orphans(std::mem::take(&mut orphans)).await?;
            }
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn orphans(&mut self, mut ids: Vec<Vec<u8>>) -> Result<(), Error> {
        ids.sort_unstable();
        ids.dedup();
        tokio::time::sleep(GRACE).await;
        for step in ids.chunks(MAX_IDS_PER_CALL) {
            for found in self.queue.verify_orphans(step, self.repair).await? {
                self.note(&found);
            }
        }
        Ok(())
    }

    fn note(&mut self, found: &Found) {
        let (count, examples) = self.tally.entry(found.flaw).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push(found.name());
        }
    }

    fn findings(self) -> Vec<Finding> {
        let finding = |(flaw, (count, examples)): (Flaw, (u64, Vec<String>))| Finding {
            queue: self.queue.name().clone(),
            finding: flaw,
            count,
            examples,
            consequence: flaw.consequence(),
            mend: flaw.mend(),
            repaired: self.repair && flaw.can_be_mended(),
        };
        self.tally.into_iter().map(finding).collect()
    }
}
