//! The embedded redis-server: real processes, real signals, one data directory each.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use overdue::redis::embedded::{Embedded, EmbeddedError, EmbeddedSettings, Stopped, find};
use tempfile::TempDir;

use crate::support::{
    connect, eventually,
    process::{Place, Serve},
};

fn data_dir() -> TempDir {
    tempfile::Builder::new().prefix("overdue-test-").tempdir().unwrap()
}

async fn start(dir: &Path) -> Embedded {
    try_start(dir).await.unwrap()
}

async fn try_start(dir: &Path) -> Result<Embedded, EmbeddedError> {
    Embedded::start(EmbeddedSettings { data_dir: dir.to_owned(), port: None }).await
}

async fn set(url: &str, key: &str, value: &str) {
    let mut connection = connect(url).await.unwrap();
    redis::cmd("SET").arg(key).arg(value).exec_async(&mut connection).await.unwrap();
}

async fn get(url: &str, key: &str) -> redis::RedisResult<Option<String>> {
    redis::cmd("GET").arg(key).query_async(&mut connect(url).await?).await
}

async fn setting(url: &str, name: &str) -> String {
    let mut connection = connect(url).await.unwrap();
    let reply: Vec<String> =
        redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await.unwrap();
    reply[1].clone()
}

async fn server_pid(url: &str) -> String {
    let info: String =
        redis::cmd("INFO").arg("server").query_async(&mut connect(url).await.unwrap()).await.unwrap();
    info.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap().to_owned()
}

fn signal(name: &str, pid: &str) -> bool {
    Command::new("kill").args([name, pid]).stderr(Stdio::null()).status().unwrap().success()
}

/// Not for a zombie: it is gone when its parent has reaped it.
fn gone(pid: &str) -> Option<()> {
    (!signal("-0", pid)).then_some(())
}

/// The last incremental file of the AOF.
fn aof(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir.join("appendonlydir")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().ends_with(".incr.aof")).max().unwrap()
}

/// Another process that owns an embedded server.
async fn owner(dir: &Path) -> (Place, Serve) {
    let place = Place::new(&format!("[redis]\ndata_dir = \"{}\"\n", dir.display()));
    let serve = place.serve().await;
    (place, serve)
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let dir = data_dir();
    let data_dir = dir.path().join("not there yet/50% #1");
    let embedded = start(&data_dir).await;
    let url = embedded.url().to_owned();
    assert!(!embedded.joined());
    assert_eq!(find(&data_dir).as_ref(), Some(&url));
    assert_eq!(fs::metadata(&data_dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(data_dir.join("redis.sock")).unwrap().permissions().mode() & 0o777, 0o700);
    for (name, value) in
        [("appendonly", "yes"), ("appendfsync", "everysec"), ("maxmemory-policy", "noeviction"), ("save", "")]
    {
        assert_eq!(setting(&url, name).await, value, "{name}");
    }
    set(&url, "deadline", "kept").await;
    let pid = server_pid(&url).await;

    assert_eq!(embedded.stop().await.unwrap(), Stopped::Shutdown);
    assert_eq!(find(&data_dir), None);
    eventually("the process is reaped", async || gone(&pid)).await;

    let embedded = start(&data_dir).await;
    assert_eq!(get(embedded.url(), "deadline").await.unwrap().as_deref(), Some("kept"));
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_port_is_opened_on_loopback_only_when_asked_for() {
    let dir = data_dir();
    let embedded = start(dir.path()).await;
    assert_eq!(setting(embedded.url(), "port").await, "0");
    embedded.stop().await.unwrap();

    let free_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = EmbeddedSettings { data_dir: dir.path().to_owned(), port: Some(free_port) };
    let embedded = Embedded::start(settings).await.unwrap();
    set(embedded.url(), "deadline", "kept").await;
    let over_tcp = format!("redis://127.0.0.1:{free_port}");
    assert_eq!(get(&over_tcp, "deadline").await.unwrap().as_deref(), Some("kept"));
    assert_eq!(setting(embedded.url(), "bind").await, "127.0.0.1");
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_comes_back_with_its_data() {
    let dir = data_dir();
    let embedded = start(dir.path()).await;
    for life in 1..=3 {
        set(embedded.url(), "life", &life.to_string()).await;
        let pid = server_pid(embedded.url()).await;
        assert!(signal("-9", &pid));
        eventually("the killed process is reaped", async || gone(&pid)).await;
        eventually("the server is back", async || get(embedded.url(), "life").await.ok()).await;
        assert_eq!(get(embedded.url(), "life").await.unwrap(), Some(life.to_string()));
    }
    assert_eq!(embedded.stop().await.unwrap(), Stopped::Shutdown);
}

#[tokio::test]
async fn a_second_start_joins_and_the_last_stop_ends_the_server() {
    let dir = data_dir();
    let first = start(dir.path()).await;
    let second = start(dir.path()).await;
    assert!(second.joined());
    assert_eq!(first.url(), second.url());
    set(first.url(), "deadline", "kept").await;

    assert_eq!(first.stop().await.unwrap(), Stopped::LeftToOthers);
    assert_eq!(get(second.url(), "deadline").await.unwrap().as_deref(), Some("kept"));
    let pid = server_pid(second.url()).await;
    assert!(signal("-9", &pid));
    eventually("the second one brings the server back", async || get(second.url(), "deadline").await.ok())
        .await;
    assert_eq!(second.stop().await.unwrap(), Stopped::Shutdown);
    assert_eq!(find(dir.path()), None);
}

#[tokio::test]
async fn the_server_of_a_killed_owner_is_joined_and_stopped() {
    let dir = data_dir();
    let (place, serve) = owner(dir.path()).await;
    let url = find(dir.path()).unwrap();
    place.run(&["schedule", "orders", "kept", "--in", "1h"]).ok();
    let pid = server_pid(&url).await;
    serve.kill9().await;
    assert_eq!(server_pid(&url).await, pid, "the server outlives its owner");

    let heir = place.serve().await;
    assert!(heir.says("serving").await.contains("joined=true"));
    place.run(&["show", "orders", "kept"]).ok();
    heir.stop().await;
    assert_eq!(find(dir.path()), None);
}

#[tokio::test]
async fn an_owner_and_its_server_killed_together_leave_nothing_to_repair() {
    let dir = data_dir();
    let (place, serve) = owner(dir.path()).await;
    place.run(&["schedule", "orders", "kept", "--in", "1h"]).ok();
    let pid = server_pid(&find(dir.path()).unwrap()).await;
    serve.kill9().await;
    assert!(signal("-9", &pid));

    let serve = place.serve().await;
    place.run(&["show", "orders", "kept"]).ok();
    serve.stop().await;
}

#[tokio::test]
async fn a_second_serve_joins_and_the_first_leaves_it_the_server() {
    let dir = data_dir();
    let (place, first) = owner(dir.path()).await;
    let second = place.serve().await;
    assert!(second.says("serving").await.contains("joined=true"));
    first.stop().await;
    place.run(&["schedule", "orders", "late", "--in", "1ms"]).ok();
    second.says("id=late").await;
    second.stop().await;
    assert_eq!(find(dir.path()), None);
}

#[tokio::test]
async fn what_a_dead_server_left_behind_is_cleared_away() {
    let dir = data_dir();
    drop(UnixListener::bind(dir.path().join("redis.sock")).unwrap());
    let stale = fs::metadata(dir.path().join("redis.sock")).unwrap().ino();
    assert!(connect(&find(dir.path()).unwrap()).await.is_err());
    let half_rewritten = dir.path().join("temp-rewriteaof-4711.aof");
    fs::write(&half_rewritten, "REDIS").unwrap();

    let embedded = start(dir.path()).await;
    assert!(!embedded.joined());
    assert_ne!(fs::metadata(dir.path().join("redis.sock")).unwrap().ino(), stale);
    assert!(!half_rewritten.exists());
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn starts_and_stops_at_the_same_instant_agree() {
    let dir = data_dir();
    for round in 0..3 {
        let starts: Vec<_> = (0..8)
            .map(|_| {
                let dir = dir.path().to_owned();
                tokio::spawn(async move { start(&dir).await })
            })
            .collect();
        let mut all = Vec::new();
        for start in starts {
            all.push(start.await.unwrap());
        }
        assert_eq!(all.iter().filter(|embedded| !embedded.joined()).count(), 1, "one server");
        let pid = server_pid(all[0].url()).await;
        set(all[0].url(), "round", &round.to_string()).await;

        let stops: Vec<_> = all.into_iter().map(|embedded| tokio::spawn(embedded.stop())).collect();
        let mut shutdowns = 0;
        for stop in stops {
            shutdowns += usize::from(stop.await.unwrap().unwrap() == Stopped::Shutdown);
        }
        assert!(shutdowns >= 1, "somebody was the last");
        assert_eq!(find(dir.path()), None);
        eventually("the process is reaped", async || gone(&pid)).await;
    }
}

#[tokio::test]
async fn a_start_during_a_stop_gets_a_server_that_stays() {
    let dir = data_dir();
    for _ in 0..10 {
        let first = start(dir.path()).await;
        set(first.url(), "deadline", "kept").await;
        let stopping = tokio::spawn(first.stop());
        let second = start(dir.path()).await;
        stopping.await.unwrap().unwrap();
        assert_eq!(get(second.url(), "deadline").await.unwrap().as_deref(), Some("kept"));
        assert_eq!(second.stop().await.unwrap(), Stopped::Shutdown);
    }
}

#[tokio::test]
async fn a_torn_tail_of_the_aof_costs_only_the_last_write() {
    let dir = data_dir();
    let embedded = start(dir.path()).await;
    set(embedded.url(), "first", "kept").await;
    set(embedded.url(), "last", "torn").await;
    embedded.stop().await.unwrap();

    let aof = OpenOptions::new().write(true).open(aof(dir.path())).unwrap();
    aof.set_len(aof.metadata().unwrap().len() - 3).unwrap();

    let embedded = start(dir.path()).await;
    assert_eq!(get(embedded.url(), "first").await.unwrap().as_deref(), Some("kept"));
    assert_eq!(get(embedded.url(), "last").await.unwrap(), None);
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_written_after_a_torn_transaction_is_there_after_the_next_start() {
    let dir = data_dir();
    let embedded = start(dir.path()).await;
    set(embedded.url(), "first", "kept").await;
    let mut transaction = redis::pipe();
    transaction.atomic().set("torn 1", "").ignore().set("torn 2", "").ignore();
    transaction.exec_async(&mut connect(embedded.url()).await.unwrap()).await.unwrap();
    embedded.stop().await.unwrap();

    // Inside of the second SET.
    let aof = OpenOptions::new().write(true).open(aof(dir.path())).unwrap();
    aof.set_len(aof.metadata().unwrap().len() - 20).unwrap();

    let embedded = start(dir.path()).await;
    set(embedded.url(), "after", "kept").await;
    embedded.stop().await.unwrap();
    let embedded = start(dir.path()).await;
    for (key, value) in [("first", Some("kept")), ("torn 1", None), ("torn 2", None), ("after", Some("kept"))]
    {
        assert_eq!(get(embedded.url(), key).await.unwrap().as_deref(), value, "{key}");
    }
    embedded.stop().await.unwrap();
}

#[tokio::test]
async fn a_corrupt_aof_is_an_error_that_quotes_the_log() {
    let dir = data_dir();
    let embedded = start(dir.path()).await;
    set(embedded.url(), "deadline", "lost").await;
    embedded.stop().await.unwrap();
    let mut aof = OpenOptions::new().append(true).open(aof(dir.path())).unwrap();
    aof.write_all(b"this is no AOF\r\n").unwrap();

    let error = try_start(dir.path()).await.unwrap_err();
    assert!(matches!(error, EmbeddedError::Died { .. }), "{error:?}");
    assert!(error.to_string().contains("redis-check-aof"), "{error}");
    assert!(error.to_string().contains("redis.log"), "{error}");
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_quotes_the_log() {
    let dir = data_dir();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Some(taken.local_addr().unwrap().port());
    let settings = EmbeddedSettings { data_dir: dir.path().to_owned(), port };
    let error = Embedded::start(settings).await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
}

#[tokio::test]
async fn without_a_redis_server_the_error_says_how_to_install_one() {
    let place = Place::new("");
    let ran = place.run_with(&["serve"], Stdio::null(), &[("PATH", "/nowhere")]);
    ran.fails(
        1,
        &["apt-get install redis-server", "brew install redis", "dnf install redis", "valkey-server"],
    );
}

#[tokio::test]
async fn a_valkey_server_does_as_well() {
    let path = std::env::var_os("PATH").unwrap();
    let mut binaries = std::env::split_paths(&path).map(|dir| dir.join("redis-server"));
    let place = Place::new("");
    let bin = place.path("bin");
    fs::create_dir(&bin).unwrap();
    symlink(binaries.find(|binary| binary.exists()).unwrap(), bin.join("valkey-server")).unwrap();
    let serve = place.serve_with(&[("PATH", bin.to_str().unwrap())]);
    serve.says("serving").await;
    serve.stop().await;
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_refused_before_anything_is_created() {
    let dir = data_dir();
    let long = dir.path().join("x".repeat(100));
    let error = try_start(&long).await.unwrap_err();
    assert!(error.to_string().contains("choose a shorter `redis.data_dir`"), "{error}");
    assert!(!long.exists());
}

#[tokio::test]
async fn an_unusable_data_dir_is_named() {
    let dir = data_dir();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = try_start(&file.join("data")).await.unwrap_err().to_string();
    assert!(error.contains(file.to_str().unwrap()) && error.contains("cannot be used"), "{error}");
}

#[tokio::test]
async fn a_dropped_server_shuts_down() {
    let dir = data_dir();
    let embedded = start(dir.path()).await;
    let pid = server_pid(embedded.url()).await;
    drop(embedded);
    eventually("the server is gone", async || gone(&pid)).await;
}

#[tokio::test]
async fn a_throw_away_server_leaves_nothing() {
    for dropped in [false, true] {
        let embedded = Embedded::ephemeral().await.unwrap();
        let url = embedded.url().to_owned();
        let dir = PathBuf::from(setting(&url, "dir").await);
        let pid = server_pid(&url).await;
        assert_eq!(setting(&url, "appendonly").await, "no");
        set(&url, "deadline", "thrown away").await;
        assert!(dir.exists());
        if dropped {
            drop(embedded);
        } else {
            assert_eq!(embedded.stop().await.unwrap(), Stopped::Shutdown);
        }
        assert!(!dir.exists());
        eventually("the server is gone", async || gone(&pid)).await;
        assert!(!dir.exists());
    }
}

#[tokio::test]
async fn a_signal_stops_a_serve_that_still_waits_for_its_server() {
    let dir = data_dir();
    let (place, first) = owner(dir.path()).await;
    let pid = server_pid(&find(dir.path()).unwrap()).await;
    assert!(signal("-STOP", &pid));
    first.kill9().await;

    let mut waiting = place.serve_with(&[]);
    // Once it holds its lock it has got past the start of the process, and waits for an answer.
    let lock = std::fs::File::open(dir.path().join("serve.lock")).unwrap();
    eventually("it waits", async || {
        lock.try_lock().is_err().then_some(()).or_else(|| {
            lock.unlock().ok();
            None
        })
    })
    .await;
    waiting.signal("TERM");
    assert_eq!(waiting.ended().await, Some(0));
    assert!(signal("-CONT", &pid));
    start(dir.path()).await.stop().await.unwrap();
}
