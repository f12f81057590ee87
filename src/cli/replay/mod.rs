//! `overdue replay`: what a timeout would have done to the orders of the past, played through the engine's
//! own scripts, in virtual time or compressed real time.

#[cfg(test)]
mod fuzz;
mod orders;
mod real_time;
mod report;
mod scratch;
mod tally;
mod timeline;
mod virtual_time;

use std::{fs::File, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::ProgressBar;
use orders::{ColumnNames, Order, OrdersFile};
use report::Report;
use scratch::Scratch;
use tally::Tally;

use super::{context::Context, interrupt::unless_interrupted, output::progress_bar};
use crate::{duration, error::Invalid, queue::Queue};

/// `overdue replay`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Every order is registered at its creation, cancelled at its payment, and fired at its deadline if it was not
paid by then; a payment at the very deadline is in time. Times without a zone are taken as UTC, and an empty
payment means never paid.

It runs on the configured Redis, or the private one of a running `overdue serve`, under keys of its own that
are removed at the end; without either it starts a server just for this.")]
pub(super) struct Replay {
    /// The orders: a CSV file with a header line
    file: PathBuf,
    /// How long an order may stay unpaid, such as 30m or 24h
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    columns: ColumnNames,
    /// Write the expired orders to this CSV file, as id,due_at in the order they fired
    #[arg(long, value_name = "FILE")]
    expired_out: Option<PathBuf>,
    /// Run in real time, this many times faster than it happened, and report how late deadlines fired
    ///
    /// The figures then are those of a running scheduler. They stay true as long as the timeout, divided by
    /// this, is many milliseconds.
    #[arg(long, value_name = "FACTOR", value_parser = factor)]
    speed: Option<f64>,
}

fn factor(text: &str) -> Result<f64, Invalid> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(factor),
        _ => Err(Invalid::new("speed", text, "is no factor: write a number above 0, such as 1000")),
    }
}

impl Replay {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let file = OrdersFile::read(&self.file, &self.columns, self.timeout)?;
        // Created before the replay, so that a path that cannot be written costs no waiting.
        let expired_out = self
            .expired_out
            .as_ref()
            .map(|path| File::create(path).with_context(|| format!("cannot write {}", path.display())));
        let expired_out = expired_out.transpose()?;

        let tally = self.play(context, &file.orders).await?;
        tally.check(file.orders.len())?;
        if let (Some(path), Some(out)) = (&self.expired_out, expired_out) {
            let written = report::write_expired(out, &tally.expired, &file.orders);
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
        let report = Report::new(&file, tally, self.timeout, self.speed.is_some());
        context.output.one(&report, &report.for_people())?;
        if file.unreadable > 0 {
            bail!("{} of {} rows could not be read", file.unreadable, file.unreadable + file.orders.len());
        }
        Ok(())
    }

    /// Plays all orders in a scratch namespace, which is removed however that ends.
    async fn play(&self, context: &Context, orders: &[Order]) -> anyhow::Result<Tally> {
        let scratch = Scratch::open(context).await?;
        let bar = progress_bar();
        let played = self.play_on(scratch.queue(), orders, &bar).await;
        bar.finish_and_clear();
        scratch.remove().await;
        played
    }

    async fn play_on(&self, queue: &Queue, orders: &[Order], bar: &ProgressBar) -> anyhow::Result<Tally> {
        match self.speed {
            Some(speed) => real_time::play(queue, orders, speed, bar).await,
            None => unless_interrupted(virtual_time::play(queue, orders, bar)).await,
        }
    }
}
