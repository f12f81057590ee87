//! `overdue queue pause|resume|purge`

use anyhow::bail;
use clap::Subcommand;
use serde::Serialize;

use super::context::Context;
use crate::types::QueueName;

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
}

/// What was done.
#[derive(Serialize)]
struct Done<'a> {
    queue: &'a QueueName,
    result: &'static str,
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
        };
        context.output.one(&Done { queue, result }, &format!("{queue} {result}"))
    }
}
