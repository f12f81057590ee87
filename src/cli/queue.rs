//! `overdue queue pause|resume|purge|reshard`

use anyhow::bail;
use clap::Subcommand;
use serde::Serialize;

use super::{context::Context, output::progress_bar};
use crate::{
    error::Invalid,
    queue::{Resharded, Resharding, Shards},
    types::QueueName,
};

/// `overdue queue …`
#[derive(Debug, Subcommand)]
pub(super) enum QueueCommand {
    /// Stop claiming in all processes of a queue; what is in flight goes on, and registering too
    Pause {
        /// The queue, which need not have any id yet
        queue: QueueName,
    },
    /// Let a paused queue go on: what fell due meanwhile is claimed at once
    Resume {
        /// The queue
        queue: QueueName,
    },
    /// Remove every id of a queue in every state, payloads and dead ids included; whether it is paused stays, what a
    /// sink fired, and so do orders, which then never expire
    Purge {
        /// The queue
        queue: QueueName,
        /// Really do it
        #[arg(long)]
        yes: bool,
    },
    /// Spread a queue over this many shards while it is in use: each has a slot of its own in a Redis cluster
    #[command(after_long_help = RESHARD_HELP)]
    Reshard {
        /// The queue, which need not have any id yet
        queue: QueueName,
        /// How many shards; 1 puts it back into one slot
        #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(Shards::MAX)))]
        shards: u16,
    },
}

const RESHARD_HELP: &str = "\
Everything goes on meanwhile: registering, cancelling, claiming. Ids that are leased or due within ten seconds fire where
they are; the others are taken to their new shards, up to 1000 at a time. It can be broken off and begun again, and a second
one takes over from the first.

All schedulers of the queue must know shards, and all who use Redis with plain commands must write where they find an id,
or to any shard that stays. Where shards are given up, stop plain commands to those first; what was left in one is taken home
by the next reshard, also with the number that there is. Queues of orders cannot be spread.";

/// What was done.
#[derive(Serialize)]
struct Done<'a> {
    queue: &'a QueueName,
    result: &'static str,
}

/// What a `reshard` did.
#[derive(Serialize)]
struct Spread<'a> {
    queue: &'a QueueName,
    result: &'static str,
    /// How many there were.
    before: u16,
    shards: u16,
    moved: u64,
    stayed: u64,
}

async fn reshard(context: &Context, name: &QueueName, shards: u16) -> anyhow::Result<()> {
    if context.is_of_orders(name) || name.as_companion().is_some() {
        let why = "is one of orders, which cannot be spread: all that happens to them is in one place";
        return Err(Invalid::new("queue", name, why).into());
    }
    let queue = context.queue(name).await?;
    context.warn_if_not_served(name);
    let bar = progress_bar();
    let note = |progress| match progress {
        Resharding::Waiting { shard } => {
            bar.set_message(format!("waiting until schedulers poll shard {shard}"));
        }
        Resharding::Moving { moved, staying } => {
            bar.set_length(moved + staying);
            bar.set_position(moved);
            bar.set_message(format!("{staying} stay for now"));
        }
    };
    let done = queue.reshard(shards, note).await;
    bar.finish_and_clear();
    let Resharded { before, shards, moved, stayed } = done?;
    let (before, shards) = (before.homes(), shards.homes());
    let done = Spread { queue: name, result: "resharded", before, shards, moved, stayed };
    let text = format!(
        "{name} has {shards} shards, and had {before}: {moved} ids moved, {stayed} fire where they are"
    );
    context.output.one(&done, &text)
}

impl QueueCommand {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let (queue, result) = match self {
            Self::Pause { queue } => {
                let changed = context.queue(queue).await?.pause(true).await?;
                (queue, if changed { "paused" } else { "was paused already" })
            }
            Self::Resume { queue } => {
                let changed = context.existing_queue(queue).await?.pause(false).await?;
                (queue, if changed { "resumed" } else { "was not paused" })
            }
            Self::Purge { queue, yes } => {
                let target = context.existing_queue(queue).await?;
                context.warn_if_of_orders(queue);
                if !yes {
                    let counts = target.counts().await?;
                    bail!(
                        "this would remove {} scheduled, {} leased and {} dead ids for good; repeat it with --yes",
                        counts.scheduled,
                        counts.leased,
                        counts.dead
                    );
                }
                target.purge().await?;
                (queue, "purged")
            }
            Self::Reshard { queue, shards } => return reshard(context, queue, *shards).await,
        };
        context.output.one(&Done { queue, result }, &format!("{queue} {result}"))
    }
}
