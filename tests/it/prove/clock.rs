//! The clock of Redis steps while it runs: a second or an hour, forward and back.

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use overdue::{
    Token,
    lock::{Lock, LockOptions},
    queue::{Claim, Settled},
    redis::Redis,
};
use rand::seq::SliceRandom as _;
use tempfile::TempDir;

use super::{
    checker::Clock,
    clients::Workload,
    history::{History, now_us},
    recorder::Policy,
    run::{Run, Terms, scaled},
    siege::{Handler, Siege, besiege},
};
use crate::support::{LIMIT, PATIENT, RedisServer, Rig, eventually, leases, program};

const HOUR_S: i64 = 3600;
/// Nothing fails: what is to be tried again at an hour of a wrong clock waits for that hour.
const RECEIVER: Policy = Policy { failing: 0.0, slow: (0.1, Duration::from_millis(200)), gone: 0.0 };
const LEASE: Duration = Duration::from_secs(2);

/// A Redis whose clock is this machine's and a number of seconds.
struct Faked {
    server: RedisServer,
    clock: FakedClock,
}

/// The file that says how many seconds.
struct FakedClock(TempDir);

impl Faked {
    /// None, and a line that says why, on a machine without libfaketime.
    #[expect(clippy::print_stdout, reason = "a test that was skipped says so")]
    fn start() -> Option<Self> {
        let Some(library) = libfaketime() else {
            println!("skipped: libfaketime is not installed, see need_faketime in scripts/lib/install.sh");
            return None;
        };
        let clock = FakedClock(tempfile::tempdir().expect("a temporary directory"));
        clock.set(0);
        let file = clock.0.path().join("offset");
        // Together with jemalloc it finds itself called in an endless loop: so Redis gets the malloc of libc.
        let preload = format!("LD_PRELOAD={} libc.so.6", library.display());
        let timestamp_file = format!("FAKETIME_TIMESTAMP_FILE={}", file.display());
        let options = ["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"];
        let program = ["env", &preload, &timestamp_file, options[0], options[1], program()];
        Some(Self { server: RedisServer::start_as(&program, &[], |_| {}), clock })
    }
}

/// Where distributions put it.
fn libfaketime() -> Option<PathBuf> {
    let multiarch =
        fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path().join("faketime")));
    let others = ["/usr/lib/faketime", "/usr/lib64/faketime", "/usr/local/lib/faketime"].map(PathBuf::from);
    let libraries = multiarch.chain(others).map(|dir| dir.join("libfaketimeMT.so.1"));
    libraries.into_iter().find(|library| library.exists())
}

impl FakedClock {
    fn set(&self, offset_s: i64) {
        let (new, file) = (self.0.path().join("new"), self.0.path().join("offset"));
        fs::write(&new, format!("{offset_s:+}\n")).expect("the directory is ours");
        fs::rename(new, file).expect("in one step");
    }

    /// Sets it, and sees that Redis has it. Answers whether that was a step forward.
    async fn step(&self, redis: &Redis, history: &History, offset_s: i64) -> bool {
        let before_us = offset_us(redis).await;
        self.set(offset_s);
        let stepped_us = eventually("the clock steps", async || {
            let now_us = offset_us(redis).await;
            ((now_us - offset_s * 1_000_000).abs() < 400_000).then_some(now_us - before_us)
        })
        .await;
        let (length, way) = (stepped_us.abs() / 1_000_000, if stepped_us > 0 { "forward" } else { "back" });
        let named = if length > 100 { "1 h" } else { "1 s" };
        history.struck(format!("clock {way} by {named}"));
        stepped_us > 0
    }
}

/// How far ahead the clock of Redis is.
async fn offset_us(redis: &Redis) -> i64 {
    redis.time().await.expect("Redis is well").as_ms() * 1000 - now_us()
}

const STEPS: [&str; 4] =
    ["clock forward by 1 s", "clock back by 1 s", "clock forward by 1 h", "clock back by 1 h"];

/// Steps the clock away and back again, each way and length, while clients and schedulers are at it.
async fn stepped(run: &mut Run, faked: &mut Faked, handler: Handler) -> u64 {
    let Faked { server, clock } = faked;
    let rounds = scaled(1);
    let load = Workload { ids: 1200 * rounds, over: Duration::from_secs(3) * rounds as u32, cancelled: 0.1 };
    besiege(run, server, handler, load, async |siege: &mut Siege<'_>| {
        for _ in 0..rounds {
            let mut offsets = [1, -1, HOUR_S, -HOUR_S];
            offsets.shuffle(&mut siege.dice);
            for offset_s in offsets {
                for offset_s in [offset_s, 0] {
                    siege.pause(Duration::from_millis(500)).await;
                    let (redis, history) = (siege.redis.clone(), siege.history.clone());
                    let is_forward = clock.step(&redis, &history, offset_s).await;
                    if is_forward {
                        siege.struck("leases cut short");
                    }
                }
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_of_the_clock_lose_nothing() {
    let Some(mut faked) = Faked::start() else { return };
    let mut run = Run::begin("clock of Redis steps, webhook");
    let duplicates = stepped(&mut run, &mut faked, Handler::Webhook(RECEIVER)).await;
    run.finish(Terms { clock: Clock::Faked, ..Terms::struck_by(STEPS).duplicates(duplicates) });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_of_the_clock_put_each_id_into_the_stream_once_and_never_early_by_it() {
    let Some(mut faked) = Faked::start() else { return };
    let mut run = Run::begin("clock of Redis steps, stream");
    stepped(&mut run, &mut faked, Handler::Stream).await;
    let rig = Rig::rooted_on(&faked.server).await;
    let keys: Vec<String> = rig.send(redis::cmd("KEYS").arg("overdue:*:fired")).await;
    let entries: Vec<(String, HashMap<String, String>)> =
        rig.send(redis::cmd("XRANGE").arg(&keys[0]).arg("-").arg("+")).await;
    let number =
        |fields: &HashMap<String, String>, name: &str| fields[name].parse::<i64>().expect("a number");
    let early = entries.iter().filter(|(_, entry)| number(entry, "fired_at") < number(entry, "due_at"));
    assert_eq!(early.count(), 0, "fired before their deadline by the clock of Redis");
    run.measure("fired_and_compared_with_the_clock_of_redis", entries.len());
    run.finish(Terms { clock: Clock::Faked, ..Terms::struck_by(STEPS) });
}

/// Claims until something is there, and that has to be after its deadline by Redis' own clock.
async fn claimed(rig: &Rig, last: Option<Token>) -> Claim {
    let claim = eventually("something can be claimed", async || {
        let claim = rig.claim(10, LEASE).await.expect("Redis is well");
        (!claim.deliveries.is_empty()).then_some(claim)
    })
    .await;
    for delivery in &claim.deliveries {
        assert!(delivery.due_at.as_ms() <= claim.now.as_ms(), "{delivery:?}");
    }
    assert!(claim.token > last, "{:?} after {last:?}", claim.token);
    claim
}

#[tokio::test]
async fn after_a_step_back_what_a_dead_process_held_is_back_after_its_lease() {
    let Some(Faked { server, clock }) = Faked::start() else { return };
    let (mut run, rig) =
        (Run::begin("clock of Redis steps back, dead process"), Rig::rooted_on(&server).await);
    for step_s in [1, HOUR_S] {
        clock.set(step_s);
        let now_ms = rig.redis().time().await.expect("the time").as_ms();
        // Due by the clock before the step and by the one after it.
        rig.zadd("abandoned", now_ms - 2 * step_s * 1000).await;
        let begun = Instant::now();
        let dead = claimed(&rig, None).await;
        clock.step(rig.redis(), &run.history, 0).await;
        let heir = claimed(&rig, dead.token).await;
        // By the monotonic clock, from before the first claim: never before the lease was over.
        assert!(begun.elapsed() >= LEASE, "taken away after {:?} of {LEASE:?}", begun.elapsed());
        let name = if step_s == 1 { "back_after_ms_of_step_1_s" } else { "back_after_ms_of_step_1_h" };
        run.measure_ms(name, begun.elapsed());
        assert_eq!(rig.ack(&leases(&dead)).await.expect("answered"), [Settled::Stale]);
        assert_eq!(rig.ack(&leases(&heir)).await.expect("answered"), [Settled::Done]);
    }
    run.measure_ms("lease_ms", LEASE);
    run.finish(Terms { clock: Clock::Faked, ..Terms::struck_by(["clock back by 1 s", "clock back by 1 h"]) });
}

#[tokio::test]
async fn after_a_step_back_a_lease_that_is_extended_lives_on() {
    let Some(Faked { server, clock }) = Faked::start() else { return };
    let (run, rig) = (Run::begin("clock of Redis steps back, live process"), Rig::rooted_on(&server).await);
    let now_ms = rig.redis().time().await.expect("the time").as_ms();
    rig.zadd("held", now_ms).await;
    let lease = Duration::from_secs(600);
    let held = rig.claim(1, lease).await.expect("claimed");
    let end_ms = async || -> i64 {
        let ends: Vec<(String, i64)> = rig.on_key("ZRANGE", "leases", ("0", "-1", "WITHSCORES")).await;
        ends[0].1 - rig.redis().time().await.expect("the time").as_ms()
    };
    for offset_s in [HOUR_S, 0, -HOUR_S, -HOUR_S - 2] {
        clock.step(rig.redis(), &run.history, offset_s).await;
        let extended = rig.extend(&[held.token.expect("claimed")], lease).await.expect("extended");
        assert_eq!(extended, [Settled::Done]);
        let left_ms = end_ms().await;
        assert!(left_ms <= 600_000, "{left_ms} ms are left of ten minutes");
        // Nobody takes it, however often it is tried, and no end is mended twice.
        for _ in 0..3 {
            assert!(rig.claim(1, lease).await.expect("answered").deliveries.is_empty());
        }
        assert!(end_ms().await > 600_000 - 60_000, "shortened");
    }
    assert_eq!(rig.ack(&leases(&held)).await.expect("acked"), [Settled::Done]);
    run.finish(Terms { clock: Clock::Faked, ..Terms::struck_by(["clock back by 1 h", "clock back by 1 s"]) });
}

#[tokio::test]
async fn a_step_forward_ends_the_leases_and_what_was_in_flight_is_handed_over_again() {
    let Some(Faked { server, clock }) = Faked::start() else { return };
    let (mut run, rig) = (Run::begin("clock of Redis steps forward"), Rig::rooted_on(&server).await);
    let now_ms = rig.redis().time().await.expect("the time").as_ms();
    for n in 0..10 {
        rig.zadd(format!("n{n}"), now_ms).await;
    }
    let first = claimed(&rig, None).await;
    clock.step(rig.redis(), &run.history, HOUR_S).await;
    let again = claimed(&rig, first.token).await;
    assert_eq!((first.deliveries.len(), again.deliveries.len()), (10, 10));
    run.measure("handed_over_again", again.deliveries.len());
    assert_eq!(rig.ack(&leases(&first)).await.expect("answered"), [Settled::Stale; 10]);
    assert_eq!(rig.ack(&leases(&again)).await.expect("answered"), [Settled::Done; 10]);
    run.finish(Terms { clock: Clock::Faked, ..Terms::struck_by(["clock forward by 1 h"]) });
}

#[tokio::test]
async fn a_step_forward_frees_a_lock_that_is_held_and_only_its_number_tells() {
    let Some(Faked { server, clock }) = Faked::start() else { return };
    let run = Run::begin("clock of Redis steps forward, lock");
    let redis = Redis::open(&server.url(), PATIENT).expect("a valid url");
    let options = LockOptions { ttl: LIMIT, wait: LIMIT };
    let lock = Lock::new(redis.clone(), "overdue", "door".parse().expect("a name"), options).expect("valid");
    let first = lock.acquire().await.expect("free");
    clock.step(&redis, &run.history, HOUR_S).await;
    let second = lock.acquire().await.expect("free again");
    assert!(first.is_held(), "it has heard nothing yet");
    assert!(second.fence() > first.fence());
    run.finish(Terms { clock: Clock::Faked, ..Terms::struck_by(["clock forward by 1 h"]) });
}
