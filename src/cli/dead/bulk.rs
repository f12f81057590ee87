//! Retrying and deleting, step by step: in constant memory, however many are dead.

use anyhow::Context as _;
use indicatif::ProgressBar;

use super::filter::Wanted;
use crate::{
    cli::{output::progress_bar, pace::Pace},
    error::Result,
    queue::{DeadVerb, Queue},
    types::Id,
};

/// As the report words it.
pub(super) fn past(verb: DeadVerb) -> &'static str {
    match verb {
        DeadVerb::Retry => "retried",
        DeadVerb::Delete => "deleted",
    }
}

/// A verb on many ids, and what has become of them so far.
pub(super) struct Bulk<'a> {
    queue: &'a Queue,
    verb: DeadVerb,
    pace: Pace,
    dry_run: bool,
    /// How many were done.
    pub(super) count: usize,
    /// How many cannot be named in a call: their ids are outside the contract.
    pub(super) unreadable: usize,
}

impl<'a> Bulk<'a> {
    pub(super) fn new(queue: &'a Queue, verb: DeadVerb, rate: Option<u32>, dry_run: bool) -> Self {
        // Looking needs no rate.
        let pace = Pace::new(rate.filter(|_| !dry_run));
        Self { queue, verb, pace, dry_run, count: 0, unreadable: 0 }
    }

    /// All that are wanted. Each step is looked up just before it is taken, so that a slow rate does not act on
    /// what was true long ago.
    pub(super) async fn matching(&mut self, wanted: &Wanted<'_>) -> anyhow::Result<()> {
        let bar = progress_bar();
        bar.set_length(self.queue.counts().await?.dead);
        let done = self.pages(wanted, &bar).await;
        bar.finish_and_clear();
        done.with_context(|| self.stopped())
    }

    async fn pages(&mut self, wanted: &Wanted<'_>, bar: &ProgressBar) -> Result<()> {
        let mut cursor = None;
        loop {
            let page = wanted.page(self.queue, self.pace.step_len(), cursor.as_ref(), bar).await?;
            let found = page.rows.len();
            let ids: Vec<Id> = page.rows.into_iter().filter_map(|row| row.valid_id).collect();
            self.unreadable += found - ids.len();
            self.step(&ids).await?;
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Exactly these.
    pub(super) async fn these(&mut self, ids: &[Id]) -> anyhow::Result<()> {
        for step in ids.chunks(self.pace.step_len()) {
            self.step(step).await.with_context(|| self.stopped())?;
        }
        Ok(())
    }

    async fn step(&mut self, ids: &[Id]) -> Result<()> {
        if self.dry_run {
            self.count += ids.len();
            return Ok(());
        }
        self.pace.wait_for(ids.len()).await;
        self.count += self.queue.apply_to_dead(self.verb, ids).await?;
        Ok(())
    }

    fn stopped(&self) -> String {
        format!("stopped with {} {}; running again is safe", self.count, past(self.verb))
    }
}
