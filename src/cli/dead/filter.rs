//! Which dead ids are meant.

use std::{collections::HashSet, time::Duration};

use clap::Args;
use indicatif::ProgressBar;

use crate::{
    duration,
    error::Result,
    queue::{Cursor, Page, Queue, Shown, State},
    types::{Id, ServerTime},
};

/// All that are given must hold.
#[derive(Debug, Args)]
pub(in crate::cli) struct Filter {
    /// Only with this reason, such as rejected, attempts_spent or impossible_score
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,
    /// Only those that have been dead for longer, such as 12h or 30d
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    older_than: Option<Duration>,
    /// Only ids that begin with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
}

/// A filter at an instant: what dies later is not meant, so that ids which fail again at once keep nobody busy
/// without end.
pub(super) struct Wanted<'a> {
    filter: &'a Filter,
    /// The latest burial, in ms.
    until_ms: i64,
    /// Only these; all if empty.
    among: HashSet<&'a str>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(filter: &'a Filter, now: ServerTime) -> Self {
        let age_ms = filter.older_than.map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        Self { filter, until_ms: now.as_ms().saturating_sub(age_ms), among: HashSet::new() }
    }

    /// Only those of these ids, unless there are none.
    pub(super) fn among(self, ids: &'a [Id]) -> Self {
        Self { among: ids.iter().map(Id::as_str).collect(), ..self }
    }

    /// Looks at up to 1000 dead ids and gives those that are wanted, at most `limit`; `bar` counts all of them.
    pub(super) async fn page(
        &self,
        queue: &Queue,
        limit: usize,
        after: Option<&Cursor>,
        bar: &ProgressBar,
    ) -> Result<Page> {
        let mut too_young = false;
        let keep = |row: &Shown| {
            bar.inc(1);
            too_young = row.buried_at.is_some_and(|at| at.as_ms() > self.until_ms);
            !too_young && self.matches(row)
        };
        let page = queue.list_where(State::Dead, limit, after, keep).await?;
        // They come in the order of burial, so behind one that is too young all are.
        Ok(Page { next: page.next.filter(|_| !too_young), ..page })
    }

    fn matches(&self, row: &Shown) -> bool {
        let Filter { reason, prefix, .. } = self.filter;
        reason.as_ref().is_none_or(|reason| row.reason.as_ref() == Some(reason))
            && prefix.as_ref().is_none_or(|prefix| row.id.starts_with(prefix))
            && (self.among.is_empty() || self.among.contains(row.id.as_str()))
    }
}
