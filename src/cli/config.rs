//! `overdue config show|check`

use clap::Subcommand;
use serde::Serialize;

use super::context::Context;
use crate::app;

/// `overdue config …`
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the effective configuration, with secrets hidden
    Show,
    /// Check the configuration; exit code 2 if it is wrong
    Check,
}

#[derive(Serialize)]
struct Checked {
    file: Option<String>,
    queues: usize,
}

impl ConfigCommand {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<()> {
        let config = &context.config;
        match self {
            Self::Show => context.output.one(config, config.to_toml().trim_end()),
            // Loading it has been the check; what is left are the files that it names.
            Self::Check => {
                app::webhooks(config)?;
                let file = config.file.as_ref().map(|file| file.display().to_string());
                let queues = config.queues.len();
                let from = file.as_deref().unwrap_or("no file, built-in values");
                let names = config.queues.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                context
                    .output
                    .one(&Checked { file: file.clone(), queues }, &format!("ok: {from}; queues: {names}"))
            }
        }
    }
}
