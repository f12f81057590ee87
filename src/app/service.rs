//! What a service manager is told, if one listens ([sd_notify(3)](https://man7.org/linux/man-pages/man3/sd_notify.3.html)):
//! ready, reloading, stopping, and that the process is alive.

use sd_notify::{NotifyState, notify, watchdog_enabled};
use tokio::{sync::watch, task::JoinSet, time::interval};
use tokio_util::sync::CancellationToken;

use crate::{
    config::RedisConfig,
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

/// A turn of a poll loop makes up to so many calls of Redis (trim, claim, reject; expire and its trim), with room to spare.
const CALLS_IN_A_TURN: u32 = 10;

/// Tells twice in the time of the watchdog that all poll loops turn, until this is dropped. They turn while Redis is away,
/// too, since each of their calls ends within the timeouts: a restart would not bring Redis back. If one hangs, or the runtime
/// does, nothing is told, and the manager starts the process anew. From the stop on no loop turns, and the time that handlers
/// have is `drain_timeout`.
pub(super) fn watch_over(served: &[Served], config: &RedisConfig, stop: &CancellationToken) -> JoinSet<()> {
    let mut task = JoinSet::new();
    let Some(limit) = watchdog_enabled() else { return task };
    let loops: Vec<_> = served.iter().map(|served| (served.pulse.clone(), served.settings.clone())).collect();
    let call = config.connect_timeout.saturating_add(config.response_timeout);
    let (turn, stop) = (call.saturating_mul(CALLS_IN_A_TURN), stop.clone());
    task.spawn(async move {
        let mut ticks = interval(limit / 2);
        loop {
            ticks.tick().await;
            let turns = |(pulse, settings): &(Pulse, watch::Receiver<Settings>)| {
                pulse.turned_within(settings.borrow().poll_interval.saturating_add(turn))
            };
            if stop.is_cancelled() || loops.iter().all(turns) {
                tell(&[NotifyState::Watchdog]);
            } else {
                tracing::error!("a poll loop hangs; the watchdog is not told");
            }
        }
    });
    task
}
