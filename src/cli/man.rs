//! `overdue man`

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};

use super::Cli;

/// `overdue man`
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Where the pages go; made if it is missing
    dir: PathBuf,
}

impl Man {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let cannot = || format!("man pages cannot be written to {}", self.dir.display());
        fs::create_dir_all(&self.dir).with_context(cannot)?;
        clap_mangen::generate_to(Cli::command(), &self.dir).with_context(cannot)
    }
}
