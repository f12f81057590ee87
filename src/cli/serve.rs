//! `overdue serve`

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use super::context::Context;
use crate::{
    app,
    config::{LogConfig, LogFormat},
};

pub(super) async fn run(context: Context) -> anyhow::Result<()> {
    start_log(&context.config.log);
    app::serve(context.config, context.sources).await
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
