//! `overdue order pay`, `cancel` and `extend`

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::{FieldArguments, OneOrder};
use crate::{
    cli::{context::Context, durable::Durable, output::or_dash},
    duration,
    order::{Extended, Extension, Order, Verdict},
    queue::Due,
    types::DueAt,
};

/// An order and what happened to it.
#[derive(Serialize)]
struct Answer<'a> {
    result: &'static str,
    #[serde(flatten)]
    order: &'a Order,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_due_at: Option<DueAt>,
}

/// `overdue order pay`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Whoever comes first decides, this or the expiry: an order whose deadline has passed can be paid until it has expired.
Exit code 0 if the order is paid, by this call or an earlier one, and 1 if it has expired or was cancelled.

--field adds to the order, such as the reference of the payment. If the order has such a field already, as the amount,
it must be the same: else nothing is changed, and the exit code is 1.")]
pub(in crate::cli) struct Pay {
    #[command(flatten)]
    order: OneOrder,
    #[command(flatten)]
    fields: FieldArguments,
    #[command(flatten)]
    durable: Durable,
}

impl Pay {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let details = self.fields.fields()?;
        let orders = self.order.queue.orders(context).await?.durable_at(self.durable.durability);
        let verdict = orders.pay(&self.order.id, &details).await?;
        report(context, &self.order, verdict, ["paid", "already_paid"])
    }
}

/// `overdue order cancel`
#[derive(Debug, Args)]
pub(in crate::cli) struct Cancel {
    #[command(flatten)]
    order: OneOrder,
    #[command(flatten)]
    fields: FieldArguments,
    #[command(flatten)]
    durable: Durable,
}

impl Cancel {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let details = self.fields.fields()?;
        let orders = self.order.queue.orders(context).await?.durable_at(self.durable.durability);
        let verdict = orders.cancel(&self.order.id, &details).await?;
        report(context, &self.order, verdict, ["cancelled", "already_cancelled"])
    }
}

fn report(
    context: &Context,
    one: &OneOrder,
    verdict: Verdict,
    words: [&'static str; 2],
) -> anyhow::Result<()> {
    let (result, order) = match verdict {
        Verdict::Done(order) => (words[0], order),
        Verdict::Already(order) => (words[1], order),
        Verdict::TooLate(order) => return Err(too_late(&order)),
        Verdict::Conflict { order, field } => {
            let held = or_dash(order.fields.get(&field));
            bail!("conflict: order `{}` has {field}={held}; nothing was changed", one.id)
        }
        Verdict::NotFound => return Err(one.not_found()),
        Verdict::NotAnOrder => return Err(one.not_an_order()),
    };
    let text = format!("order {} {} at {}", order.id, result.replace('_', " "), or_dash(order.settled_at()));
    context.output.one(&Answer { result, order: &order, previous_due_at: None }, &text)
}

fn too_late(order: &Order) -> anyhow::Error {
    anyhow::anyhow!("too late: order `{}` {} at {}", order.id, was(order), or_dash(order.settled_at()))
}

fn was(order: &Order) -> String {
    match order.status {
        crate::order::Status::Expired => "expired".to_owned(),
        status => format!("was {status}"),
    }
}

/// `overdue order extend`
#[derive(Debug, Args)]
pub(in crate::cli) struct Extend {
    #[command(flatten)]
    order: OneOrder,
    #[command(flatten)]
    to: To,
    #[command(flatten)]
    durable: Durable,
}

/// To when: exactly one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct To {
    /// By this time beyond the deadline that it has
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    by: Option<Duration>,
    /// To this time from now, by the clock of Redis
    #[arg(long = "in", value_name = "DURATION", value_parser = duration::parse)]
    delay: Option<Duration>,
    /// To this time: RFC 3339 with a zone, such as 2026-01-01T14:30:00Z
    #[arg(long, value_name = "TIME")]
    at: Option<DueAt>,
}

impl To {
    fn extension(&self) -> Extension {
        match (self.by, self.delay, self.at) {
            (Some(by), _, _) => Extension::By(by),
            (None, Some(delay), _) => Extension::To(Due::In(delay)),
            (None, None, Some(at)) => Extension::To(Due::At(at)),
            (None, None, None) => unreachable!("clap demands one of the group"),
        }
    }
}

impl Extend {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let orders = self.order.queue.orders(context).await?.durable_at(self.durable.durability);
        match orders.extend(&self.order.id, self.to.extension()).await? {
            Extended::Moved { order, old } => {
                let (due_at, was) = (or_dash(order.due_at), or_dash(old));
                let text = format!("order {} extended, due {due_at} (was {was})", order.id);
                let answer = Answer { result: "extended", order: &order, previous_due_at: old };
                context.output.one(&answer, &text)
            }
            Extended::TooLate(order) => Err(too_late(&order)),
            Extended::NotFound => Err(self.order.not_found()),
            Extended::NotAnOrder => Err(self.order.not_an_order()),
        }
    }
}
