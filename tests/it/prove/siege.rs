//! A Redis of its own that faults befall, with two schedulers, clients, and a watch over the queue meanwhile.

use std::{sync::Arc, time::Duration};

use overdue::{
    Id,
    error::{Error, TroubleKind},
    queue::{Queue, State},
    redis::Redis,
};
use rand::{RngExt as _, rngs::StdRng};
use redis::Value;
use tokio::time::sleep;

use super::{
    clients::{WITH_PAYLOAD, Workload, register, spread},
    fleet::{Fleet, config, nothing_remains},
    history::{Entry, Event, History, Outcome, now_us},
    recorder::{Policy, Recorder},
    run::Run,
    sinks::{read_list, read_stream},
    snapshot::Watch,
};
use crate::support::{PATIENT, RedisServer, Rig, eventually, id, process::Place};

/// What a scheduler holds at most: what runs, and a batch ahead.
const LIMITS: &str = "concurrency = 16\nbatch_size = 50\n";
/// What both hold: so much can be handled again after each fault, if that outlasts the leases.
const IN_HAND: u64 = 2 * (16 + 50);
/// Short enough that a server that hangs is noticed in time, and long enough for a busy machine.
const RESPONSE_TIMEOUT: &str = "response_timeout = \"1s\"\n[queue";

/// Where the queue's ids go.
pub(crate) enum Handler {
    Webhook(Policy),
    Stream,
    List,
}

/// What faults have at hand.
pub(crate) struct Siege<'a> {
    pub(crate) server: &'a mut RedisServer,
    pub(crate) queue: Queue,
    /// A connection of its own.
    pub(crate) redis: Redis,
    pub(crate) history: Arc<History>,
    pub(crate) dice: StdRng,
    /// How often registrations may be handled again.
    pub(crate) duplicates: u64,
    /// Since when answers may not have outlived a server, and when that died.
    pub(crate) doubts: Vec<(i64, i64)>,
    fleet: &'a Fleet<'a>,
    probes: usize,
    resumed: Option<Duration>,
}

/// Lets faults befall this server while clients do their work, waits until all is done, and answers how often
/// registrations may have been handled again.
pub(crate) async fn besiege(
    run: &mut Run,
    server: &mut RedisServer,
    handler: Handler,
    load: Workload,
    faults: impl AsyncFnOnce(&mut Siege<'_>),
) -> u64 {
    besiege_with(run, server, handler, "", load, faults).await
}

/// The same with other queues' sections in the configuration.
pub(crate) async fn besiege_with(
    run: &mut Run,
    server: &mut RedisServer,
    handler: Handler,
    others: &str,
    load: Workload,
    faults: impl AsyncFnOnce(&mut Siege<'_>),
) -> u64 {
    let rig = Rig::rooted_on(server).await;
    let line = match &handler {
        Handler::Webhook(policy) => Recorder::start(&run.history, *policy, run.seed).await.handler(),
        Handler::Stream => "handler = { type = \"stream\" }\n".to_owned(),
        Handler::List => "handler = { type = \"list\" }\n".to_owned(),
    };
    let place = Place::new(&config(server, &rig, &line, &format!("{LIMITS}{others}")).replacen(
        "[queue",
        RESPONSE_TIMEOUT,
        1,
    ));
    let fleet = Fleet::start(&place, 2);
    fleet.is_up().await;
    let watch = Watch::over(&rig);
    let clients = {
        let (queue, history, mut dice) = (rig.clone(), Arc::clone(&run.history), run.fork());
        tokio::spawn(async move { load.run(&queue, &history, &mut dice).await })
    };
    let mut siege = Siege {
        queue: rig.clone(),
        redis: Redis::open(&server.root_url(), PATIENT).expect("a valid url"),
        history: Arc::clone(&run.history),
        dice: run.fork(),
        duplicates: 0,
        doubts: Vec::new(),
        server: &mut *server,
        fleet: &fleet,
        probes: 0,
        resumed: None,
    };
    faults(&mut siege).await;
    let Siege { duplicates, doubts, resumed, .. } = siege;
    clients.await.expect("clients do not panic");
    fleet.drain(&rig).await;
    if let Some(resumed) = resumed {
        run.measure_ms("resumed_after_ms", resumed);
    }
    run.measure("unanswered", unanswered(&run.history));
    run.measure("snapshots", watch.end(&rig).await);
    // The rig's own connection may have died on the way.
    let rig = Rig::with(server, rig.clone()).await;
    match handler {
        Handler::Webhook(_) => {}
        Handler::Stream => read_stream(&rig, &run.history).await,
        Handler::List => read_list(&rig, &run.history).await,
    }
    let buried: Vec<Id> = rig.members("dead").await.iter().map(|name| id(name)).collect();
    run.measure("buried", buried.len());
    rig.delete_dead(&buried).await.expect("Redis is well");
    nothing_remains(&rig).await;
    if !doubts.is_empty() {
        let doubted =
            doubts.iter().map(|(kept_us, died_us)| run.history.doubt(*kept_us, *died_us)).sum::<u64>();
        run.measure("doubted", doubted);
    }
    duplicates
}

/// How many registrations had no answer.
fn unanswered(history: &History) -> usize {
    let is_unanswered =
        |entry: &&Entry| matches!(entry.event, Event::Registered { outcome: Outcome::Unknown, .. });
    history.entries().iter().filter(is_unanswered).count()
}

impl Siege<'_> {
    /// A fault did what it was to do.
    pub(crate) fn struck(&mut self, fault: &str) {
        self.history.struck(fault);
        self.duplicates += IN_HAND;
    }

    /// A command to the server, which has to work; on a new connection if the last one died with the server.
    pub(crate) async fn tell(&self, words: &[&str]) -> Value {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        eventually("the server is there", async || match self.redis.run(&command).await {
            Ok(value) => Some(value),
            Err(Error::Redis(trouble)) if trouble.kind == TroubleKind::Unreachable => None,
            Err(error) => panic!("{words:?}: {error}"),
        })
        .await
    }

    /// A field of INFO.
    pub(crate) async fn info(&self, name: &str) -> Option<String> {
        let text: String = redis::from_redis_value(self.tell(&["INFO", "everything"]).await).expect("text");
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.to_owned()))
    }

    /// Some time, at random up to this.
    pub(crate) async fn pause(&mut self, at_most: Duration) {
        let time = self.dice.random_range(Duration::ZERO..at_most);
        sleep(time).await;
    }

    /// Registers ids that are due within this time, so that there is work whatever the load has left.
    pub(crate) async fn provide(&mut self, ids: usize, over: Duration) -> Vec<Id> {
        let (queue, history) = (self.queue.clone(), Arc::clone(&self.history));
        eventually("ids are registered", async || {
            self.probes += 1;
            let bulk = spread(&format!("{WITH_PAYLOAD}probe-{}-", self.probes), ids, over, &mut self.dice);
            let outcome = register(&queue, &history, &bulk).await;
            (outcome == Outcome::Ok).then(|| bulk.into_iter().map(|(id, _)| id).collect())
        })
        .await
    }

    /// A registration that Redis is to refuse, and what came of it.
    pub(crate) async fn refused(&mut self) -> Outcome {
        self.probes += 1;
        let bulk = spread(&format!("refused-{}-", self.probes), 1, Duration::from_millis(1), &mut self.dice);
        register(&self.queue, &self.history, &bulk).await
    }

    /// Waits until these are neither scheduled nor leased.
    pub(crate) async fn are_done(&self, ids: &[Id]) {
        for id in ids {
            eventually("an id is done", async || {
                let shown = self.queue.show(id).await.ok()?;
                shown.is_none_or(|shown| shown.state == State::Dead).then_some(())
            })
            .await;
        }
    }

    /// Waits until work goes on, and notes how long that took from this instant on.
    pub(crate) async fn resumes(&mut self, since_us: i64) {
        let ids = self.provide(1, Duration::from_millis(1)).await;
        self.are_done(&ids).await;
        let resumed_us = self.first_handled(since_us).unwrap_or_else(now_us);
        self.resumed = self.resumed.max(Some(Duration::from_micros((resumed_us - since_us) as u64)));
    }

    /// When a handler first began after this instant.
    fn first_handled(&self, since_us: i64) -> Option<i64> {
        let entries = self.history.entries();
        let recent = entries.iter().rev().take_while(|entry| entry.ended_us >= since_us);
        let handled = recent.filter(|entry| matches!(entry.event, Event::Handled { .. }));
        handled.map(|entry| entry.began_us).filter(|began_us| *began_us >= since_us).min()
    }

    /// How often schedulers logged this kind of trouble.
    fn felt(&self, kind: &str) -> usize {
        self.fleet.mentions(&format!("kind=\"{kind}\""))
    }

    /// Brings a fault about, waits until Redis has told a scheduler so, takes it away, and waits until work goes on.
    pub(crate) async fn endure(
        &mut self,
        fault: &str,
        kind: &str,
        on: impl AsyncFnOnce(&mut Self),
        off: impl AsyncFnOnce(&mut Self),
    ) {
        let before = self.felt(kind);
        on(self).await;
        eventually(kind, async || (self.felt(kind) > before).then_some(())).await;
        self.struck(fault);
        off(self).await;
        self.resumes(now_us()).await;
    }
}
