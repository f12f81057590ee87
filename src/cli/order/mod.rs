//! `overdue order …`: one file for those that create, one for those that change, one for those that look.

mod change;
mod create;
#[cfg(test)]
mod fuzz;
mod look;

use clap::{Args, Subcommand};

use super::{
    context::{Context, NotFound},
    output::{Row, block, or_dash},
};
use crate::{
    config::OrderConfig,
    error::Invalid,
    order::{Fields, Order, Orders},
    types::{Id, QueueName},
};

/// `overdue order …`
#[derive(Debug, Subcommand)]
pub(super) enum OrderCommand {
    /// Create an order, or many from a file; creating one twice is creating it once
    Create(create::Create),
    /// Accept an order, or many from a file, that `serve` creates a moment later
    Submit(create::Submit),
    /// Show an order
    Get(look::Get),
    /// Pay an order, unless it has expired or was cancelled
    Pay(change::Pay),
    /// Cancel an order, unless it has expired or was paid
    Cancel(change::Cancel),
    /// Move the deadline of an order that is not paid yet
    Extend(change::Extend),
    /// List the orders with a status
    List(look::List),
    /// Follow what happens to orders
    Watch(look::Watch),
}

impl OrderCommand {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::Create(command) => command.run(context).await,
            Self::Submit(command) => command.run(context).await,
            Self::Get(command) => command.run(context).await,
            Self::Pay(command) => command.run(context).await,
            Self::Cancel(command) => command.run(context).await,
            Self::Extend(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
            Self::Watch(command) => command.run(context).await,
        }
    }
}

/// Which queue the orders are of.
#[derive(Debug, Args)]
struct InQueue {
    /// The queue of the orders
    #[arg(long, value_name = "QUEUE", default_value = "orders")]
    queue: QueueName,
}

impl InQueue {
    async fn orders(&self, context: &Context) -> anyhow::Result<Orders> {
        context.check_orders(&self.queue, "set `type = \"order\"`")?;
        Ok(Orders::with(context.queue(&self.queue).await?, &self.config(context)))
    }

    fn config(&self, context: &Context) -> OrderConfig {
        context.config.queues.get(&self.queue).map(|queue| queue.order.clone()).unwrap_or_default()
    }
}

/// One order.
#[derive(Debug, Args)]
struct OneOrder {
    /// The id of the order
    id: Id,
    #[command(flatten)]
    queue: InQueue,
}

impl OneOrder {
    fn not_found(&self) -> anyhow::Error {
        let queue = &self.queue.queue;
        NotFound(format!("no order `{}` in queue `{queue}`: never created, or no longer kept", self.id))
            .into()
    }

    fn not_an_order(&self) -> anyhow::Error {
        anyhow::anyhow!(
            "the key of order `{}` holds something else than an order: look at it, and remove it",
            self.id
        )
    }
}

/// What the caller keeps with an order.
#[derive(Debug, Args)]
struct FieldArguments {
    /// A field of the order, such as amount=100.00; repeat it for more
    #[arg(long = "field", value_name = "NAME=VALUE", value_parser = field)]
    fields: Vec<(String, String)>,
}

impl FieldArguments {
    fn fields(&self) -> Result<Fields, Invalid> {
        Fields::new(self.fields.iter().cloned())
    }
}

fn field(text: &str) -> Result<(String, String), Invalid> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| Invalid::new("field", text, "is no NAME=VALUE, such as amount=100.00"))?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Row for Order {
    const COLUMNS: &'static [&'static str] = &["id", "status", "due_at", "settled_at", "fields"];

    fn cells(&self) -> Vec<String> {
        let fields: Vec<String> = self.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let settled_at = or_dash(self.settled_at());
        vec![self.id.to_string(), self.status.to_string(), or_dash(self.due_at), settled_at, fields.join(" ")]
    }
}

fn for_people(order: &Order) -> String {
    let mut pairs = vec![
        ("id", order.id.to_string()),
        ("queue", order.queue.to_string()),
        ("status", order.status.to_string()),
        ("created_at", or_dash(order.created_at)),
        ("due_at", or_dash(order.due_at)),
    ];
    for (name, at) in
        [("paid_at", order.paid_at), ("cancelled_at", order.cancelled_at), ("expired_at", order.expired_at)]
    {
        pairs.extend(at.map(|at| (name, at.to_string())));
    }
    pairs.extend(order.fields.iter().map(|(name, value)| (name, value.to_owned())));
    block(&pairs)
}
