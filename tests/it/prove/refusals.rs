//! A Redis that is there and does not do what it is asked: it loads, is busy, a replica, cannot save, lacks replicas,
//! hangs, forgets scripts, and drops connections. Each comes and goes while schedulers and clients are at it.

use std::{fs, time::Duration};

use overdue::redis::Redis;
use rand::seq::SliceRandom as _;
use redis::Value;
use tokio::time::sleep;

use super::{
    clients::Workload,
    history::{Outcome, now_us},
    recorder::Policy,
    run::{Run, Terms, scaled},
    siege::{Handler, Siege, besiege},
};
use crate::support::{PATIENT, RedisServer, eventually};

/// A receiver as they are: some calls fail, some take their time.
const RECEIVER: Policy = Policy { failing: 0.05, slow: (0.05, Duration::from_millis(200)), gone: 0.0 };
/// What a RDB file is called that cannot be written, since a directory has its name.
const BLOCKED: &str = "blocked";

/// So many ids for each second of faults.
fn load(rounds: usize, round: Duration) -> Workload {
    let over = round * rounds as u32;
    Workload { ids: 300 * over.as_secs() as usize, over, cancelled: 0.1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_come_and_go_are_outlived() {
    const FAULTS: [&str; 5] = ["BUSY", "READONLY", "MASTERDOWN", "MISCONF", "NOREPLICAS"];
    let mut run = Run::begin("errors of Redis");
    // A snapshot must be wished for, or one that fails is no reason to refuse.
    let mut server = RedisServer::start_with(&[
        "--busy-reply-threshold",
        "20",
        "--save",
        "3600 1",
        "--dbfilename",
        BLOCKED,
    ]);
    let rounds = scaled(1);
    let load = load(rounds, Duration::from_secs(3));
    let duplicates = besiege(&mut run, &mut server, Handler::Webhook(RECEIVER), load, async |siege| {
        for _ in 0..rounds {
            let mut faults = FAULTS;
            faults.shuffle(&mut siege.dice);
            for fault in faults {
                siege.pause(Duration::from_millis(100)).await;
                match fault {
                    "BUSY" => siege.busy().await,
                    "READONLY" => siege.readonly().await,
                    "MASTERDOWN" => siege.master_down().await,
                    "MISCONF" => siege.misconf().await,
                    _ => siege.no_replicas().await,
                }
            }
        }
    })
    .await;
    run.finish(Terms::struck_by(FAULTS).duplicates(duplicates));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_long_in_loading_is_waited_for() {
    let mut run = Run::begin("LOADING");
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let rounds = scaled(2);
    let load = load(rounds, Duration::from_secs(1));
    let duplicates = besiege(&mut run, &mut server, Handler::Webhook(RECEIVER), load, async |siege| {
        // Something that takes long to load: half a minute, with a look at the connections every few keys.
        siege.tell(&["DEBUG", "POPULATE", "50000"]).await;
        siege.tell(&["BGREWRITEAOF"]).await;
        for _ in 0..rounds {
            eventually("it is written", async || {
                (siege.info("aof_rewrite_in_progress").await? == "0").then_some(())
            })
            .await;
            siege.provide(50, Duration::from_secs(1)).await;
            siege.endure("LOADING", "loading", async |siege| siege.load_slowly(), Siege::load_at_once).await;
        }
    })
    .await;
    run.finish(Terms::struck_by(["LOADING"]).duplicates(duplicates));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_connections_pauses_and_lost_scripts_are_outlived() {
    const FAULTS: [&str; 3] = ["CLIENT KILL", "CLIENT PAUSE", "SCRIPT FLUSH"];
    let mut run = Run::begin("connections, pauses, lost scripts");
    let mut server = RedisServer::start();
    let rounds = scaled(2);
    let load = load(rounds, Duration::from_secs(2));
    let duplicates = besiege(&mut run, &mut server, Handler::Webhook(RECEIVER), load, async |siege| {
        for _ in 0..rounds {
            let mut faults = FAULTS;
            faults.shuffle(&mut siege.dice);
            for fault in faults {
                siege.pause(Duration::from_millis(100)).await;
                match fault {
                    "CLIENT KILL" => siege.kill_clients().await,
                    "CLIENT PAUSE" => siege.pause_clients().await,
                    _ => siege.flush_scripts().await,
                }
            }
        }
    })
    .await;
    run.finish(Terms::struck_by(FAULTS).duplicates(duplicates));
}

impl Siege<'_> {
    /// Somebody's script that does not end.
    async fn busy(&mut self) {
        let other = Redis::open(&self.server.root_url(), PATIENT).expect("a valid url");
        let endless = async move {
            let mut command = redis::cmd("EVAL");
            other.run(command.arg("while true do end").arg(0)).await.expect_err("it is killed");
        };
        let on = async |_: &mut Self| drop(tokio::spawn(endless));
        let off = async |siege: &mut Self| drop(siege.tell(&["SCRIPT", "KILL"]).await);
        self.endure("BUSY", "busy", on, off).await;
    }

    /// Demoted, and promoted again. Its new master is not there, so it keeps its data.
    async fn readonly(&mut self) {
        let (on, off) = ([["REPLICAOF", "127.0.0.1", "1"]], [["REPLICAOF", "NO", "ONE"]]);
        self.switch("READONLY", "readonly", &on, &off).await;
    }

    /// The same, as a replica that serves nobody without its master.
    async fn master_down(&mut self) {
        self.tell(&["CONFIG", "SET", "replica-serve-stale-data", "no"]).await;
        let (on, off) = ([["REPLICAOF", "127.0.0.1", "1"]], [["REPLICAOF", "NO", "ONE"]]);
        self.switch("MASTERDOWN", "masterdown", &on, &off).await;
        self.tell(&["CONFIG", "SET", "replica-serve-stale-data", "yes"]).await;
    }

    /// Fewer replicas than it is to have.
    async fn no_replicas(&mut self) {
        const ON: [&str; 4] = ["CONFIG", "SET", "min-replicas-to-write", "1"];
        const OFF: [&str; 4] = ["CONFIG", "SET", "min-replicas-to-write", "0"];
        self.switch("NOREPLICAS", "noreplicas", &[ON], &[OFF]).await;
    }

    /// A snapshot that cannot be written, as on a full disk, and one that can.
    async fn misconf(&mut self) {
        let blocked = self.server.dir().join(BLOCKED);
        let _ = fs::remove_file(&blocked);
        fs::create_dir(&blocked).expect("the directory is ours");
        let on = async |siege: &mut Self| {
            siege.save("err").await;
            assert_eq!(siege.refused().await, Outcome::Failed);
        };
        let off = async |siege: &mut Self| {
            fs::remove_dir(&blocked).expect("it is empty");
            siege.save("ok").await;
        };
        self.endure("MISCONF", "misconf", on, off).await;
    }

    async fn save(&self, status: &str) {
        eventually("the snapshot is over", async || {
            self.tell(&["BGSAVE"]).await;
            eventually("it ends", async || (self.info("rdb_bgsave_in_progress").await? == "0").then_some(()))
                .await;
            (self.info("rdb_last_bgsave_status").await? == status).then_some(())
        })
        .await;
    }

    /// A fault that commands turn on and off. A client is refused, too, and so it did not happen.
    async fn switch<const N: usize>(&mut self, fault: &str, kind: &str, on: &[[&str; N]], off: &[[&str; N]]) {
        let turned_on = async |siege: &mut Self| {
            for words in on {
                siege.tell(words).await;
            }
            assert_eq!(siege.refused().await, Outcome::Failed, "{fault}");
        };
        let turned_off = async |siege: &mut Self| {
            for words in off {
                siege.tell(words).await;
            }
        };
        self.endure(fault, kind, turned_on, turned_off).await;
    }

    /// Dies, and comes back in half a minute.
    fn load_slowly(&mut self) {
        self.server.kill9();
        self.server.restart_with(&[
            "--key-load-delay",
            "500",
            "--loading-process-events-interval-bytes",
            "1024",
        ]);
    }

    async fn load_at_once(&mut self) {
        self.tell(&["CONFIG", "SET", "key-load-delay", "0"]).await;
        self.is_back().await;
    }

    /// Half a second in which nobody keeps a connection for long.
    async fn kill_clients(&mut self) {
        let on = async |siege: &mut Self| {
            for _ in 0..20 {
                let killed = siege.tell(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
                assert!(matches!(killed, Value::Int(_)), "{killed:?}");
                sleep(Duration::from_millis(25)).await;
            }
        };
        self.endure("CLIENT KILL", "unreachable", on, async |_| {}).await;
    }

    /// No script is run for longer than anybody waits for an answer.
    async fn pause_clients(&mut self) {
        let on = async |siege: &mut Self| drop(siege.tell(&["CLIENT", "PAUSE", "600000", "WRITE"]).await);
        let off = async |siege: &mut Self| drop(siege.tell(&["CLIENT", "UNPAUSE"]).await);
        self.endure("CLIENT PAUSE", "timeout", on, off).await;
    }

    /// Half a second in which Redis knows no script for long.
    async fn flush_scripts(&mut self) {
        let unknown = async |siege: &Self| {
            let counted = siege.info("errorstat_NOSCRIPT").await.unwrap_or_default();
            counted.trim_start_matches("count=").parse().unwrap_or(0_u64)
        };
        let before = unknown(self).await;
        for _ in 0..50 {
            self.tell(&["SCRIPT", "FLUSH"]).await;
            sleep(Duration::from_millis(10)).await;
        }
        let ids = self.provide(1, Duration::from_millis(1)).await;
        self.are_done(&ids).await;
        assert!(unknown(self).await > before, "nobody missed a script");
        self.struck("SCRIPT FLUSH");
        self.resumes(now_us()).await;
    }
}
