//! The flag `--durability` of all commands that register, move or cancel.

use clap::Args;

use crate::types::DurabilityLevel;

/// What a write has to reach.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Durable {
    /// What this has to reach before it counts as done: the memory of Redis, of its replicas too, or the disk. If it does
    /// not get there in time, this fails, though the write may still exist [default: that of the queue, memory if it has none]
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(super) durability: Option<DurabilityLevel>,
}
