//! Retrying and deleting, step by step: in constant memory, however many are dead.

use std::time::Duration;

use anyhow::Context as _;
use indicatif::ProgressBar;
use tokio::time::{Instant, sleep_until};

use super::filter::Wanted;
use crate::{
    cli::output::progress_bar,
    error::Result,
    queue::{MAX_IDS_PER_CALL, Queue, Settled},
    types::Id,
};

/// With a rate, the steps that a second is cut into.
const STEPS_PER_SECOND: u32 = 10;

/// What to do with dead ids.
#[derive(Clone, Copy)]
pub(super) enum Verb {
    Retry,
    Delete,
}

impl Verb {
    /// As the report words it.
    pub(super) fn past(self) -> &'static str {
        match self {
            Self::Retry => "retried",
            Self::Delete => "deleted",
        }
    }

    async fn apply(self, queue: &Queue, ids: &[Id]) -> Result<usize> {
        let answers = match self {
            Self::Retry => queue.retry_dead(ids).await?,
            Self::Delete => queue.delete_dead(ids).await?,
        };
        Ok(answers.iter().filter(|answer| **answer == Settled::Done).count())
    }
}

/// A verb on many ids, and what has become of them so far.
pub(super) struct Bulk<'a> {
    queue: &'a Queue,
    verb: Verb,
    rate: Option<u32>,
    dry_run: bool,
    begun: Instant,
    /// How many were taken on, done or not.
    taken: usize,
    /// How many were done.
    pub(super) count: usize,
    /// How many cannot be named in a call: their ids are outside the contract.
    pub(super) unreadable: usize,
}

impl<'a> Bulk<'a> {
    pub(super) fn new(queue: &'a Queue, verb: Verb, rate: Option<u32>, dry_run: bool) -> Self {
        Self { queue, verb, rate, dry_run, begun: Instant::now(), taken: 0, count: 0, unreadable: 0 }
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
            let page = wanted.page(self.queue, self.step_len(), cursor.as_ref(), bar).await?;
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
        for step in ids.chunks(self.step_len()) {
            self.step(step).await.with_context(|| self.stopped())?;
        }
        Ok(())
    }

    async fn step(&mut self, ids: &[Id]) -> Result<()> {
        if self.dry_run {
            self.count += ids.len();
            return Ok(());
        }
        if let Some(rate) = self.rate {
            sleep_until(self.begun + Duration::from_secs(1).mul_f64(self.taken as f64 / f64::from(rate)))
                .await;
        }
        self.taken += ids.len();
        self.count += self.verb.apply(self.queue, ids).await?;
        Ok(())
    }

    fn step_len(&self) -> usize {
        let in_a_step = |rate: u32| usize::try_from(rate / STEPS_PER_SECOND).unwrap_or(usize::MAX);
        self.rate.filter(|_| !self.dry_run).map_or(MAX_IDS_PER_CALL, in_a_step).clamp(1, MAX_IDS_PER_CALL)
    }

    fn stopped(&self) -> String {
        format!("stopped with {} {}; running again is safe", self.count, self.verb.past())
    }
}
