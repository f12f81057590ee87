//! The look at Redis when `serve` begins, or when Redis first answers.

use std::time::Duration;

use tokio::{sync::oneshot, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    config::RedisConfig,
    doctor::{Allowed, Finding, Level, examine},
    redis::Redis,
};

/// How often a Redis that does not answer is asked again. The pollers say meanwhile that it is away.
const PAUSE: Duration = Duration::from_secs(1);

/// Examines in the background, all but the rights (a verb that is refused says so by itself), logs what is not as it
/// should be, and sends the finding that forbids to serve, if there is one.
pub(super) fn begin(
    redis: &Redis,
    config: &RedisConfig,
    stop: &CancellationToken,
) -> oneshot::Receiver<Finding> {
    let (sender, receiver) = oneshot::channel();
    let (redis, stop) = (redis.clone(), stop.clone());
    let allowed = Allowed { eviction: config.allow_eviction };
    tokio::spawn(async move {
        let Some(findings) = stop.run_until_cancelled(answered(&redis, allowed)).await else { return };
        findings.iter().for_each(log);
        match findings.into_iter().find(Finding::forbids_serving) {
            // Fails only if `serve` has ended.
            Some(finding) => drop(sender.send(finding)),
            // Kept, so that who waits for it waits for ever.
            None => stop.cancelled().await,
        }
    });
    receiver
}

async fn answered(redis: &Redis, allowed: Allowed) -> Vec<Finding> {
    loop {
        if let Ok(findings) = examine(redis, allowed).await {
            return findings;
        }
        sleep(PAUSE).await;
    }
}

fn log(finding: &Finding) {
    let Finding { level, check, server, found, consequence, remedy } = finding;
    match level {
        Level::Ok | Level::Note => {}
        Level::Warning => tracing::warn!(check, server, found, consequence, remedy, "finding"),
        Level::Error => tracing::error!(check, server, found, consequence, remedy, "finding"),
    }
}
