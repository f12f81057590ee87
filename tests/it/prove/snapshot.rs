//! The whole of a queue at one instant, and what is wrong with it: promises P7 and P9, beyond what clients see.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use overdue::{
    error::{Error, Result},
    queue::Queue,
};
use tokio::{task::JoinHandle, time::sleep};

use crate::support::{PARTS, RedisServer, Rig, T0, id, leases, registration, retry_of};

/// How far apart a [`Watch`] looks at least, and at most.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How much longer it pauses than a look took: some thousand ids take Redis a few milliseconds, and many more ids more.
const PAUSE: u32 = 20;

/// What an instant showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) scheduled: u64,
    pub(crate) leased: u64,
    pub(crate) dead: u64,
    /// What must never be, in words. Empty.
    pub(crate) findings: Vec<String>,
}

/// A key of a queue by its last part.
pub(crate) fn key(queue: &Queue, part: &str) -> String {
    format!("overdue:{{{}}}:{part}", queue.name())
}

/// Looks at a queue, once.
pub(crate) async fn snapshot(queue: &Queue) -> Result<Snapshot> {
    let mut command = redis::cmd("EVAL");
    command.arg(include_str!("snapshot.lua")).arg(8);
    for part in &PARTS[..8] {
        command.arg(key(queue, part));
    }
    let answer = queue.redis().run(&command).await?;
    let (scheduled, leased, dead, findings) = redis::from_redis_value(answer).expect("what the script says");
    Ok(Snapshot { scheduled, leased, dead, findings })
}

/// The same, and nothing may be wrong.
pub(crate) async fn sound(queue: &Queue) -> Snapshot {
    let snapshot = snapshot(queue).await.expect("Redis is well");
    assert_eq!(snapshot.findings, [""; 0]);
    snapshot
}

/// Looks at a queue again and again while other things happen.
pub(crate) struct Watch {
    seen: Arc<Mutex<(u64, Vec<String>)>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins to look. Where Redis does not answer there is nothing to see.
    pub(crate) fn over(queue: &Queue) -> Self {
        let (queue, seen) = (queue.clone(), Arc::<Mutex<(u64, Vec<String>)>>::default());
        let notes = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut pause = INTERVALS.0;
            loop {
                sleep(pause).await;
                let begun = Instant::now();
                match snapshot(&queue).await {
                    Ok(snapshot) => {
                        let mut notes = notes.lock().expect("held briefly");
                        notes.0 += 1;
                        notes.1.extend(snapshot.findings);
                    }
                    Err(Error::Redis(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                pause = (begun.elapsed() * PAUSE).clamp(INTERVALS.0, INTERVALS.1);
            }
        });
        Self { seen, task }
    }

    /// Ends, looks a last time, and answers how often it looked. Nothing may have been wrong.
    pub(crate) async fn end(self, queue: &Queue) -> u64 {
        self.task.abort();
        sound(queue).await;
        let (count, findings) = self.seen.lock().expect("held briefly").clone();
        assert_eq!(findings, [""; 0], "seen in one of {count} snapshots");
        count + 1
    }
}

/// A queue with ids in all states: `s` scheduled, `r` to be tried again, `l` leased, `both` leased and registered
/// anew, `d` dead.
async fn furnished() -> Rig {
    let rig = Rig::rooted_on(RedisServer::shared()).await;
    rig.buried("d", "p").await;
    rig.schedule_all(&["l", "both", "r"].map(|name| registration(name, T0, "p"))).await;
    let held = leases(&rig.claim_at(T0, 10).await);
    let retried = held.iter().find(|lease| lease.id == id("r")).expect("it was claimed");
    rig.when(T0).retry(&[retry_of(retried, 9)], 9).await.expect("retried");
    rig.put("both", T0 + 1, "q").await;
    rig.put("s", T0 + 1, "p").await;
    rig
}

#[tokio::test]
async fn a_sound_queue_has_no_findings() {
    let rig = furnished().await;
    let snapshot = sound(&rig).await;
    assert_eq!((snapshot.scheduled, snapshot.leased, snapshot.dead), (3, 2, 1));
}

#[tokio::test]
async fn every_broken_state_is_found() {
    let token = async |rig: &Rig| rig.members("leases").await.remove(0);
    for (found, verb, part, arguments) in [
        ("d is dead and scheduled", "ZADD", "scheduled", vec!["1767225600000", "d"]),
        ("l is dead and leased", "ZADD", "dead", vec!["1767225600000", "l"]),
        ("which has no end", "ZREM", "leases", vec!["TOKEN"]),
        ("which has no batch", "HDEL", "batches", vec!["TOKEN"]),
        ("whose batch lacks it", "ZADD", "leased", vec!["TOKEN", "stranger"]),
        ("which is beyond the last token", "HDEL", "meta", vec!["token"]),
        ("lease 7 holds nothing", "ZADD", "leases", vec!["1767225600000", "7"]),
        ("batch 7 belongs to no lease", "HSET", "batches", vec!["7", ""]),
        ("payload of l which is not there", "HSET", "payload", vec!["l", "p"]),
        ("payload of s which is not there", "ZREM", "scheduled", vec!["s"]),
        ("record of r which is not there", "ZREM", "scheduled", vec!["r"]),
        (":payload has a ttl", "PEXPIRE", "payload", vec!["600000"]),
    ] {
        let rig = furnished().await;
        let held = token(&rig).await;
        let arguments: Vec<&str> =
            arguments.into_iter().map(|word| if word == "TOKEN" { held.as_str() } else { word }).collect();
        let _: i64 = rig.on_key(verb, part, arguments).await;
        let findings = snapshot(&rig).await.expect("read").findings;
        assert!(findings.iter().any(|finding| finding.contains(found)), "{found}: {findings:?}");
    }
}

#[tokio::test]
#[should_panic(expected = "seen in one of")]
async fn a_watch_sees_what_was_wrong_only_for_a_while() {
    let rig = furnished().await;
    let watch = Watch::over(&rig);
    rig.hset("nobody", "p").await;
    let seen = Arc::clone(&watch.seen);
    crate::support::eventually("it was seen", async || {
        (!seen.lock().expect("held briefly").1.is_empty()).then_some(())
    })
    .await;
    let _: i64 = rig.on_key("HDEL", "payload", "nobody").await;
    watch.end(&rig).await;
}
