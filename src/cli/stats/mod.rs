//! `overdue stats`: once, again and again, or as a live view.
//!
//! - this file: the command, and its tables
//! - `live`: the loop of the live view: looks, keys, and what they ask for
//! - `screen`: what it shows and what keys do, without a terminal
//! - `draw`: how that looks

mod draw;
mod live;
mod screen;

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{
    context::Context,
    output::{Format, Row, is_terminal, or_dash},
};
use crate::{
    duration,
    queue::{Counts, Queue},
    types::{DueAt, QueueName},
};

/// Looking more often would be a load without being seen.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// `overdue stats`
#[derive(Debug, Args)]
pub(super) struct Stats {
    /// The queues [default: those of the configuration]
    queues: Vec<QueueName>,
    /// Look again every --interval until Ctrl-C: on a terminal a live view with keys (press ? in it), else tables
    #[arg(long)]
    watch: bool,
    /// How often to look
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    interval: Duration,
}

/// One queue at one instant.
#[derive(Serialize)]
struct QueueStats {
    queue: QueueName,
    scheduled: u64,
    due: u64,
    leased: u64,
    dead: u64,
    lost_leases: u64,
    impossible: u64,
    next_due_at: Option<DueAt>,
    /// How long ago the oldest deadline that was not claimed yet passed.
    overdue_ms: u64,
    paused: bool,
    /// Over how many shards it is spread; left out of a queue of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    shards: Option<u16>,
    /// Left out where no `reshard` is under way.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    resharding: bool,
}

impl QueueStats {
    fn new(queue: &Queue, counts: &Counts) -> Self {
        let Counts { scheduled, due, leased, dead, lost_leases, impossible, next_due_at, paused, .. } =
            *counts;
        let overdue_ms = counts.overdue().as_millis() as u64;
        let shards = queue.shards();
        Self {
            queue: queue.name().clone(),
            scheduled,
            due,
            leased,
            dead,
            lost_leases,
            impossible,
            next_due_at,
            overdue_ms,
            paused,
            shards: (shards.homes() > 1).then(|| shards.homes()),
            resharding: shards.is_moving(),
        }
    }
}

impl QueueStats {
    fn note(&self) -> String {
        let paused = self.paused.then(|| "paused".to_owned());
        let shards = self.shards.map(|shards| format!("{shards} shards"));
        let resharding = self.resharding.then(|| "resharding".to_owned());
        [paused, shards, resharding].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl Row for QueueStats {
    const COLUMNS: &'static [&'static str] =
        &["queue", "scheduled", "due", "leased", "dead", "next_due_at", "overdue_for", "note"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.queue.to_string(),
            self.scheduled.to_string(),
            self.due.to_string(),
            self.leased.to_string(),
            self.dead.to_string(),
            or_dash(self.next_due_at),
            duration::format(Duration::from_millis(self.overdue_ms)),
            self.note(),
        ]
    }
}

impl Stats {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let names = if self.queues.is_empty() {
            context.config.queues.iter().flat_map(|(name, queue)| queue.handler.queues(name)).collect()
        } else {
            self.queues.clone()
        };
        let mut queues = Vec::new();
        for name in &names {
            // A queue that was asked for by name must exist; a configured one may be empty.
            let asked = !self.queues.is_empty();
            queues.push(if asked {
                context.existing_queue(name).await?
            } else {
                context.queue(name).await?
            });
        }
        let interval = self.interval.max(SHORTEST_INTERVAL);
        if self.watch && is_terminal() && context.output.format() == Format::Table {
            return live::run(queues, interval).await;
        }
        loop {
            print(context, &queues).await?;
            if !self.watch {
                return Ok(());
            }
            tokio::time::sleep(interval).await;
        }
    }
}

async fn print(context: &Context, queues: &[Queue]) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for queue in queues {
        rows.push(QueueStats::new(queue, &queue.counts().await?));
    }
    context.output.rows(&rows)
}
