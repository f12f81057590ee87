//! Runs a queue shard by shard: leases, rates and canaries are of a shard, so each is polled for itself. A queue that was
//! never spread is one shard.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{Pulse, Settings};
use crate::queue::{Queue, Shards};

/// How often ids are looked for that left a shard and have not arrived, since who moved them died.
const MOVING_INTERVAL: Duration = Duration::from_secs(1);
/// The same where no `reshard` is under way: there are none, unless servers have lost what they knew.
const INTERVAL: Duration = Duration::from_secs(30);

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
    helper.spawn(look_after(queue.clone()));
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

/// Sees to it that no id stays on its way between two shards, and that the first shard knows of the others: it may have lost
/// its data, and a process that has just started asks it alone.
async fn look_after(queue: Queue) {
    let mut shards = queue.watch_shards();
    let mut pause = MOVING_INTERVAL;
    // That a server is away, others say.
    while queue.recall_shards().await.is_err() && queue.shards() == Shards::ONE {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(INTERVAL);
    }
    loop {
        let known = *shards.borrow_and_update();
        if known == Shards::ONE {
            if shards.changed().await.is_err() {
                return;
            }
            continue;
        }
        let _ = queue.ask_shards().await;
        for shard in 0..known.all() {
            if let Err(cause) = queue.bring_in(shard).await {
                tracing::warn!(queue = %queue.name(), shard, %cause, "what left a shard has not arrived yet");
            }
        }
        let pause = if known.is_moving() { MOVING_INTERVAL } else { INTERVAL };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = shards.changed() => if changed.is_err() { return },
        }
    }
}
