//! The proof: whole systems under faults, and what their histories say about the promises P1 to P9.
//!
//! A scenario makes a [`run::Run`], lets clients and a recording handler write down what they saw in its
//! [`history::History`] while faults strike, waits until nothing is left to do, and hands the history to the
//! checker. In the suite the scenarios are short; `scripts/prove` runs them at length.

mod checker;
mod checker_tests;
mod clients;
mod clock;
mod failovers;
mod failpoints;
mod fleet;
mod full;
mod herd;
mod history;
mod kills;
mod migrations;
mod orders;
mod races;
mod recorder;
mod redis_restart;
mod refusals;
mod resharding;
mod run;
mod siege;
mod sinks;
mod snapshot;
mod torn_log;
mod workers;
mod wrong_types;
