//! `overdue adopt`

#[cfg(test)]
mod fuzz;
mod pattern;
mod report;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::ProgressBar;
use pattern::{IdFrom, Pattern};
use report::Report;

use super::{context::Context, output::progress_bar, pace::Pace};
use crate::{
    config::HandlerConfig,
    error::Invalid,
    lock::LockKey,
    order::{Orders, Renames},
    queue::{Candidate, Queue, Takeover},
    redis::ScanCursor,
    types::QueueName,
};

/// `overdue adopt`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Takes the keys of the database that `redis.url` names. Each key is one atomic step: its TTL becomes a deadline and is
removed. So it either expires in the old way or has a deadline, however often this is interrupted and run again; and
until it is done, whoever listens to the old expiry must go on listening. Keys without a TTL are left alone.

Without --in-place each hash becomes an order, with all that was written to it before. The hash stays where it was,
without its TTL: remove it when nobody reads it any more. What is written to it afterwards does not reach the order,
so let the writers use orders by then; running this again with the same options names
the hashes that were changed since. With --keep-ttl the order follows renewed TTLs, but not changed fields.

If an application gives a key a TTL again, running this again takes it over again; the later deadline holds.

With --keep-ttl a key still expires in the old way as well, for a trial beside the old system. It may then be gone
before the handler runs, and every expiry is told twice, once by each system.")]
pub(super) struct Adopt {
    /// Which keys, as a glob of Redis: 'order:*'
    #[arg(value_name = "PATTERN")]
    glob: String,
    /// The queue that the deadlines go to
    #[arg(long)]
    queue: QueueName,
    /// Leave each key where it is, of whatever type; its handler gets the id, and has to delete the key. Without this
    /// hashes become orders
    #[arg(long)]
    in_place: bool,
    /// What the id of a deadline is [default: match, but key with --in-place]
    #[arg(long, value_enum)]
    id_from: Option<IdFrom>,
    /// What a field of a hash is called in its order; may be given several times
    #[arg(long, value_name = "FIELD=NAME", value_parser = rename, conflicts_with = "in_place")]
    rename: Vec<(String, String)>,
    /// A field of a hash that its order does not get; may be given several times
    #[arg(long, value_name = "FIELD", conflicts_with = "in_place")]
    drop: Vec<String>,
    /// Leave the TTL on the keys, for a trial beside the old system
    #[arg(long)]
    keep_ttl: bool,
    /// Change nothing, and tell what would be done
    #[arg(long)]
    dry_run: bool,
    /// How many keys a second at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

impl Adopt {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let default = if self.in_place { IdFrom::Key } else { IdFrom::Match };
        let pattern = Pattern::new(&self.glob, self.id_from.unwrap_or(default))?;
        self.check_queue(context)?;
        let queue = context.queue(&self.queue).await?;
        if self.in_place {
            context.warn_if_not_served(&self.queue);
        }
        if self.keep_ttl && !self.dry_run {
            eprintln!("note: the keys keep their TTL: one may be gone when its handler runs");
        }
        let mut adoption = Adoption {
            queue: &queue,
            prefix: &context.config.redis.prefix,
            orders: (!self.in_place).then(|| Orders::new(queue.clone())),
            renames: self.renames(),
            pattern,
            takeover: self.takeover(),
            // Looking needs no rate.
            pace: Pace::new(self.rate.filter(|_| !self.dry_run)),
            report: Report::new(&self.queue, self.dry_run),
        };
        let bar = progress_bar();
        let done = adoption.run(&bar).await;
        bar.finish_and_clear();
        let report = adoption.report;
        done.with_context(|| format!("stopped with {} adopted; running it again is safe", report.adopted))?;
        context.output.one(&report, &report.for_people())?;
        if report.failed > 0 {
            bail!("{} of {} keys cannot be adopted; they are as they were", report.failed, report.scanned);
        }
        Ok(())
    }

    /// An order expires by the handler `order` and by no other; and what is no order would end in the dead set there.
    fn check_queue(&self, context: &Context) -> Result<(), Invalid> {
        if !self.in_place {
            return context.check_orders(&self.queue, "pass --in-place, or name another queue");
        }
        let configured = context.config.queues.get(&self.queue).map(|queue| &queue.handler);
        let why = match configured {
            Some(HandlerConfig::Order { .. }) => {
                "has the handler `order`: leave out --in-place, or name another queue"
            }
            _ if self.queue.as_companion().is_some() => {
                "is a companion of a queue of orders; name another one"
            }
            _ => return Ok(()),
        };
        Err(Invalid::new("queue", &self.queue, why))
    }

    fn renames(&self) -> Renames {
        let renamed = self.rename.iter().map(|(from, to)| (from, Some(to.clone())));
        let dropped = self.drop.iter().map(|name| (name, None));
        renamed.chain(dropped).fold(Renames::default(), |all, (from, to)| all.with(from, to))
    }

    fn takeover(&self) -> Takeover {
        match (self.dry_run, self.keep_ttl) {
            (true, _) => Takeover::Look,
            (false, true) => Takeover::KeepTtl,
            (false, false) => Takeover::Move,
        }
    }
}

/// A walk over the keys. It keeps no place: what was adopted has no TTL any more, so a new walk passes it by.
struct Adoption<'a> {
    queue: &'a Queue,
    /// What overdue's own keys begin with.
    prefix: &'a str,
    /// What the keys become; none if they stay where they are.
    orders: Option<Orders>,
    renames: Renames,
    pattern: Pattern<'a>,
    takeover: Takeover,
    pace: Pace,
    report: Report<'a>,
}

impl Adoption<'_> {
    async fn run(&mut self, bar: &ProgressBar) -> anyhow::Result<()> {
        let redis = self.queue.redis();
        if redis.is_cluster() {
            bail!(
                "a key becomes a deadline in one step, and in a cluster keys are in slots of their own: \
                 list your keys with their TTLs, and `overdue import` them"
            );
        }
        let glob = self.pattern.glob;
        let in_all = redis.key_count().await?;
        bar.set_length(in_all);
        let mut page = redis.scan(ScanCursor::START, glob).await?;
        loop {
            let Some(cursor) = page.next else {
                return self.take(page.keys).await;
            };
            // The next page is looked up while this one is adopted.
            let (done, next) = tokio::join!(self.take(page.keys), redis.scan(cursor, glob));
            done?;
            page = next?;
            bar.set_position((cursor.fraction() * in_all as f64) as u64);
        }
    }

    async fn take(&mut self, keys: Vec<Vec<u8>>) -> anyhow::Result<()> {
        let mut candidates = Vec::with_capacity(keys.len());
        for key in keys {
            if self.is_own(&key) {
                continue;
            }
            match self.candidate(&key) {
                Some(candidate) => candidates.push(candidate),
                None => self.report.no_id(&key),
            }
        }
        for step in candidates.chunks(self.pace.step_len()) {
            self.pace.wait_for(step.len()).await;
            match &self.orders {
                None => {
                    let answers = self.queue.adopt(step, self.takeover).await?;
                    step.iter().zip(answers).for_each(|(key, answer)| self.report.in_place(key, answer));
                }
                Some(orders) => {
                    let answers = orders.adopt(step, &self.renames, self.takeover).await?;
                    step.iter().zip(&answers).for_each(|(key, answer)| self.report.imported(key, answer));
                }
            }
        }
        Ok(())
    }

    /// A lock lives by its TTL, and so do settled orders.
    fn is_own(&self, key: &[u8]) -> bool {
        self.queue.is_own_key(key) || LockKey::is_spelled(self.prefix, key)
    }

    fn candidate(&self, key: &[u8]) -> Option<Candidate> {
        let key = std::str::from_utf8(key).ok()?;
        Some(Candidate { id: self.pattern.id_of(key)?, key: key.to_owned() })
    }
}

/// Reads FIELD=NAME.
fn rename(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(from, to)| !from.is_empty() && !to.is_empty());
    let (from, to) = pair.ok_or("write it like status=shop_status")?;
    Ok((from.to_owned(), to.to_owned()))
}
