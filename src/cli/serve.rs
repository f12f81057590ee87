//! `overdue serve`

use std::io::IsTerminal as _;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::context::Context;
use crate::{
    app,
    config::{LogConfig, LogFormat},
};

/// `overdue serve`
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The dashboard only shows: no actions, whatever `http.read_only` says
    #[arg(long)]
    read_only: bool,
}

impl Serve {
    pub(super) async fn run(self, mut context: Context) -> anyhow::Result<()> {
        start_log(&context.config.log);
        // The sources, too: the configuration is loaded from them again at SIGHUP.
        context.sources.read_only = self.read_only;
        context.config.http.read_only |= self.read_only;
        app::serve(context.config, context.sources).await
    }
}

/// Logs go to stderr, so that stdout stays free for results.
fn start_log(config: &LogConfig) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.level))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
