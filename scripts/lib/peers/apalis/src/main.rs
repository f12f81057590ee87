//! The driver for apalis; driver.py says what it is told and what it answers.

use std::{
    error::Error,
    fs,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use apalis::prelude::*;
use apalis_redis::{Client, Config, ConnectionManager, RedisStorage};
use futures::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines, Stdin},
    time::sleep,
};

/// How often to look how many are acked. A look costs Redis some 10 µs.
const LOOK_EVERY: Duration = Duration::from_millis(2);

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Debug, Clone, Deserialize)]
struct Spec {
    port: u16,
    deadlines: String,
    shares: usize,
    share: usize,
    calls: bool,
    #[serde(default = "one")]
    batch: usize,
    #[serde(default)]
    poll_ms: u64,
    #[serde(default)]
    lock_tasks: bool,
}

fn one() -> usize {
    1
}

impl Spec {
    /// `persist_results` stays on: without it nothing is acked. Events are for those who subscribe to them, here nobody.
    fn config(&self) -> Config {
        Config::default().queue("bench").batch_size(self.batch).lock_tasks(self.lock_tasks).emit_events(false)
    }

    async fn connect(&self) -> Result<ConnectionManager, Failure> {
        Ok(apalis_redis::connect(self.url()).await?)
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs_f64()
}

/// Deadlines have whole seconds: rounded up, as a task would be early otherwise.
fn task(number: usize, due_ms: u64, calls: bool) -> Task<String> {
    let args = if calls { format!("order-{number:07x} {due_ms}") } else { format!("order-{number:07x}") };
    TaskBuilder::new(args).run_at_timestamp(due_ms.div_ceil(1000)).build()
}

async fn put(spec: Spec, mut go: Lines<BufReader<Stdin>>) -> Result<(), Failure> {
    let mut tasks = Vec::new();
    for (number, line) in fs::read_to_string(&spec.deadlines)?.lines().enumerate() {
        if number % spec.shares == spec.share {
            tasks.push(task(number, line.parse()?, spec.calls));
        }
    }
    let mut storage = RedisStorage::<String>::new(spec.connect().await?).with_config(spec.config());
    println!("{}", json!({ "ready": true }));
    go.next_line().await?;
    let began = now();
    let mut tasks = tasks.into_iter().peekable();
    while tasks.peek().is_some() {
        let some: Vec<Task<String>> = tasks.by_ref().take(spec.batch).collect();
        storage.push_all(stream::iter(some)).await?;
    }
    println!("{}", json!({ "began": began, "ended": now() }));
    Ok(())
}

/// How many are acked, and since when it is so many. Answers when stdin closes.
async fn watch(spec: &Spec, go: &mut Lines<BufReader<Stdin>>) -> Result<f64, Failure> {
    let mut redis = Client::open(spec.url())?.get_multiplexed_async_connection().await?;
    let key = spec.config().done_jobs_set();
    let (mut done, mut last) = (0u64, now());
    loop {
        tokio::select! {
            _ = go.next_line() => return Ok(last),
            () = sleep(LOOK_EVERY) => {}
        }
        let count: u64 = redis::cmd("SCARD").arg(&key).query_async(&mut redis).await?;
        if count > done {
            (done, last) = (count, now());
            println!("{}", json!({ "done": done }));
        }
    }
}

async fn work(spec: Spec, mut go: Lines<BufReader<Stdin>>) -> Result<(), Failure> {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&calls);
    let handler = move |args: String| {
        if let Some((_, due_ms)) = args.split_once(' ') {
            let due_ms: u64 = due_ms.parse().expect("the driver wrote it");
            noted.lock().expect("nobody panics").push((due_ms, now() * 1000.0));
        }
        std::future::ready(())
    };
    let storage = RedisStorage::<String>::new(spec.connect().await?).with_config(spec.config());
    let backend = storage.poll_with_interval(Duration::from_millis(spec.poll_ms));
    let worker = WorkerBuilder::new("bench").backend(backend).build(handler);
    println!("{}", json!({ "ready": true }));
    go.next_line().await?;
    let began = now();
    let last = tokio::select! {
        last = watch(&spec, &mut go) => last?,
        ended = worker.run() => return Err(match ended {
            Ok(()) => "the worker ended".into(),
            Err(error) => format!("the worker ended: {error}").into(),
        }),
    };
    let calls = calls.lock().expect("nobody panics").clone();
    println!("{}", json!({ "began": began, "last": last, "calls": calls }));
    Ok(())
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (role, spec) = (args.next().unwrap_or_default(), args.next().unwrap_or_default());
    let go = BufReader::new(tokio::io::stdin()).lines();
    let result = match serde_json::from_str(&spec) {
        Ok(spec) if role == "put" => put(spec, go).await,
        Ok(spec) => work(spec, go).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = result {
        eprintln!("{error}");
        std::process::exit(1);
    }
    // The thread that reads stdin would be waited for.
    std::process::exit(0);
}
