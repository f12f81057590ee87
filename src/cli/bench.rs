//! `overdue bench`: how fast it is here, beside what Redis itself can do.
//!
//! - this file: the command; `plan` has its sizes
//! - `rig`, `cluster`: the Redis that it runs on; `lab`: how runs are put together; `workload`: ids and deadlines
//! - `register` with `register_http`, `fire`, `lateness`, `storm`, `memory`, `idle`, `scale`, `shards`: the measurements
//! - `bare`: the clients that they stand beside
//! - `drain`, `ahead`, `serve`: schedulers in this process, deadlines that are to come, a `serve` beside it
//! - `clock`, `latency`, `info`, `stats`: reading clocks, Redis and values
//! - `figure`, `chart`: what comes out

mod ahead;
mod bare;
mod chart;
mod clock;
mod cluster;
mod drain;
mod estimate;
mod figure;
mod fire;
mod idle;
mod info;
mod lab;
mod latency;
mod lateness;
mod memory;
mod plan;
mod register;
mod register_http;
mod rig;
mod scale;
mod serve;
mod shards;
mod stats;
mod storm;
mod workload;

use std::{
    path::PathBuf,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use figure::Figure;
use indicatif::{ProgressBar, ProgressStyle};
use info::Info;
use lab::Lab;
use plan::{Plan, Sizes};
use rig::Rig;
use serde::Serialize;

use super::{
    interrupt::unless_interrupted,
    output::{Format, Output},
};
use crate::error::Invalid;

/// `overdue bench`
#[derive(Debug, Args)]
#[command(after_long_help = "\
It starts a redis-server of its own in a temporary directory, and removes it at the end. With --redis-url it uses
that Redis instead, under keys that begin with overdue-bench:, removes them at the end, and refuses to start if there
are any. The configuration plays no part in it.

Each figure of overdue stands beside that of a bare client, which does the least that Redis needs for the same; both run
right after one another in each run, and the ratio is the median of the ratios of the runs.

The defaults take most of an hour and 3.6 GB of memory; what is asked for is estimated at the start.
docs/benchmarks.md says what each figure means.")]
pub(super) struct Bench {
    /// What to measure [default: all of it]
    #[arg(value_enum)]
    what: Vec<What>,
    #[command(flatten)]
    sizes: Sizes,
    /// Run the private Redis with its append-only file on, synced every second
    #[arg(long)]
    aof: bool,
    /// Draw the figures of each measurement as an SVG into this directory
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

/// The measurements, in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum What {
    /// Ids registered in a second: one at a time, pipelined and in bulk, in Rust and over HTTP
    Register,
    /// Ids fired in a second from a backlog that is due, by handler and batch size
    Fire,
    /// How late the handler is called, at several rates, with and without a backlog
    Lateness,
    /// All ids due in the same millisecond, and what another client of Redis feels
    Storm,
    /// Bytes of Redis for each pending id, and the memory of `serve`
    Memory,
    /// What `serve` and Redis use while nothing is due
    Idle,
    /// How it grows with schedulers, queues and pending ids
    Scale,
    /// What one queue gains from several shards on a cluster of three servers, which is started for it
    Shards,
}

/// All that a program needs to know of a benchmark.
#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    /// True if the figures tell of the compiler.
    debug_build: bool,
    redis_version: String,
    /// `private` or `given`.
    redis: &'static str,
    aof: bool,
    cores: usize,
    took_s: f64,
    #[serde(flatten)]
    plan: &'a Plan,
    figures: Vec<Figure>,
}

impl Bench {
    pub(super) async fn run(&self, redis_url: Option<String>, output: Output) -> anyhow::Result<()> {
        if self.aof && redis_url.is_some() {
            let why = "is about the private Redis: leave out --redis-url, or --aof";
            return Err(Invalid::new("option", "--aof", why).into());
        }
        let (plan, what) = (self.sizes.plan()?, self.what());
        let estimate = estimate::of(&what, &plan);
        if redis_url.is_none() {
            estimate.check_memory()?;
        }
        announce(&what, &plan, &estimate);
        let begun = Instant::now();
        let rig = Rig::open(redis_url, self.aof).await?;
        let bar = progress_bar();
        let measured = unless_interrupted(self.measure(&rig, &plan, &what, output, &bar)).await;
        bar.finish_and_clear();
        rig.close().await;

        let mut report = measured?;
        report.took_s = begun.elapsed().as_secs_f64();
        if let Some(dir) = &self.plot {
            chart::write(dir, &report.figures, &report.footer(&what))?;
        }
        if output.format == Format::Json {
            output.one(&report, "")?;
        }
        Ok(())
    }

    /// What is asked for, each once and in order.
    fn what(&self) -> Vec<What> {
        let mut what = if self.what.is_empty() { What::value_variants().to_vec() } else { self.what.clone() };
        what.sort();
        what.dedup();
        what
    }

    /// Measures one after the other, and prints each as soon as it is there, unless it is to be one document.
    async fn measure<'a>(
        &self,
        rig: &Rig,
        plan: &'a Plan,
        what: &[What],
        output: Output,
        bar: &ProgressBar,
    ) -> anyhow::Result<Report<'a>> {
        let lab = Lab { rig, plan, bar };
        let mut figures = Vec::new();
        for what in what {
            let measured = what.measure(&lab).await?;
            if output.format != Format::Json {
                bar.suspend(|| output.rows(&measured))?;
            }
            figures.extend(measured);
        }
        let redis_version = Info::read(rig.redis(), "server").await?.text("redis_version").to_owned();
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            debug_build: cfg!(debug_assertions),
            redis_version,
            redis: if rig.is_private() { "private" } else { "given" },
            aof: self.aof,
            cores: available_parallelism().map_or(1, usize::from),
            took_s: 0.0,
            plan,
            figures,
        })
    }
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Fire => "fire",
            Self::Lateness => "lateness",
            Self::Storm => "storm",
            Self::Memory => "memory",
            Self::Idle => "idle",
            Self::Scale => "scale",
            Self::Shards => "shards",
        }
    }

    async fn measure(self, lab: &Lab<'_>) -> anyhow::Result<Vec<Figure>> {
        match self {
            Self::Register => register::measure(lab).await,
            Self::Fire => fire::measure(lab).await,
            Self::Lateness => lateness::measure(lab).await,
            Self::Storm => storm::measure(lab).await,
            Self::Memory => memory::measure(lab).await,
            Self::Idle => idle::measure(lab).await,
            Self::Scale => scale::measure(lab).await,
            Self::Shards => shards::measure(lab).await,
        }
    }
}

impl Report<'_> {
    /// What stands under a chart: where it was made, and how to make it again.
    fn footer(&self, what: &[What]) -> String {
        let aof = if self.aof { ", append-only file on" } else { "" };
        let debug = if self.debug_build { ", DEBUG BUILD" } else { "" };
        format!(
            "overdue {}{debug}, Redis {}{aof}, {} cores: overdue bench {} --runs {} --seed {} --ids {} --backlog {}",
            self.version,
            self.redis_version,
            self.cores,
            words(what),
            self.plan.runs,
            self.plan.seed,
            self.plan.ids,
            self.plan.backlog,
        )
    }
}

fn words(what: &[What]) -> String {
    what.iter().map(|what| what.word()).collect::<Vec<_>>().join(" ")
}

fn announce(what: &[What], plan: &Plan, estimate: &estimate::Estimate) {
    let (runs, many) = (plan.runs, if plan.runs == 1 { "" } else { "s" });
    eprintln!("overdue: measuring {}, {runs} run{many} each, seed {}: {estimate}", words(what), plan.seed);
    if cfg!(debug_assertions) {
        eprintln!(
            "note: this is a debug build, so the figures tell of the compiler; use `cargo build --release`"
        );
    }
}

/// Shows what is being measured. Nothing is drawn when stderr is no terminal.
fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed:>4} {bar:24} {human_pos}/{human_len} {msg}");
    let bar = ProgressBar::new(0).with_style(style.expect("the template is fixed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
