//! Several `serve` processes on one queue, and what befalls them.

use std::time::Duration;

use overdue::{QueueName, queue::Queue};
use rand::{RngExt as _, rngs::StdRng};
use tokio::time::sleep;

use super::history::History;
use crate::support::{
    RedisServer, Rig, eventually,
    process::{Place, Serve},
};

/// The lease of the scenarios: long enough that a stalled machine does not lose it by itself, and still short
/// enough to wait for.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

/// The configuration of a queue with this handler line.
pub(crate) fn config(server: &RedisServer, rig: &Rig, handler: &str, more: &str) -> String {
    format!("[redis]\nurl = \"{}\"\n{}", server.url(), section(rig.name(), handler, more))
}

/// The part of it that is about the queue.
pub(crate) fn section(queue: &QueueName, handler: &str, more: &str) -> String {
    let lease_ms = LEASE.as_millis();
    format!(
        "[queue.{queue}]\npoll_interval = \"50ms\"\nlease = \"{lease_ms}ms\"\nmax_crashes = 1000\nmax_attempts = 1000\n\
         backoff = {{ initial = \"10ms\", max = \"100ms\" }}\n{handler}{more}"
    )
}

/// The processes.
pub(crate) struct Fleet<'a> {
    place: &'a Place,
    members: Vec<Serve>,
}

impl<'a> Fleet<'a> {
    /// Starts so many, and does not wait for them.
    pub(crate) fn start(place: &'a Place, members: usize) -> Self {
        Self { place, members: (0..members).map(|_| place.serve_with(&[])).collect() }
    }

    /// Waits until all of them serve.
    pub(crate) async fn is_up(&self) {
        for member in &self.members {
            member.says("serving").await;
        }
    }

    /// How many lines of their logs hold this text.
    pub(crate) fn mentions(&self, text: &str) -> usize {
        let count = |member: &Serve| member.log().iter().filter(|line| line.contains(text)).count();
        self.members.iter().map(count).sum()
    }

    fn some_member(&self, dice: &mut StdRng) -> usize {
        dice.random_range(0..self.members.len())
    }

    /// Kills one and starts another in its place. Answers how many ids were leased just after: at most so many
    /// can be handled again.
    pub(crate) async fn kill_one(&mut self, queue: &Queue, history: &History, dice: &mut StdRng) -> u64 {
        let victim = self.some_member(dice);
        self.members.swap_remove(victim).kill9().await;
        let leased = leased(queue).await;
        history.struck("kill -9");
        if leased > 0 {
            history.struck("kill -9 with work in hand");
        }
        self.members.push(self.place.serve_with(&[]));
        leased
    }

    /// Stops one for so long, so that its leases run out, and lets it go on. Answers as [`Fleet::kill_one`].
    pub(crate) async fn freeze_one(
        &mut self,
        queue: &Queue,
        history: &History,
        dice: &mut StdRng,
        time: Duration,
    ) -> u64 {
        let victim = self.some_member(dice);
        self.members[victim].signal("STOP");
        let leased = leased(queue).await;
        sleep(time).await;
        self.members[victim].signal("CONT");
        history.struck("SIGSTOP past the lease");
        if leased > 0 {
            history.struck("SIGSTOP with work in hand");
        }
        leased
    }

    /// Stops one in order, and starts another before it has ended, as a rolling restart does.
    pub(crate) async fn replace_one(&mut self, history: &History, dice: &mut StdRng) {
        let old = self.some_member(dice);
        let old = self.members.swap_remove(old);
        self.members.push(self.place.serve_with(&[]));
        old.stop().await;
        history.struck("SIGTERM");
    }

    /// Waits until nothing is scheduled or leased, and stops all of them in order.
    pub(crate) async fn drain(self, queue: &Queue) {
        nothing_is_left(queue).await;
        for member in self.members {
            // One that was started a moment ago has no signal handler yet, and dies of the signal.
            member.says("serving").await;
            member.stop().await;
        }
    }
}

/// How many ids are leased.
pub(crate) async fn leased(queue: &Queue) -> u64 {
    // Of all shards, those of a moment ago included.
    queue.ask_shards().await.expect("Redis is well");
    queue.counts().await.expect("Redis is well").leased
}

/// Waits until nothing is scheduled or leased.
pub(crate) async fn nothing_is_left(queue: &Queue) {
    eventually("nothing is left to do", async || {
        let counts = queue.counts().await.ok()?;
        (counts.scheduled + counts.leased == 0).then_some(())
    })
    .await;
}

/// Once nothing is left to do, no key is left either, but what the queue keeps for itself and what a sink fired.
pub(crate) async fn nothing_remains(rig: &Rig) {
    let keys = rig.keys().await;
    assert!(keys.iter().all(|key| ["fired", "meta"].contains(&key.as_str())), "left behind: {keys:?}");
}
