//! Runs a queue shard by shard: leases, rates and canaries are of a shard, so each is polled for itself. A queue that was
//! never spread is one shard.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{Pulse, Settings};
use crate::queue::Queue;

/// How often ids are looked for that left a shard and have not arrived, since who moved them died.
const BRING_IN_INTERVAL: Duration = Duration::from_secs(1);

/// A shard, and what it is run with.
pub(super) struct Shard {
    pub(super) queue: Queue,
    /// Its share of what the queue has.
    pub(super) settings: watch::Receiver<Settings>,
    pub(super) pulse: Pulse,
    pub(super) stop: CancellationToken,
}

/// Delivers each shard of a queue for as long as there is such a shard; ends when all of it has ended after the stop.
pub(super) async fn run<F>(
    queue: Queue,
    mut settings: watch::Receiver<Settings>,
    pulse: Pulse,
    stop: CancellationToken,
    deliver: impl Fn(Shard) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut shards = queue.watch_shards();
    let shared = watch::Sender::new(settings.borrow().clone());
    let (mut stops, mut tasks) = (Vec::<CancellationToken>::new(), JoinSet::new());
    // Dropped, and so aborted, when this returns.
    let mut helper = JoinSet::new();
    helper.spawn(bring_in(queue.clone()));
    loop {
        let all = shards.borrow_and_update().all();
        let share = settings.borrow_and_update().shared_by(all);
        shared.send_if_modified(|held| std::mem::replace(held, share.clone()) != share);
        pulse.spread(all.into());
        for retired in stops.drain(stops.len().min(all.into())..) {
            retired.cancel();
        }
        for shard in stops.len() as u16..all {
            let stop = stop.child_token();
            stops.push(stop.clone());
            let (queue, settings, pulse) =
                (queue.shard(shard), shared.subscribe(), pulse.of_shard(shard.into()));
            tasks.spawn(deliver(Shard { queue, settings, pulse, stop }));
        }
        tokio::select! {
            () = stop.cancelled() => break,
            Ok(()) = shards.changed() => {}
            Ok(()) = settings.changed() => {}
            Some(ended) = tasks.join_next() => pass_on(ended),
        }
    }
    while let Some(ended) = tasks.join_next().await {
        pass_on(ended);
    }
}

/// Handlers' panics are caught, so this one is a bug of ours: passed on rather than run with a part.
pub(super) fn pass_on(ended: Result<(), JoinError>) {
    if let Err(cause) = ended {
        std::panic::resume_unwind(cause.into_panic());
    }
}

/// While ids move between shards, sees to it that none stays on its way.
async fn bring_in(queue: Queue) {
    let mut shards = queue.watch_shards();
    loop {
        let known = *shards.borrow_and_update();
        if !known.is_moving() {
            if shards.changed().await.is_err() {
                return;
            }
            continue;
        }
        for shard in 0..known.all() {
            if let Err(cause) = queue.bring_in(shard).await {
                tracing::warn!(queue = %queue.name(), shard, %cause, "what left a shard has not arrived yet");
            }
        }
        tokio::time::sleep(BRING_IN_INTERVAL).await;
    }
}
