//! `overdue dead list|retry|delete`

use anyhow::bail;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    context::{Context, NotFound},
    list::{self, Paging},
};
use crate::{
    queue::{MAX_IDS_PER_CALL, Queue, Settled, Shown, State},
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
    },
    /// Schedule dead ids again: due now, with their payload and original deadline, and all attempts before them
    Retry(Which),
    /// Remove dead ids for good, payload included
    Delete(Which),
}

/// Which dead ids.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The queue
    queue: QueueName,
    #[command(flatten)]
    ids: IdsOrAll,
}

/// Exactly one of both.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct IdsOrAll {
    /// The ids
    ids: Vec<Id>,
    /// All dead ids of the queue
    #[arg(long)]
    all: bool,
}

/// What was done.
#[derive(Serialize)]
struct Done<'a> {
    queue: &'a QueueName,
    result: &'static str,
    count: usize,
    not_found: usize,
}

#[derive(Clone, Copy)]
enum Verb {
    Retry,
    Delete,
}

impl Verb {
    async fn apply(self, queue: &Queue, ids: &[Id]) -> crate::error::Result<usize> {
        let answers = match self {
            Self::Retry => queue.retry_dead(ids).await?,
            Self::Delete => queue.delete_dead(ids).await?,
        };
        Ok(answers.iter().filter(|answer| **answer == Settled::Done).count())
    }
}

impl Dead {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::List { queue, paging } => {
                list::print(context, &context.existing_queue(queue).await?, State::Dead, paging).await
            }
            Self::Retry(which) => which.run(context, Verb::Retry).await,
            Self::Delete(which) => which.run(context, Verb::Delete).await,
        }
    }
}

impl Which {
    async fn run(&self, context: &Context, verb: Verb) -> anyhow::Result<()> {
        let queue = context.existing_queue(&self.queue).await?;
        let ids = &self.ids.ids;
        let (count, unreadable) =
            if self.ids.all { all(&queue, verb).await? } else { (verb.apply(&queue, ids).await?, 0) };
        let not_found = ids.len().saturating_sub(count);
        let result = match verb {
            Verb::Retry => "retried",
            Verb::Delete => "deleted",
        };
        let done = Done { queue: &self.queue, result, count, not_found };
        context.output.one(&done, &format!("{count} {result}"))?;
        if not_found > 0 {
            return Err(NotFound(format!("{not_found} of {} ids are not dead", ids.len())).into());
        }
        if unreadable > 0 {
            bail!(
                "{unreadable} ids are outside the contract (1 to 256 bytes of UTF-8 without control characters) \
                 and stay; in {} remove them with ZREM from dead and with HDEL from attempts and payload",
                queue.key_pattern()
            );
        }
        Ok(())
    }
}

/// Every id that is dead now, page by page; answers how many, and how many cannot be named.
async fn all(queue: &Queue, verb: Verb) -> anyhow::Result<(usize, usize)> {
    let (mut count, mut unreadable) = (0, 0);
    let mut cursor = None;
    // Those buried again meanwhile stand at the end, so without this it could go on for ever.
    let begun_ms = queue.counts().await?.now.as_ms();
    loop {
        let mut page = queue.list(State::Dead, MAX_IDS_PER_CALL, cursor.as_ref()).await?;
        let buried_before = |row: &Shown| row.buried_at.is_none_or(|at| at.as_ms() <= begun_ms);
        if !page.rows.iter().all(buried_before) {
            page.rows.retain(buried_before);
            page.next = None;
        }
        let ids: Vec<Id> = page.rows.iter().filter_map(|row| row.valid_id.clone()).collect();
        unreadable += page.rows.len() - ids.len();
        count += verb.apply(queue, &ids).await?;
        cursor = page.next;
        if cursor.is_none() {
            return Ok((count, unreadable));
        }
    }
}
