//! Processes that die at a named step: before and after every script that a scheduler runs, before its handler
//! begins, and between its end and the ack.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use overdue::order::Orders;
use rand::{RngExt as _, rngs::StdRng};

use super::{
    clients::{register, spread},
    fleet::{LEASE, config, leased, nothing_is_left},
    history::History,
    orders::{create, read_expired},
    recorder::{Policy, Recorder},
    run::{Run, Terms, scaled},
    sinks::{read_list, read_stream},
};
use crate::support::{RedisServer, Rig, eventually, process::Place};

/// How many ids each of them has to do.
const IDS: usize = 200;
/// How many of the cases run side by side: most of their time they wait for a lease to run out.
const TOGETHER: usize = 8;
/// A receiver that gives a scheduler occasion for every verb. Slow calls take longer than a third of the lease, so
/// that it is extended.
const RECEIVER: Policy = Policy { failing: 0.2, slow: (0.05, Duration::from_millis(1200)), gone: 0.2 };
/// How long calls take while a scheduler is told to stop.
const SLOW_AT_STOP: Duration = Duration::from_secs(4);
/// The steps of a scheduler with a webhook. `release` is run by one that is told to stop.
const DELIVERY: [&str; 9] =
    ["claim", "begin", "handler", "ack", "retry", "bury", "extend", "release", "reject"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Webhook,
    Stream,
    List,
    Orders,
}

/// One process that is to die.
struct Case {
    target: Target,
    /// As the variable names it, such as `after:claim`.
    point: String,
    dice: StdRng,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_may_die_at_every_step() {
    let mut run = Run::begin("kill -9 at named steps");
    let webhook = DELIVERY.map(|step| (Target::Webhook, step));
    let others =
        [(Target::Stream, "fire_stream"), (Target::List, "fire_list"), (Target::Orders, "order_expire")];
    let steps: Vec<_> = webhook.into_iter().chain(others).collect();
    let cases: Vec<Case> = (0..scaled(1))
        .flat_map(|_| {
            steps.iter().flat_map(|(target, step)| ["before", "after"].map(|side| (*target, side, *step)))
        })
        .map(|(target, side, step)| Case { target, point: format!("{side}:{step}"), dice: run.fork() })
        .collect();
    let faults: Vec<String> = cases.iter().map(Case::fault).collect();
    let history = Arc::clone(&run.history);
    let played = cases.into_iter().map(|case| case.play(&history));
    let again: u64 =
        stream::iter(played).buffer_unordered(TOGETHER).collect::<Vec<u64>>().await.into_iter().sum();
    run.finish(Terms::struck_by(faults).duplicates(again));
}

impl Case {
    fn fault(&self) -> String {
        format!("kill -9 {}", self.point)
    }

    /// Has a process die at its step and another one do the rest. Answers how many ids were leased at its death.
    async fn play(mut self, history: &Arc<History>) -> u64 {
        let rig = Rig::new().await;
        // All slow where the step is for what waits or takes long.
        let needs_slow = ["release", "extend"].iter().any(|step| self.point.ends_with(step));
        let (ids, slow) = if needs_slow { (IDS / 8, 1.0) } else { (IDS, RECEIVER.slow.0) };
        // What is claimed ahead has to wait until the signal is there, on a machine that does other things too.
        let time = if self.point.ends_with("release") { SLOW_AT_STOP } else { RECEIVER.slow.1 };
        let policy = Policy { slow: (slow, time), ..RECEIVER };
        let recorder = Recorder::start(history, policy, self.dice.random()).await;
        let place = Place::new(&config(
            RedisServer::shared(),
            &rig,
            &self.handler(&recorder),
            "batch_size = 50\nconcurrency = 8\n",
        ));
        let bulk = spread(&format!("{}-", rig.name()), ids, Duration::from_millis(300), &mut self.dice);
        if self.target == Target::Orders {
            create(&Orders::new(rig.clone()), history, &bulk).await;
        } else {
            register(&rig, history, &bulk).await;
            if self.point.ends_with("begin") {
                lose_a_delivery(&rig).await;
            }
            rig.zadd("in seconds", 1_767_225_600).await;
        }
        let in_hand = self.die(&place, &rig).await;
        history.struck(self.fault());

        let successor = place.serve().await;
        nothing_is_left(&rig).await;
        successor.stop().await;
        match self.target {
            Target::Webhook => {}
            Target::Stream => read_stream(&rig, history).await,
            Target::List => read_list(&rig, history).await,
            Target::Orders => read_expired(&Orders::new(rig.clone()), history, &bulk).await,
        }
        in_hand
    }

    fn handler(&self, recorder: &Recorder) -> String {
        match self.target {
            Target::Webhook => recorder.handler(),
            Target::Stream => "handler = { type = \"stream\" }\n".to_owned(),
            Target::List => "handler = { type = \"list\" }\n".to_owned(),
            Target::Orders => "handler = { type = \"order\" }\n".to_owned(),
        }
    }

    async fn die(&mut self, place: &Place, rig: &Rig) -> u64 {
        // Most steps are passed often. These are passed once, or only now and then.
        let is_rare = ["begin", "release", "extend", "reject"].iter().any(|step| self.point.ends_with(step));
        let pass = if is_rare { 1 } else { self.dice.random_range(1..=4) };
        let fault = format!("{}#{pass}", self.point);
        let is_stopped = self.point.ends_with("release");
        // Handlers get as much ahead as they do in a poll interval: in a long one, more than run at once.
        let poll_interval = if is_stopped { "900ms" } else { "50ms" };
        let interval_of = format!("OVERDUE_QUEUE__{}__POLL_INTERVAL", rig.name().as_str().to_uppercase());
        let mut victim = place.serve_with(&[("OVERDUE_FAULT_KILL", &fault), (&interval_of, poll_interval)]);
        if is_stopped {
            eventually("more is claimed than runs", async || (leased(rig).await > 8).then_some(())).await;
            victim.signal("TERM");
        }
        assert_eq!(victim.ended().await, None, "it dies at {} and not otherwise", self.point);
        leased(rig).await
    }
}

/// Claims one and forgets it. Those that come after a lost delivery are watched: that is what `begin` is for.
async fn lose_a_delivery(rig: &Rig) {
    eventually("one is due", async || {
        let claim = rig.claim(1, Duration::from_millis(1)).await.ok()?;
        (!claim.deliveries.is_empty()).then_some(())
    })
    .await;
}

#[test]
fn the_lease_is_extended_while_a_slow_call_runs() {
    assert!(RECEIVER.slow.1 > LEASE / 3, "or `extend` is never run");
}
