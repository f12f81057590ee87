//! The command line: one file for each command or group. Results go to stdout, all else to stderr.

mod adopt;
mod bench;
mod completions;
mod config;
mod context;
mod csv_lines;
mod dead;
mod deadline_lines;
mod deadlines;
mod doctor;
mod durable;
mod export;
#[cfg(test)]
mod fuzz;
mod healthcheck;
mod import;
mod interrupt;
mod list;
mod lock;
mod man;
mod ndjson_lines;
mod order;
mod output;
mod pace;
mod queue;
mod reconcile;
mod replay;
mod serve;
mod stats;
mod verify;
mod webhook;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use context::Context;
pub use context::exit_code;
use output::{Format, Output};

/// Fires deadlines on Redis: at least once, never early.
///
/// Any service registers "order 42 lapses at 14:30", with this command or a plain ZADD; `overdue serve`
/// makes sure that the expiry handler runs for it at 14:30, unless it was cancelled first.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Where the help of a command lists what every command understands, apart from its own.
const GLOBAL: &str = "Global options";

/// What every command understands.
#[derive(Debug, clap::Args)]
struct Global {
    /// The configuration file [default: ./overdue.toml, else /etc/overdue/overdue.toml, else built-in values]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    config: Option<PathBuf>,

    /// The Redis to use, whatever the configuration says: redis://, rediss:// or unix://
    #[arg(long, global = true, value_name = "URL", help_heading = GLOBAL)]
    redis_url: Option<String>,

    /// How to print results
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, help_heading = GLOBAL)]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the scheduler: deliver the deadlines of all configured queues until SIGTERM or Ctrl-C
    ///
    /// Without `redis.url` it starts a private redis-server under `redis.data_dir` and stops it at the end.
    /// SIGHUP reloads the settings of the queues, except their handlers.
    Serve(serve::Serve),
    /// Register a deadline, or move it
    Schedule(deadlines::Schedule),
    /// Move the deadline of an id that is scheduled; its payload stays
    Reschedule(deadlines::Reschedule),
    /// Cancel deadlines: an id that is in flight gets no further attempt, but the running one may succeed
    Cancel(deadlines::Cancel),
    /// Show all that is known of an id
    Show(deadlines::Show),
    /// List the ids of a queue by state
    List(list::List),
    /// Show how much is where, and whether anything is overdue
    Stats(stats::Stats),
    /// Register deadlines in bulk from NDJSON or CSV; safe to run twice
    Import(import::Import),
    /// Write deadlines as NDJSON that `import` reads
    Export(export::Export),
    /// Move over from key expiry: make the TTL of existing keys a deadline; safe to run twice
    Adopt(adopt::Adopt),
    /// Look at dead ids, retry or delete them
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Pause, resume or empty a whole queue
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Run a command while holding a lock: one holder at a time over all machines
    ///
    /// The lock is extended as long as the command runs, and released when it ends. If the lock is lost, the command
    /// gets SIGTERM, then SIGKILL. Signals to this process are passed on to the command.
    Lock(lock::LockCommand),
    /// Show or check the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Create orders that expire when they are not paid; pay, cancel, look at and follow them
    #[command(subcommand)]
    Order(order::OrderCommand),
    /// Replay an orders file to see how many orders a timeout would have expired
    Replay(replay::Replay),
    /// Measure how fast it is on this machine, beside Redis itself
    Bench(bench::Bench),
    /// Help for whoever writes the receiver of webhooks: sign, verify, listen
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// Look for what is wrong with Redis before it hurts
    Doctor(doctor::Doctor),
    /// Look whether queues are whole, and mend them
    Verify(verify::Verify),
    /// Compare a queue with what your own database says, and mend the differences
    Reconcile(reconcile::Reconcile),
    /// Ask whether a running `serve` is ready: exit code 0 if it is
    Healthcheck(healthcheck::Healthcheck),
    /// Print shell completions
    Completions(completions::Completions),
    /// Write the man pages into a directory, one for each command
    Man(man::Man),
}

/// Runs the command, and tells the exit code.
///
/// # Errors
/// What the command could not do; [`exit_code`] tells the exit code that belongs to it.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { global, command } = cli;
    // Loaded only by those that use it: the others work where the configuration is wrong.
    let output = Output::new(global.output);
    let redis_url = global.redis_url.clone();
    let context = || Context::load(global);
    match command {
        Command::Serve(command) => command.run(context()?).await,
        Command::Schedule(command) => command.run(&context()?).await,
        Command::Reschedule(command) => command.run(&context()?).await,
        Command::Cancel(command) => command.run(&context()?).await,
        Command::Show(command) => command.run(&context()?).await,
        Command::List(command) => command.run(&context()?).await,
        Command::Stats(command) => command.run(&context()?).await,
        Command::Import(command) => command.run(&context()?).await,
        Command::Export(command) => command.run(&context()?).await,
        Command::Adopt(command) => command.run(&context()?).await,
        Command::Dead(command) => command.run(&context()?).await,
        Command::Queue(command) => command.run(&context()?).await,
        // The only one that answers with the exit code of another program.
        Command::Lock(command) => return command.run(&context()?).await,
        Command::Config(command) => command.run(&context()?),
        Command::Order(command) => command.run(&context()?).await,
        Command::Replay(command) => command.run(&context()?).await,
        // The url of the flag alone: nobody wants a benchmark on the Redis of a configuration that lies about.
        Command::Bench(command) => command.run(redis_url, output).await,
        Command::Webhook(command) => command.run(output).await,
        Command::Doctor(command) => command.run(&context()?).await,
        Command::Verify(command) => command.run(&context()?).await,
        Command::Reconcile(command) => command.run(&context()?).await,
        Command::Healthcheck(command) => command.run(&context()?).await,
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    }
    .map(|()| ExitCode::SUCCESS)
}
