//! A Redis that dies and comes back on its append-only file, again and again.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    clients::Workload,
    history::now_us,
    recorder::Policy,
    run::{Run, Terms, scaled},
    siege::{Handler, Siege, besiege},
};
use crate::support::{RedisServer, eventually};

/// A receiver that has work in hand whenever Redis dies.
pub(crate) const RECEIVER: Policy =
    Policy { failing: 0.05, slow: (0.1, Duration::from_millis(300)), gone: 0.0 };
/// How far apart deaths are, about.
const APART: Duration = Duration::from_millis(600);
/// One that lasts: by then schedulers look for Redis as rarely as they ever do, once a second.
const LONG: Duration = Duration::from_secs(2);
const DIED: [&str; 2] = ["Redis killed", "Redis killed with work in hand"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_every_write_synced_nothing_that_was_answered_is_lost() {
    let mut run = Run::begin("Redis killed, appendfsync always");
    let duplicates = under_restarts(&mut run, "always", Handler::Webhook(RECEIVER)).await;
    run.finish(Terms::struck_by(DIED).duplicates(duplicates));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_sync_each_second_nothing_that_was_written_is_lost() {
    let mut run = Run::begin("Redis killed, appendfsync everysec");
    let duplicates = under_restarts(&mut run, "everysec", Handler::Webhook(RECEIVER)).await;
    run.finish(Terms::struck_by(DIED).duplicates(duplicates));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_id_is_in_the_stream_once() {
    let mut run = Run::begin("Redis killed, stream");
    under_restarts(&mut run, "always", Handler::Stream).await;
    run.finish(Terms::struck_by(["Redis killed"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_id_is_in_the_list_once() {
    let mut run = Run::begin("Redis killed, list");
    under_restarts(&mut run, "always", Handler::List).await;
    run.finish(Terms::struck_by(["Redis killed"]));
}

async fn under_restarts(run: &mut Run, appendfsync: &str, handler: Handler) -> u64 {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", appendfsync]);
    let deaths = scaled(5);
    let over = APART * deaths as u32 + LONG * deaths as u32 / 5;
    let load = Workload { ids: scaled(2500), over, cancelled: 0.1 };
    besiege(run, &mut server, handler, load, async |siege| {
        for death in 0..deaths {
            siege.pause(APART / 2).await;
            if appendfsync == "always" {
                siege.server.kill9();
            } else {
                siege.dies_with_what_it_has_not_written().await;
            }
            siege.struck("Redis killed");
            if death % 5 == 1 {
                sleep(LONG).await;
            }
            siege.pause(APART / 4).await;
            siege.server.restart();
            siege.is_back().await;
            let up_us = now_us();
            if siege.queue.counts().await.is_ok_and(|counts| counts.leased > 0) {
                siege.history.struck("Redis killed with work in hand");
            }
            siege.resumes(up_us).await;
        }
    })
    .await
}

impl Siege<'_> {
    /// Waits until Redis answers as one that has loaded its data.
    pub(crate) async fn is_back(&self) {
        eventually("Redis is back", async || self.redis.ping().await.ok()).await;
    }

    /// Kills a Redis that syncs each second. While a sync takes its time it answers first and writes later, after up
    /// to two seconds: what is still in its memory dies with it. So what was answered after the last look at an
    /// empty buffer is doubted.
    pub(crate) async fn dies_with_what_it_has_not_written(&mut self) {
        let written_us = eventually("nothing waits for the disk", async || {
            let asked_us = now_us();
            (self.info("aof_buffer_length").await? == "0").then_some(asked_us)
        })
        .await;
        self.server.kill9();
        self.doubts.push((written_us, now_us()));
    }
}
