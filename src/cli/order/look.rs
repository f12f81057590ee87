//! `overdue order get`, `list` and `watch`

use std::time::Duration;

use clap::Args;

use super::{InQueue, OneOrder, for_people};
use crate::{
    cli::{
        context::Context,
        list::Paging,
        output::{Format, line, or_dash},
    },
    error::{Error, Invalid},
    order::{Event, Status, is_event_id},
};

/// How often `watch` asks for what is new.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
/// How long it waits when Redis is away.
const PAUSE_WHEN_AWAY: Duration = Duration::from_secs(1);
/// How many events it takes at a time.
const EVENTS: usize = 1000;

/// `overdue order get`
#[derive(Debug, Args)]
pub(in crate::cli) struct Get {
    #[command(flatten)]
    order: OneOrder,
}

impl Get {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let orders = self.order.queue.orders(context).await?;
        let order = orders.get(&self.order.id).await?.ok_or_else(|| self.order.not_found())?;
        context.output.one(&order, &for_people(&order))
    }
}

/// `overdue order list`
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// Which orders: created ones come in the order of their deadlines, others in that in which they came to their end
    #[arg(long, value_enum, default_value_t = Status::Created)]
    status: Status,
    #[command(flatten)]
    queue: InQueue,
    #[command(flatten)]
    paging: Paging,
}

impl List {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let orders = self.queue.orders(context).await?;
        let (mut rows, mut cursor) = (Vec::new(), self.paging.cursor.clone());
        let limit = self.paging.limit as usize;
        while rows.len() < limit {
            let page = orders.list(self.status, limit - rows.len(), cursor.as_ref()).await?;
            rows.extend(page.orders);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        if rows.is_empty() && context.output.format == Format::Table {
            eprintln!("no {} orders", self.status);
            return Ok(());
        }
        context.output.rows(&rows)?;
        if let Some(cursor) = cursor {
            eprintln!("more follow: --cursor {cursor}");
        }
        Ok(())
    }
}

/// `overdue order watch`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Prints what happens from now on, a line each, until it is stopped. For a program that must miss nothing, read the
stream `overdue:{orders}:events` with a consumer group: it remembers where you are.")]
pub(in crate::cli) struct Watch {
    #[command(flatten)]
    queue: InQueue,
    /// Only what comes to this status; repeat it for more
    #[arg(long, value_enum)]
    status: Vec<Status>,
    /// Continue behind this event; 0 begins with the oldest that is kept
    #[arg(long, value_name = "EVENT_ID", value_parser = event_id)]
    after: Option<String>,
    /// Stop when there is nothing more
    #[arg(long, requires = "after")]
    until_now: bool,
}

impl Watch {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let orders = self.queue.orders(context).await?;
        let mut after = match &self.after {
            Some(after) => Some(after.clone()),
            None => Some(orders.last_event().await?.unwrap_or_else(|| "0".to_owned())),
        };
        let mut is_away = false;
        loop {
            let page = match orders.events(after.as_deref(), EVENTS).await {
                Ok(page) => page,
                // A follower outlives a restart of Redis.
                Err(cause @ Error::Redis(_)) if !self.until_now => {
                    if !is_away {
                        eprintln!("overdue: {cause}; trying again");
                    }
                    is_away = true;
                    tokio::time::sleep(PAUSE_WHEN_AWAY).await;
                    continue;
                }
                Err(cause) => return Err(cause.into()),
            };
            is_away = false;
            for event in &page.events {
                if self.status.is_empty() || self.status.contains(&event.r#type) {
                    print(context, event)?;
                }
            }
            after = page.last.or(after);
            if !page.more {
                if self.until_now {
                    return Ok(());
                }
                tokio::time::sleep(WATCH_INTERVAL).await;
            }
        }
    }
}

fn event_id(text: &str) -> Result<String, Invalid> {
    if is_event_id(text) {
        return Ok(text.to_owned());
    }
    Err(Invalid::new("event id", text, "is none: pass on an `event_id`, or 0 for the oldest"))
}

fn print(context: &Context, event: &Event) -> anyhow::Result<()> {
    match context.output.format {
        Format::Table => line(&format!("{} {:9} {}", or_dash(event.at), event.r#type, event.id)),
        Format::Json | Format::Ndjson => line(&serde_json::to_string(event)?),
    }
}
