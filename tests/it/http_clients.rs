//! The programs under `examples/clients`, where there is something to run them with.

use std::{
    collections::HashSet,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use overdue::queue::{Due, Expected, Mode, Registration};
use serde_json::json;

use crate::support::{RedisServer, eventually, http::Site, id};

fn example(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/clients").join(path)
}

/// True if the program is there; else says that the test is skipped.
fn there_is(program: &str, arguments: &[&str]) -> bool {
    let run = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = run.is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: no `{program} {}` here", arguments.join(" "));
    }
    found
}

/// Runs a client off the runtime's threads; it must register the id of its argument.
async fn registers(site: &Site, name: &str, mut command: Command) {
    command.arg(name).env("OVERDUE_URL", &site.caller.base).env("QUEUE", site.rig.name().as_str());
    command.env("REDIS_URL", RedisServer::shared().url()).env("NO_PROXY", "127.0.0.1");
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let path = format!("/deadlines/{}", name.replace(' ', "%20").replace('/', "%2F"));
    let shown = site.get(&path).await.is(200);
    assert_eq!((&shown["id"], &shown["payload"]), (&json!(name), &json!({"amount": "100.00"})));
}

#[tokio::test]
async fn clients_in_other_languages_register() {
    let site = Site::pull().await;
    let command = |program: &str, arguments: &[&str], path: &str| {
        let mut command = Command::new(program);
        command.args(arguments).arg(example(path)).env("GOFLAGS", "-mod=mod").env("GO111MODULE", "off");
        command
    };
    if there_is("python3", &["--version"]) {
        registers(&site, "by python/1 2", command("python3", &[], "python/over_http.py")).await;
    }
    if there_is("python3", &["-c", "import redis"]) {
        registers(&site, "by redis-py", command("python3", &[], "python/over_redis.py")).await;
    }
    if there_is("node", &["-e", "fetch"]) {
        registers(&site, "by node/1 2", command("node", &[], "node/over_http.mjs")).await;
    }
    if there_is("go", &["version"]) {
        registers(&site, "by go/1 2", command("go", &["run"], "go/over_http/main.go")).await;
    }
    if there_is("java", &["--version"]) {
        registers(&site, "by java/1 2", command("java", &[], "java/OverHttp.java")).await;
    }
    site.serve.stop().await;
}

struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A worker that is killed without a chance to say anything, and started again, ten times.
#[tokio::test]
async fn a_worker_that_is_killed_now_and_then_loses_nothing() {
    const COUNT: usize = 10_000;
    if !there_is("python3", &["--version"]) {
        return;
    }
    let site = Site::new("pull", "lease = \"1s\"\nmax_crashes = 1000").await;
    let registrations: Vec<Registration> = (0..COUNT)
        .map(|n| Registration { id: id(&format!("n{n}")), due: Due::In(Duration::ZERO), payload: None })
        .collect();
    site.rig.schedule(&registrations, Mode::Replace, Expected::Anything).await.expect("scheduled");

    let log = site.place.path("handled");
    let start = || {
        let append = fs::File::options().append(true).create(true).open(&log).expect("the directory is ours");
        let mut command = Command::new("python3");
        command
            .arg(example("python/worker.py"))
            .env("OVERDUE_URL", &site.caller.base)
            .env("NO_PROXY", "127.0.0.1");
        command.env("QUEUE", site.rig.name().as_str()).stdout(append).stderr(Stdio::null());
        Worker(command.spawn().expect("python3 runs"))
    };
    let handled = || fs::read_to_string(&log).unwrap_or_default();
    for killed in 1..=10 {
        let worker = start();
        eventually("it works", async || (handled().lines().count() >= killed * COUNT / 12).then_some(()))
            .await;
        drop(worker);
    }
    let _worker = start();
    eventually("nothing is left", async || {
        let counts = site.rig.counts().await.expect("counted");
        (counts.scheduled + counts.leased + counts.dead == 0).then_some(())
    })
    .await;
    let text = handled();
    // Where a worker was killed, a line may lack its end: `n1874n1900`.
    let handled: HashSet<&str> = text.split('n').map(str::trim).collect();
    let numbers = registrations.iter().map(|one| one.id.as_str().trim_start_matches('n'));
    let missing: Vec<&str> = numbers.filter(|number| !handled.contains(number)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    site.serve.stop().await;
}
