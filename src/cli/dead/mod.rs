//! `overdue dead list|retry|delete`

mod bulk;
mod filter;

use anyhow::bail;
use bulk::{Bulk, past};
use clap::{ArgGroup, Args, Subcommand};
use filter::{Filter, Wanted};
use indicatif::ProgressBar;
use serde::Serialize;

use super::{
    context::{Context, NotFound},
    list::{self, Paging},
};
use crate::{
    queue::{DeadVerb, State},
    types::{Id, QueueName},
};

/// `overdue dead …`
#[derive(Debug, Subcommand)]
pub(super) enum Dead {
    /// List dead ids with the reason and the last error
    List {
        /// The queue
        queue: QueueName,
        #[command(flatten)]
        paging: Paging,
        #[command(flatten)]
        filter: Filter,
    },
    /// Schedule dead ids again: due now, with their payload and original deadline, and all attempts before them
    Retry(Which),
    /// Remove dead ids for good, payload included
    Delete(Which),
}

/// Which dead ids, and how carefully.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).multiple(true).args(["ids", "all", "reason", "older_than", "prefix"])))]
pub(super) struct Which {
    /// The queue
    queue: QueueName,
    /// The ids
    #[arg(conflicts_with_all = ["all", "reason", "older_than", "prefix"])]
    ids: Vec<Id>,
    /// All that are dead now; the default with a filter
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
    /// Change nothing, and tell how many it would be
    #[arg(long)]
    dry_run: bool,
    /// How many ids a second at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

/// What was done, or would be.
#[derive(Serialize)]
struct Report<'a> {
    queue: &'a QueueName,
    result: &'static str,
    count: usize,
    not_found: usize,
    dry_run: bool,
}

impl Dead {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::List { queue, paging, filter } => {
                let queue = context.existing_queue(queue).await?;
                let wanted = Wanted::new(filter, queue.redis().time().await?);
                let no_bar = ProgressBar::hidden();
                list::print(context, State::Dead, paging, async |limit, after| {
                    wanted.page(&queue, limit, after, &no_bar).await
                })
                .await
            }
            Self::Retry(which) => which.run(context, DeadVerb::Retry).await,
            Self::Delete(which) => which.run(context, DeadVerb::Delete).await,
        }
    }
}

impl Which {
    async fn run(&self, context: &Context, verb: DeadVerb) -> anyhow::Result<()> {
        let queue = context.existing_queue(&self.queue).await?;
        let mut bulk = Bulk::new(&queue, verb, self.rate, self.dry_run);
        if self.ids.is_empty() || self.dry_run {
            let wanted = Wanted::new(&self.filter, queue.redis().time().await?).among(&self.ids);
            bulk.matching(&wanted).await?;
        } else {
            bulk.these(&self.ids).await?;
        }

        let (result, count) = (past(verb), bulk.count);
        let not_found = self.ids.len().saturating_sub(count);
        let report = Report { queue: &self.queue, result, count, not_found, dry_run: self.dry_run };
        let would_be = if self.dry_run { "would be " } else { "" };
        context.output.one(&report, &format!("{count} {would_be}{result}"))?;
        if not_found > 0 {
            return Err(NotFound(format!("{not_found} of {} ids are not dead", self.ids.len())).into());
        }
        if bulk.unreadable > 0 {
            bail!(
                "{} ids are outside the contract (1 to 256 bytes of UTF-8 without control characters) \
                 and stay; in {} remove them with ZREM from dead and with HDEL from attempts and payload",
                bulk.unreadable,
                queue.key_pattern()
            );
        }
        Ok(())
    }
}
