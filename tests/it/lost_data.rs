//! Redis has lost data: every poller says so, once, and goes on. And nothing else makes them say so.

use std::{fs, net::TcpListener, os::unix::fs::symlink, path::PathBuf, time::SystemTime};

use overdue::{DueAt, QueueName, ServerTime, queue::Queue};

use crate::support::{
    LEASE, PATIENT, RedisServer, Rig, T0, eventually,
    http::Caller,
    process::{Place, Serve, field},
    queue_on,
    scripts::whole,
};

/// What a queue with each source of work is called, with all queues that are polled for it.
const QUEUES: [(&str, &[&str]); 5] = [
    ("log", &["log"]),
    ("stream", &["stream"]),
    ("list", &["list"]),
    ("order", &["order", "order.intake", "order.notify"]),
    ("pull", &["pull"]),
];

fn config(url: &str) -> String {
    let mut text = format!("[redis]\nurl = \"{url}\"\n");
    for (handler, _) in QUEUES {
        let notify = if handler == "order" { "notify = { type = \"log\" }\n" } else { "" };
        text += &format!(
            "[queue.{handler}]\npoll_interval = \"20ms\"\n[queue.{handler}.handler]\ntype = \"{handler}\"\n{notify}"
        );
    }
    text
}

fn polled() -> impl Iterator<Item = &'static str> {
    QUEUES.iter().flat_map(|(_, queues)| queues.iter().copied())
}

/// The lines that tell of losses in a queue.
fn told(serve: &Serve, queue: &str) -> Vec<String> {
    let of_queue = |line: &String| {
        line.contains("ERROR")
            && field(line, "kind").is_some()
            && field(line, "queue").as_deref() == Some(queue)
    };
    serve.log().into_iter().filter(of_queue).collect()
}

/// Waits until so many losses were told of a queue, and gives the last.
async fn tells(serve: &Serve, queue: &str, count: usize) -> String {
    let what = format!("{queue}: loss {count} is told");
    eventually(&what, async || told(serve, queue).into_iter().nth(count - 1)).await
}

/// A server with a `serve` of all sources, and a client that knows nothing of overdue.
struct Shop {
    server: RedisServer,
    rig: Rig,
    place: Place,
}

impl Shop {
    async fn on(server: RedisServer) -> Self {
        let url = server.url();
        Self { rig: Rig::on(&server).await, server, place: Place::new(&config(&url)) }
    }

    async fn start() -> Self {
        Self::on(RedisServer::start()).await
    }

    /// The canary of a queue: its count and when it was written in ms.
    async fn canary(&self, queue: &str) -> (u64, i64) {
        canary_of(&self.rig, queue).await.unwrap_or_default()
    }

    /// Waits until polls have written each canary so many times more.
    async fn canaries_are_kept(&self, more: u64) {
        let mut before = Vec::new();
        for queue in polled() {
            before.push((queue, self.canary(queue).await.0));
        }
        for (queue, before) in before {
            let grown = async || (self.canary(queue).await.0 >= before + more).then_some(());
            eventually("the canary is kept", grown).await;
        }
    }
}

async fn canary_of(rig: &Rig, queue: &str) -> Option<(u64, i64)> {
    let key = match queue.split_once('.') {
        Some((base, companion)) => format!("overdue:{{{base}}}:{companion}:meta"),
        None => format!("overdue:{{{queue}}}:meta"),
    };
    let text: Option<String> = rig.send(redis::cmd("HGET").arg(key).arg("canary")).await;
    let numbers: Vec<i64> = text?.split(' ').map(|number| number.parse().expect("a number")).collect();
    Some((numbers[1] as u64, numbers[2]))
}

async fn caller(serve: &Serve) -> Caller {
    let address = field(&serve.says("serving").await, "http").expect("it listens");
    Caller::new(format!("http://{address}"))
}

/// Waits until all queues were polled.
async fn is_ready(serve: &Serve) {
    let caller = caller(serve).await;
    eventually("all are polled", async || (caller.get("/readyz").await.status == 200).then_some(())).await;
}

async fn metrics(serve: &Serve) -> String {
    caller(serve).await.get("/metrics").await.text
}

fn series(queue: &str, kind: &str, count: usize) -> String {
    format!("overdue_queue_data_losses_total{{queue=\"{queue}\",kind=\"{kind}\"}} {count}\n")
}

/// Nothing was told of any queue.
async fn all_is_well(serve: &Serve) {
    let metrics = metrics(serve).await;
    for queue in polled() {
        assert_eq!(told(serve, queue), [""; 0]);
        for kind in ["data_lost", "rolled_back"] {
            assert!(metrics.contains(&series(queue, kind, 0)), "{metrics}");
        }
    }
}

#[tokio::test]
async fn a_flush_is_told_once_by_each_queue_and_each_process() {
    let shop = Shop::start().await;
    let (one, other) = (shop.place.serve().await, shop.place.serve().await);
    is_ready(&one).await;
    is_ready(&other).await;
    for flushes in 1..=2 {
        shop.rig.admin(&["FLUSHALL"]).await;
        for serve in [&one, &other] {
            for queue in polled() {
                let line = tells(serve, queue, flushes).await;
                assert_eq!(field(&line, "kind").as_deref(), Some("data_lost"), "{line}");
                assert!(line.contains("register again"), "{line}");
            }
            let metrics = metrics(serve).await;
            for queue in polled() {
                assert!(metrics.contains(&series(queue, "data_lost", flushes)), "{metrics}");
                assert!(metrics.contains(&series(queue, "rolled_back", 0)), "{metrics}");
            }
        }
        shop.canaries_are_kept(2).await;
    }
    for queue in polled() {
        assert_eq!((told(&one, queue).len(), told(&other, queue).len()), (2, 2), "{queue}");
    }
    let queue = caller(&one).await.get("/v1/queues/log").await.is(200);
    assert_eq!(queue["data_losses"], 2);

    let _: i64 = shop.rig.send(redis::cmd("ZADD").arg("overdue:{log}:scheduled").arg(T0).arg("after")).await;
    eventually("work goes on", async || {
        [&one, &other].iter().any(|serve| serve.expired() == ["after"]).then_some(())
    })
    .await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn deleting_the_keys_of_one_queue_is_told_of_that_one_only() {
    let shop = Shop::start().await;
    let serve = shop.place.serve().await;
    is_ready(&serve).await;
    shop.rig.admin(&["DEL", "overdue:{order}:intake:meta"]).await;
    assert!(tells(&serve, "order.intake", 1).await.contains("data_lost"));
    shop.canaries_are_kept(2).await;
    for queue in polled() {
        assert_eq!(told(&serve, queue).len(), usize::from(queue == "order.intake"), "{queue}");
    }
    serve.stop().await;
}

#[tokio::test]
async fn a_flush_right_after_the_first_poll_of_a_fresh_queue_is_told() {
    let shop = Shop::start().await;
    let serve = shop.place.serve().await;
    eventually("it was polled", async || canary_of(&shop.rig, "log").await).await;
    shop.rig.admin(&["FLUSHALL"]).await;
    tells(&serve, "log", 1).await;
    serve.stop().await;
}

#[tokio::test]
async fn a_restart_without_persistence_is_told() {
    let mut shop = Shop::start().await;
    let serve = shop.place.serve().await;
    is_ready(&serve).await;
    shop.server.kill9();
    serve.says("unreachable").await;
    shop.server.restart();
    for queue in polled() {
        let line = tells(&serve, queue, 1).await;
        assert_eq!(field(&line, "kind").as_deref(), Some("data_lost"), "{line}");
    }
    serve.stop().await;
}

#[tokio::test]
async fn a_flush_is_told_while_all_handlers_are_busy_and_while_the_queue_is_paused() {
    let server = RedisServer::start();
    let rig = Rig::on(&server).await;
    let queue = rig.name().to_string();
    let place = Place::new(&format!(
        "[redis]\nurl = \"{}\"\n[serve]\ndrain_timeout = \"1ms\"\n[queue.{queue}]\npoll_interval = \"20ms\"\n\
         concurrency = 1\n[queue.{queue}.handler]\ntype = \"command\"\ncommand = [\"sleep\", \"1000\"]\n",
        server.url()
    ));
    let serve = place.serve().await;
    rig.zadd("slow", T0).await;
    eventually("it is at work", async || (rig.members("leased").await == ["slow"]).then_some(())).await;
    rig.admin(&["FLUSHALL"]).await;
    tells(&serve, &queue, 1).await;
    rig.pause(true).await.expect("paused");
    rig.admin(&["FLUSHALL"]).await;
    tells(&serve, &queue, 2).await;
    serve.stop().await;
}

/// What `since` and `lost_ms` have to be after a return to a canary that was written `at_ms`, when polls saw all
/// that was written until `seen_ms` at least.
fn tells_of_rollback(line: &str, at_ms: i64, seen_ms: i64) {
    assert_eq!(field(line, "kind").as_deref(), Some("rolled_back"), "{line}");
    let since = DueAt::from_ms(at_ms).expect("a time").to_string();
    assert_eq!(field(line, "since"), Some(since), "{line}");
    let lost_ms: i64 = field(line, "lost_ms").expect("it is known").parse().expect("a number");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    assert!(lost_ms >= seen_ms - at_ms && lost_ms <= now.as_millis() as i64 - at_ms, "{line}");
}

#[tokio::test]
async fn an_aof_that_lost_its_tail_is_told_with_how_much_it_was() {
    let mut shop = Shop::on(RedisServer::start_with(&["--appendonly", "yes"])).await;
    let serve = shop.place.serve().await;
    is_ready(&serve).await;
    let aof = shop.server.path("appendonlydir/appendonly.aof.1.incr.aof");
    let size = async || fs::metadata(&aof).expect("the AOF").len();

    // The AOF as it is while no canary is written.
    let (kept, canaries) = eventually("a moment without writes", async || {
        let before = size().await;
        let mut canaries = Vec::new();
        for queue in polled() {
            canaries.push((queue, shop.canary(queue).await.1));
        }
        (size().await == before).then_some((before, canaries))
    })
    .await;
    shop.canaries_are_kept(2).await;
    let mut seen = Vec::new();
    for queue in polled() {
        seen.push(shop.canary(queue).await.1);
    }
    // The poll that wrote it may not have its answer yet, the one before it has.
    shop.canaries_are_kept(1).await;

    shop.server.kill9();
    serve.says("unreachable").await;
    // In the middle of the next record, which is torn then.
    fs::File::options().write(true).open(&aof).expect("the AOF").set_len(kept + 7).expect("it is longer");
    shop.server.restart();
    for ((queue, at_ms), seen_ms) in canaries.into_iter().zip(seen) {
        tells_of_rollback(&tells(&serve, queue, 1).await, at_ms, seen_ms);
    }
    let metrics = metrics(&serve).await;
    assert!(metrics.contains(&series("log", "rolled_back", 1)), "{metrics}");
    serve.stop().await;
}

#[tokio::test]
async fn a_failover_to_a_replica_that_was_behind_is_told() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("bound").port().to_string()
    };
    let mut master = RedisServer::start_with(&["--port", &port]);
    let replica = RedisServer::start();
    let behind = Rig::with(&replica, queue_on(&replica, PATIENT)).await;
    let current = Current::pointing_at(&master);
    let shop = Place::new(&config(&format!("unix://{}", current.socket.display())));
    let serve = shop.serve().await;
    let ahead = Rig::on(&master).await;

    behind.admin(&["REPLICAOF", "127.0.0.1", &port]).await;
    eventually("it follows", async || canary_of(&behind, "log").await.filter(|(count, _)| *count > 1)).await;
    // It loses its master, and falls behind.
    behind.admin(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let (count, at_ms) = canary_of(&behind, "log").await.expect("it has one");
    let seen = eventually("the master goes on", async || {
        canary_of(&ahead, "log").await.filter(|(seen, _)| *seen >= count + 2)
    })
    .await;
    eventually("and on", async || canary_of(&ahead, "log").await.filter(|(last, _)| *last > seen.0)).await;

    master.kill9();
    serve.says("unreachable").await;
    behind.admin(&["REPLICAOF", "NO", "ONE"]).await;
    current.point_at(&replica);
    tells_of_rollback(&tells(&serve, "log", 1).await, at_ms, seen.1);
    serve.stop().await;
}

/// A socket that stays the same when the server changes.
struct Current {
    dir: tempfile::TempDir,
    socket: PathBuf,
}

impl Current {
    fn pointing_at(server: &RedisServer) -> Self {
        let dir = tempfile::Builder::new().prefix("overdue-it-").tempdir().expect("a temporary directory");
        let current = Self { socket: dir.path().join("current.sock"), dir };
        current.point_at(server);
        current
    }

    fn point_at(&self, server: &RedisServer) {
        let next = self.dir.path().join("next");
        symlink(server.path("redis.sock"), &next).expect("a link");
        fs::rename(next, &self.socket).expect("it takes the place of the old one");
    }
}

#[tokio::test]
async fn nothing_else_is_told() {
    let shop = Shop::start().await;
    let serve = shop.place.serve().await;
    is_ready(&serve).await;

    // Further processes, that come to a queue with a canary, and go.
    let other = shop.place.serve().await;
    shop.canaries_are_kept(2).await;
    all_is_well(&other).await;
    other.stop().await;
    serve.signal("STOP");
    let other = shop.place.serve().await;
    shop.canaries_are_kept(2).await;
    serve.signal("CONT");
    other.stop().await;

    // Pauses, purges and a replay.
    let queues = ["log", "stream", "list", "order", "pull"];
    for step in [&["pause"][..], &["purge", "--yes"], &["resume"]] {
        for queue in queues {
            shop.place.run(&[&["queue", step[0], queue], &step[1..]].concat()).ok();
        }
        shop.canaries_are_kept(2).await;
        if step[0] == "purge" {
            for queue in queues {
                let meta = format!("overdue:{{{queue}}}:meta");
                let paused: String = shop.rig.send(redis::cmd("HGET").arg(meta).arg("paused")).await;
                assert_eq!(paused, "1", "{queue}");
            }
        }
    }
    shop.place.write(
        "orders.csv",
        "order_id,status,order_purchase_timestamp,order_approved_at\n1,x,2026-03-01 10:00:00,\n",
    );
    shop.place.run(&["replay", "orders.csv", "--timeout", "30m"]).ok();
    shop.canaries_are_kept(2).await;
    all_is_well(&serve).await;
    serve.stop().await;
}

/// The scripts of the pollers, with a clock that is off by as many seconds as the key `skew` says.
fn with_a_clock_that_steps(place: &Place) -> PathBuf {
    let reads_time = "local time = call('TIME')";
    let skewed = format!("{reads_time}\n  time[1] = time[1] + tonumber(call('GET', 'overdue:skew') or 0)");
    let dir = place.path("scripts");
    fs::create_dir(&dir).expect("the directory is ours");
    for verb in ["claim", "fire_stream", "fire_list", "watch", "order_expire"] {
        let text = whole(verb).replace(reads_time, &skewed);
        assert!(text.contains(&skewed));
        fs::write(dir.join(verb).with_extension("lua"), text).expect("written");
    }
    dir
}

#[tokio::test]
async fn a_clock_that_steps_is_no_loss_and_hides_none() {
    let shop = Shop::start().await;
    let dir = with_a_clock_that_steps(&shop.place);
    let serve = shop.place.serve_with(&[("OVERDUE_FAULT_SCRIPTS", dir.to_str().expect("text"))]);
    is_ready(&serve).await;
    for skew_s in ["3600", "-3600", "0"] {
        let (_, before_ms) = shop.canary("log").await;
        shop.rig.admin(&["SET", "overdue:skew", skew_s]).await;
        shop.canaries_are_kept(2).await;
        let stepped_ms = shop.canary("log").await.1 - before_ms;
        assert!(stepped_ms.abs() > 3_000_000, "{stepped_ms}");
        all_is_well(&serve).await;
    }
    shop.rig.admin(&["SET", "overdue:skew", "-3600"]).await;
    shop.canaries_are_kept(1).await;
    shop.rig.admin(&["DEL", "overdue:{log}:meta"]).await;
    assert!(tells(&serve, "log", 1).await.contains("data_lost"));
    serve.stop().await;
}

#[tokio::test]
async fn virtual_time_beside_a_process_is_no_loss() {
    let shop = Shop::start().await;
    let serve = shop.place.serve().await;
    is_ready(&serve).await;
    let redis = shop.rig.redis().clone();
    let queue = Queue::new(redis, "overdue", QueueName::new("log").expect("a name"));
    for step in 0..50 {
        for at_ms in [T0 + step, 4 * T0, 0] {
            queue.at(ServerTime::from_ms(at_ms)).watch().await.expect("watched");
            queue.claim(1, LEASE).await.expect("claimed");
        }
    }
    shop.canaries_are_kept(2).await;
    all_is_well(&serve).await;
    serve.stop().await;
}
