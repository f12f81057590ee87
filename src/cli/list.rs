//! `overdue list`

use clap::Args;

use super::{
    context::Context,
    output::{Format, Row, or_dash},
};
use crate::{
    error::Result,
    queue::{Cursor, Page, Shown, State},
    types::QueueName,
};

/// `overdue list`
#[derive(Debug, Args)]
pub(super) struct List {
    /// The queue
    queue: QueueName,
    #[command(flatten)]
    paging: Paging,
    /// Which ids
    #[arg(long, value_enum, default_value_t = State::Scheduled)]
    state: State,
}

/// How much of a long list to print.
#[derive(Debug, Args)]
pub(super) struct Paging {
    /// How many ids to print at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: u32,
    /// Continue where an earlier page ended
    #[arg(long)]
    pub(super) cursor: Option<Cursor>,
}

impl Row for Shown {
    const COLUMNS: &'static [&'static str] = &["id", "state", "due_at", "attempt", "note"];

    fn cells(&self) -> Vec<String> {
        let note = if let (Some(reason), Some(error)) = (&self.reason, &self.error) {
            format!("{reason}: {error}")
        } else if let Some(lease) = self.lease {
            format!("leased until {}", or_dash(lease.expires_at))
        } else if let Some(at) = self.next_attempt_at {
            format!("next attempt {at}: {}", or_dash(self.error.as_ref()))
        } else {
            String::new()
        };
        vec![self.id.clone(), self.state.to_string(), or_dash(self.due_at), self.attempt.to_string(), note]
    }
}

impl List {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let queue = context.existing_queue(&self.queue).await?;
        print(context, self.state, &self.paging, async |limit, after| {
            queue.list(self.state, limit, after).await
        })
        .await
    }
}

/// Prints the ids that `fetch` gives, page by page; says on stderr how to go on if there are more.
pub(super) async fn print(
    context: &Context,
    state: State,
    paging: &Paging,
    fetch: impl AsyncFn(usize, Option<&Cursor>) -> Result<Page>,
) -> anyhow::Result<()> {
    let mut cursor = paging.cursor.clone();
    let mut rows = Vec::new();
    let limit = paging.limit as usize;
    while rows.len() < limit {
        let page = fetch(limit - rows.len(), cursor.as_ref()).await?;
        rows.extend(page.rows);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if rows.is_empty() && context.output.format == Format::Table {
        eprintln!("no such {state} ids");
        return Ok(());
    }
    context.output.rows(&rows)?;
    if let Some(cursor) = cursor {
        eprintln!("more follow: --cursor {cursor}");
    }
    Ok(())
}
