//! Commands that clean up when they are interrupted.

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

/// Drops the work at SIGINT or SIGTERM, so that what follows it can clean up.
pub(super) async fn unless_interrupted<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("interrupted"),
    }
}
