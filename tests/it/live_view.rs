//! `stats --watch` on a terminal, which is the one that `script` of util-linux makes.
#![cfg(target_os = "linux")]

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use crate::support::{RedisServer, Rig, eventually};

/// Leaves the screen that the view had for itself.
const LEAVES: &str = "\x1b[?1049l";

#[tokio::test]
async fn a_late_queue_is_seen_and_paused_and_the_terminal_is_left_as_it_was() {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: there is no `script` to make a terminal");
        return;
    }
    let rig = Rig::new().await;
    rig.zadd("order-\u{1b}[2J", 1_767_225_600_000_i64).await;
    let (url, queue) = (RedisServer::shared().url(), rig.name());
    let overdue = env!("CARGO_BIN_EXE_overdue");
    let line = format!(
        "stty cols 100 rows 30; {overdue} --redis-url '{url}' stats {queue} --watch --interval 100ms; echo left with $?"
    );
    let mut child = Command::new("script")
        .args(["-qefc", &line, "/dev/null"])
        .env("TERM", "xterm-256color")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script runs");
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let writes = Arc::clone(&seen);
    let reader = thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = screen.read(&mut buffer) {
            writes.lock().unwrap().extend_from_slice(&buffer[..len]);
        }
    });
    let text = || String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
    let shows = async |word: &str| eventually(word, async || text().contains(word).then_some(())).await;

    shows("LATE by").await;
    keys.write_all(b"\r").unwrap();
    shows("order-\\u{1b}[2J").await;
    keys.write_all(b"p").unwrap();
    shows("Nothing is claimed until it is resumed.").await;
    keys.write_all(b"y").unwrap();
    eventually("it is paused", async || rig.counts().await.unwrap().paused.then_some(())).await;
    shows("is paused").await;
    keys.write_all(b"q").unwrap();
    shows("left with 0").await;
    drop(keys);
    child.wait().unwrap();
    reader.join().unwrap();
    let text = text();
    assert!(text.find(LEAVES).unwrap() < text.find("left with 0").unwrap());
    assert!(!text.contains("order-\u{1b}"), "what others wrote reaches the terminal only as text");
}
