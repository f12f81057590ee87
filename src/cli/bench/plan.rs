//! How much is measured: the flags of sizes, and their bounds.

use std::time::Duration;

use clap::{Args, ValueEnum as _, value_parser};
use serde::{Serialize, Serializer};

use super::fire::Kind;
use crate::{duration, error::Invalid, scheduler::Settings};

/// How long a span may be.
const MIN_SPAN: Duration = Duration::from_millis(100);
const MAX_SPAN: Duration = Duration::from_secs(600);
/// Items of a list.
const MAX_ITEMS: usize = 10;

/// The sizes as they are asked for. What is left out depends on `--quick`.
#[derive(Debug, Args)]
pub(super) struct Sizes {
    /// Runs of each measurement, after a warm-up; 1 to 25 [default: 3, with --quick 1]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=25))]
    runs: Option<u32>,
    /// What ids and deadlines are made from: the same seed makes the same work
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Everything in small, in seconds: it shows that all works, and no figure means much
    #[arg(long)]
    quick: bool,
    /// Ids that a run registers or fires, 1000 to 10000000; slow ways take a share of them [default: 1000000]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1000..=10_000_000), help_heading = SIZES)]
    ids: Option<u64>,
    /// Ids that are pending in lateness, memory, idle and scale, 1000 to 50000000 [default: 10000000]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1000..=50_000_000), help_heading = SIZES)]
    backlog: Option<u64>,
    /// Deadlines a second for lateness, 10 to 200000 each [default: 1000,10000,50000]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = value_parser!(u64).range(10..=200_000), help_heading = SIZES)]
    rates: Vec<u64>,
    /// How long a run of lateness and of idle lasts, 100ms to 10m [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = span, help_heading = SIZES)]
    span: Option<Duration>,
    /// Ids in a claim for fire, 1 to 1000 each [default: 100,500,1000]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = value_parser!(u64).range(1..=1000), help_heading = SIZES)]
    batch_sizes: Vec<u64>,
    /// Handlers for fire [default: all of them]
    #[arg(long, value_name = "HANDLER,…", value_delimiter = ',', value_enum, help_heading = SIZES)]
    handlers: Vec<Kind>,
    /// Handlers at once, 1 to 10000 [default: 64]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=10_000), help_heading = SIZES)]
    concurrency: Option<u64>,
}

const SIZES: &str = "Sizes";

/// The sizes that hold.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Plan {
    pub(super) runs: u32,
    pub(super) seed: u64,
    pub(super) quick: bool,
    pub(super) ids: u64,
    pub(super) backlog: u64,
    pub(super) rates: Vec<u64>,
    #[serde(rename = "span_ms", serialize_with = "as_ms")]
    pub(super) span: Duration,
    pub(super) batch_sizes: Vec<u64>,
    pub(super) handlers: Vec<Kind>,
    pub(super) concurrency: usize,
}

impl Sizes {
    /// What is asked for, and defaults for the rest.
    pub(super) fn plan(&self) -> Result<Plan, Invalid> {
        let usual = if self.quick { quick() } else { full() };
        Ok(Plan {
            runs: self.runs.unwrap_or(usual.runs),
            seed: self.seed,
            quick: self.quick,
            ids: self.ids.unwrap_or(usual.ids),
            backlog: self.backlog.unwrap_or(usual.backlog),
            rates: list("rates", &self.rates, usual.rates)?,
            span: self.span.unwrap_or(usual.span),
            batch_sizes: list("batch-sizes", &self.batch_sizes, usual.batch_sizes)?,
            handlers: list("handlers", &self.handlers, usual.handlers)?,
            concurrency: self.concurrency.map_or(usual.concurrency, |count| count as usize),
        })
    }
}

fn full() -> Plan {
    Plan {
        runs: 3,
        seed: 1,
        quick: false,
        ids: 1_000_000,
        backlog: 10_000_000,
        rates: vec![1000, 10_000, 50_000],
        span: Duration::from_secs(10),
        batch_sizes: vec![100, 500, 1000],
        handlers: Kind::value_variants().to_vec(),
        concurrency: Settings::default().concurrency,
    }
}

fn quick() -> Plan {
    Plan {
        runs: 1,
        quick: true,
        ids: 2000,
        backlog: 20_000,
        rates: vec![1000],
        span: Duration::from_millis(300),
        batch_sizes: vec![500],
        ..full()
    }
}

fn list<T: Clone>(name: &'static str, asked: &[T], usual: Vec<T>) -> Result<Vec<T>, Invalid> {
    if asked.len() > MAX_ITEMS {
        return Err(Invalid::new(name, asked.len(), format!("items are too many: {MAX_ITEMS} at most")));
    }
    Ok(if asked.is_empty() { usual } else { asked.to_vec() })
}

fn span(text: &str) -> Result<Duration, Invalid> {
    let span = duration::parse(text)?;
    if (MIN_SPAN..=MAX_SPAN).contains(&span) {
        return Ok(span);
    }
    Err(Invalid::new("span", text, "is out of bounds: write 100ms to 10m"))
}

fn as_ms<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(span.as_millis() as u64)
}
