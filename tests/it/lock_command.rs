//! `overdue lock`, as a process beside others.

use std::{
    fs,
    time::{Duration, Instant},
};

use overdue::lock::Release;

use crate::{
    lock::Door,
    support::{
        LIMIT, RedisServer, eventually,
        process::{Place, Serve},
    },
};

/// A lock, and a place whose configuration names its Redis.
struct Shop {
    door: Door,
    place: Place,
}

impl Shop {
    async fn new() -> Self {
        Self::on(RedisServer::shared()).await
    }

    async fn on(server: &RedisServer) -> Self {
        let place = Place::new(&format!("[redis]\nurl = \"{}\"\n", server.url()));
        Self { door: Door::on(server).await, place }
    }

    /// The arguments of `overdue lock` for a shell script.
    fn arguments<'a>(&'a self, flags: &[&'a str], script: &'a str) -> Vec<&'a str> {
        [&["lock", &self.door.key], flags, &["--", "sh", "-c", script]].concat()
    }

    /// Runs it to its end.
    fn run(&self, flags: &[&str], script: &str) -> crate::support::process::Ran {
        self.place.run(&self.arguments(flags, script))
    }

    /// Starts it, and waits until the script has come to READY, where it writes its process id to the file `pid`.
    async fn start(&self, flags: &[&str], script: &str) -> Serve {
        assert!(script.contains("READY"));
        let script = script.replace("READY", "echo $$ > pid.part; mv pid.part pid");
        let started = self.place.start(&self.arguments(flags, &script), &[]);
        self.file("pid").await;
        started
    }

    /// Waits for a file with whole lines, and gives it.
    async fn file(&self, name: &str) -> String {
        let read =
            async || fs::read_to_string(self.place.path(name)).ok().filter(|text| text.ends_with('\n'));
        eventually(name, read).await
    }

    /// True if the script's process runs.
    async fn script_runs(&self) -> bool {
        let pid = self.file("pid").await;
        fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z"))
    }
}

/// Ends at a SIGTERM, which it notes in the file `told`, and only then.
const UNTIL_TERM: &str = "trap 'echo TERM > told; exit 3' TERM; READY; while :; do sleep 0.05; done";

#[tokio::test]
async fn the_exit_code_is_that_of_the_command() {
    let shop = Shop::new().await;
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        assert_eq!(shop.run(&[], script).code(), code, "{script}");
        assert_eq!(shop.door.token().await, None, "it is released");
    }
}

#[tokio::test]
async fn what_cannot_run_is_named_and_the_lock_is_released() {
    let shop = Shop::new().await;
    for (program, code) in [("./missing", 127), ("./overdue.toml", 126)] {
        shop.place.run(&["lock", &shop.door.key, "--", program]).fails(code, &["cannot run", program]);
        assert_eq!(shop.door.token().await, None);
    }
    shop.place.run(&["lock", &shop.door.key]).fails(2, &["COMMAND"]);
    shop.place.run(&["lock", "a{b}", "--", "true"]).fails(2, &["brace"]);
    shop.run(&["--ttl", "1ms"], "exit 0").fails(2, &["ttl `1ms`", "100ms"]);
}

#[tokio::test]
async fn the_command_inherits_streams_and_environment_and_learns_key_and_fence() {
    let shop = Shop::new().await;
    shop.place.write("input", "from stdin\n");
    let script = "cat; echo $OVERDUE_LOCK_KEY $OVERDUE_LOCK_FENCE $SHOP; echo to stderr >&2";
    let input = fs::File::open(shop.place.path("input")).unwrap();
    let ran = shop.place.run_with(&shop.arguments(&[], script), input.into(), &[("SHOP", "kept")]);
    let stdout = ran.ok();
    let (line, rest) = stdout.split_once('\n').unwrap();
    assert_eq!((line, ran.stderr().as_str()), ("from stdin", "to stderr\n"));
    let words: Vec<&str> = rest.split_whitespace().collect();
    assert_eq!((words[0], words[2]), (shop.door.key.as_str(), "kept"));
    let fence: u64 = words[1].parse().unwrap();
    let held = shop.door.lock(LIMIT, LIMIT).acquire().await.unwrap();
    assert!(held.fence() > fence);
}

#[tokio::test]
async fn a_nested_overdue_is_not_confused_by_the_variables() {
    let shop = Shop::new().await;
    let nested = format!(
        "{0} config check && {0} lock inner-{1} -- sh -c 'echo $OVERDUE_LOCK_KEY'",
        env!("CARGO_BIN_EXE_overdue"),
        shop.door.key
    );
    let stdout = shop.run(&[], &nested).ok();
    assert!(stdout.ends_with(&format!("inner-{}\n", shop.door.key)), "{stdout}");
}

#[tokio::test]
async fn a_lock_that_another_has_is_not_obtained_and_nothing_runs() {
    let shop = Shop::new().await;
    let held = shop.door.lock(LIMIT, LIMIT).acquire().await.unwrap();
    let begun = Instant::now();
    shop.run(&[], "touch ran").fails(1, &[&shop.door.key, "another holds it", "its ttl has"]);
    shop.run(&["--wait", "300ms"], "touch ran").fails(1, &["within 300ms"]);
    assert!(begun.elapsed() >= Duration::from_millis(300), "it waited");
    assert!(!shop.place.path("ran").exists());
    assert_eq!(held.release().await.unwrap(), Release::Released);
    shop.run(&["--wait", "60s"], "touch ran").ok();
    assert!(shop.place.path("ran").exists());
}

#[tokio::test]
async fn a_holder_killed_with_9_is_replaced_after_the_ttl_and_never_before() {
    let shop = Shop::new().await;
    let begun = Instant::now();
    // Its stderr is closed, for the one who reads it waits for its end.
    let holder = shop.start(&["--ttl", "2s"], "READY; exec sleep 1000 2>/dev/null").await;
    let pid = shop.file("pid").await;
    holder.kill9().await;
    let held = shop.door.lock(LIMIT, LIMIT).acquire().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(held);
    // As the README says: what it ran runs on, and only the fence keeps it out.
    assert!(shop.script_runs().await);
    assert!(std::process::Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
}

#[tokio::test]
async fn signals_are_passed_on_and_the_lock_is_released_when_the_command_has_ended() {
    for (signal, code) in [("TERM", 3), ("INT", 4), ("HUP", 5), ("USR1", 6)] {
        let shop = Shop::new().await;
        let script = "trap 'exit 3' TERM; trap 'exit 4' INT; trap 'exit 5' HUP; trap 'exit 6' USR1
            READY; while :; do sleep 0.05; done";
        let mut started = shop.start(&[], script).await;
        started.signal(signal);
        assert_eq!(started.ended().await, Some(code), "{signal}");
        assert_eq!(shop.door.token().await, None);
    }
}

#[tokio::test]
async fn a_signal_ends_the_wait() {
    let shop = Shop::new().await;
    let held = shop.door.lock(LIMIT, LIMIT).acquire().await.unwrap();
    let mut waiting = shop.place.start(&shop.arguments(&["--wait", "1h"], "touch ran"), &[]);
    // It listens for signals before it connects.
    eventually("it listens", async || {
        let status = fs::read_to_string(format!("/proc/{}/status", waiting.pid())).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        (u64::from_str_radix(caught.trim(), 16).ok()? & (1 << 14) != 0).then_some(())
    })
    .await;
    waiting.signal("TERM");
    assert_eq!(waiting.ended().await, Some(143));
    assert!(!shop.place.path("ran").exists());
    assert_eq!(held.release().await.unwrap(), Release::Released);
    assert_eq!(shop.door.token().await, None);
}

#[tokio::test]
async fn a_lost_lock_ends_the_command_by_sigterm() {
    for taken in [false, true] {
        let shop = Shop::new().await;
        let mut holder = shop.start(&["--ttl", "3s"], UNTIL_TERM).await;
        if taken {
            shop.door.set("another").await;
        } else {
            shop.door.remove().await;
        }
        assert_eq!(holder.ended().await, Some(125));
        assert_eq!(shop.file("told").await, "TERM\n");
        assert!(holder.says("is lost").await.contains(&shop.door.key));
        assert_eq!(shop.door.token().await.is_some(), taken, "another's is left alone");
    }
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed_with_its_group() {
    let shop = Shop::new().await;
    let script = "trap '' TERM; sleep 1000 & echo $! > child; READY; while :; do wait; done";
    let mut holder = shop.start(&["--ttl", "3s", "--kill-after", "200ms"], script).await;
    let child = shop.file("child").await;
    shop.door.remove().await;
    assert_eq!(holder.ended().await, Some(125));
    assert!(!shop.script_runs().await);
    eventually("its child is gone, too", async || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_is_away_past_the_ttl_is_a_lost_lock() {
    let mut server = RedisServer::start();
    let shop = Shop::on(&server).await;
    let mut holder = shop.start(&["--ttl", "2s"], UNTIL_TERM).await;
    server.kill9();
    assert_eq!(holder.ended().await, Some(125));
    assert_eq!(shop.file("told").await, "TERM\n");
    holder.says("could not be extended in time").await;
}

#[tokio::test]
async fn a_holder_that_was_stopped_past_the_ttl_is_told() {
    let shop = Shop::new().await;
    let mut holder = shop.start(&["--ttl", "1s"], UNTIL_TERM).await;
    holder.signal("STOP");
    shop.door.gone().await;
    let held = shop.door.lock(LIMIT, LIMIT).acquire().await.unwrap();
    holder.signal("CONT");
    assert_eq!(holder.ended().await, Some(125));
    assert_eq!(shop.file("told").await, "TERM\n");
    assert_eq!(held.release().await.unwrap(), Release::Released, "the next holder was left alone");
}

#[tokio::test]
async fn a_command_that_ends_after_the_lock_was_lost_is_told_by_its_release() {
    let shop = Shop::new().await;
    // Its first extension is hours away.
    let mut holder = shop.start(&["--ttl", "24h"], "READY; while [ ! -e go ]; do sleep 0.05; done").await;
    shop.door.remove().await;
    shop.place.write("go", "");
    assert_eq!(holder.ended().await, Some(125));
    holder.says("is lost").await;
}

#[tokio::test]
async fn of_many_processes_one_runs_at_a_time() {
    let shop = Shop::new().await;
    // mkdir fails if another is inside; the counter is read and written as a whole.
    let script = "mkdir inside || exit 9
        n=$(cat counter 2>/dev/null || echo 0); sleep 0.02; echo $((n + 1)) > counter
        rmdir inside";
    let arguments = shop.arguments(&["--wait", "1h"], script);
    let mut started: Vec<Serve> = (0..24).map(|_| shop.place.start(&arguments, &[])).collect();
    for process in &mut started {
        assert_eq!(process.ended().await, Some(0), "{:?}", process.log());
    }
    assert_eq!(shop.file("counter").await, "24\n");
}

/// A store that was told a larger fence refuses: then `read` answers nothing, and `write` 0.
const READ: &str = "
    local seen = tonumber(redis.call('HGET', KEYS[1], 'fence') or 0)
    if tonumber(ARGV[1]) < seen then return false end
    redis.call('HSET', KEYS[1], 'fence', ARGV[1])
    return redis.call('HGET', KEYS[1], 'value') or '0'";
const WRITE: &str = "
    if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
    redis.call('HSET', KEYS[1], 'value', ARGV[2])
    return redis.call('RPUSH', KEYS[2], ARGV[1] .. ' ' .. ARGV[2])";

/// The short form of `scripts/lock-race`.
#[tokio::test]
async fn holders_are_killed_at_work_and_no_update_is_lost() {
    const PATIENT_ONES: usize = 6;
    const KILLED: usize = 4;
    const ROUNDS: usize = 8;
    let shop = Shop::new().await;
    shop.place.write("read.lua", READ);
    shop.place.write("write.lua", WRITE);
    let (socket, counter) = (RedisServer::shared().socket().display().to_string(), &shop.door.key);
    let increment = |pause: &str, ready: &str| {
        format!(
            "n=$(redis-cli -s {socket} --eval read.lua counter-{counter} , $OVERDUE_LOCK_FENCE); [ \"$n\" ] || exit 8
             {ready}; sleep {pause}
             wrote=$(redis-cli -s {socket} --eval write.lua counter-{counter} writes-{counter} , \
                 $OVERDUE_LOCK_FENCE $((n + 1)))
             [ \"$wrote\" != 0 ] || exit 8"
        )
    };
    // These keep the lock to the end, so the store must never refuse them, and none may be told that it is lost.
    let patient = async || {
        for _ in 0..ROUNDS {
            let script = increment("0.01", ":");
            let mut holder =
                shop.place.start(&shop.arguments(&["--ttl", "10s", "--wait", "1h"], &script), &[]);
            assert_eq!(holder.ended().await, Some(0), "{:?}", holder.log());
        }
    };
    // These die with a read behind them. What every other of them ran goes on, and writes when its ttl is over.
    let killed = async || {
        for round in 0..KILLED {
            let name = format!("victim-{round}");
            let ready = format!("echo $$ > {name}.part; mv {name}.part {name}");
            let script = increment("1", &ready);
            let holder = shop.place.start(&shop.arguments(&["--ttl", "500ms", "--wait", "1h"], &script), &[]);
            let pid = shop.file(&name).await;
            if round % 2 == 0 {
                holder.kill9().await;
            } else {
                holder.signal("KILL");
                let group = format!("-{}", pid.trim());
                let _ = std::process::Command::new("kill").args(["-9", "--", &group]).status();
                holder.kill9().await;
            }
        }
    };
    let patient = futures_util::future::join_all((0..PATIENT_ONES).map(|_| patient()));
    futures_util::future::join(patient, killed()).await;

    let writes = shop.door.list(&format!("writes-{counter}")).await;
    let number = |text: Option<&str>| -> u64 { text.expect("a word").parse().expect("a number") };
    let writes: Vec<(u64, u64)> = writes
        .iter()
        .map(|line| line.split_whitespace())
        .map(|mut words| (number(words.next()), number(words.next())))
        .collect();
    let sure = PATIENT_ONES * ROUNDS;
    assert!((sure..=sure + KILLED).contains(&writes.len()), "{} writes", writes.len());
    for (n, (_, value)) in writes.iter().enumerate() {
        assert_eq!(*value, n as u64 + 1, "an update was lost: {writes:?}");
    }
    assert!(writes.is_sorted_by(|a, b| a.0 < b.0), "a fence came twice, or late: {writes:?}");
}
