//! `overdue replay`

use clap::Args;

use super::context::Context;

/// `overdue replay`
#[derive(Debug, Args)]
pub(super) struct Replay {}

impl Replay {
    pub(super) async fn run(&self, _context: &Context) -> anyhow::Result<()> {
        Ok(())
    }
}
