//! What a service manager is told, if one listens ([sd_notify(3)](https://man7.org/linux/man-pages/man3/sd_notify.3.html)):
//! ready, reloading, stopping, and that the process is alive.

use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};
use tokio::{sync::watch, task::JoinSet, time::interval};

use crate::{
    http::Served,
    scheduler::{Pulse, Settings},
};

/// All is started: deadlines fire from here on, as soon as Redis answers.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is loaded again; [`ready`] ends that.
pub(super) fn reloading() {
    let since = NotifyState::monotonic_usec_now().ok();
    tell(&[Some(NotifyState::Reloading), since].into_iter().flatten().collect::<Vec<_>>());
}

/// What runs may end; nothing is claimed any more.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Without a manager this does nothing. One that is gone is no reason to stop firing deadlines.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(cause) = notify(states) {
        tracing::warn!(%cause, "the service manager cannot be told");
    }
}

/// Tells twice in the time of the watchdog that all poll loops turn, until this is dropped. They turn while Redis is away,
/// too, since each of their calls has a timeout: a restart would not bring Redis back. If one hangs, or the runtime does,
/// nothing is told, and the manager starts the process anew.
pub(super) fn watch_over(served: &[Served]) -> JoinSet<()> {
    let mut task = JoinSet::new();
    let loops: Vec<_> = served.iter().map(|served| (served.pulse.clone(), served.settings.clone())).collect();
    if let Some(limit) = watchdog_enabled() {
        task.spawn(keep_telling(loops, limit / 2));
    }
    task
}

async fn keep_telling(loops: Vec<(Pulse, watch::Receiver<Settings>)>, period: Duration) {
    let mut ticks = interval(period);
    loop {
        ticks.tick().await;
        if loops.iter().all(|(pulse, settings)| pulse.is_turning(settings.borrow().poll_interval)) {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("a poll loop hangs; the watchdog is not told");
        }
    }
}
