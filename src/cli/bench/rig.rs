//! Where a benchmark runs: a Redis of its own, or keys of its own on a given one.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo as _, Value,
    aio::MultiplexedConnection, io::tcp::TcpSettings,
};
use tempfile::TempDir;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{bare::Bare, info::Info};
use crate::{
    queue::Queue,
    redis::{
        Redis, ScanCursor, Timeouts,
        embedded::{Embedded, EmbeddedSettings},
    },
};

/// What every key of a benchmark begins with. It is always the same, so that two benchmarks cannot share a Redis, and
/// what a killed one left behind is seen.
pub(super) const PREFIX: &str = "overdue-bench";
/// How long Redis may take for one answer: it may be at work on a large batch, or writing its append-only file.
pub(super) const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(10), response: Duration::from_secs(60) };
/// How long Redis may take to give back the memory of what was removed. 10 million ids take some seconds.
const FREEING_LIMIT: Duration = Duration::from_secs(120);
/// How long tasks may take to end that were aborted; they share two cores with what they measure.
const LAST_CALLS: Duration = Duration::from_millis(50);
const FREEING_STEP: Duration = Duration::from_millis(2);

/// The Redis of a benchmark.
pub(super) struct Rig {
    url: String,
    redis: Redis,
    /// Started just for this, and the directory of one with an append-only file.
    server: Option<(Embedded, Option<TempDir>)>,
    /// Held by a thread that works without awaiting: it may still run when whoever started it is gone.
    threads: Arc<Mutex<()>>,
}

impl Rig {
    /// A Redis of its own, or the one of the url.
    pub(super) async fn open(url: Option<String>, aof: bool) -> anyhow::Result<Self> {
        let (url, server) = match url {
            Some(url) => (url, None),
            None => {
                let server = start(aof).await?;
                (server.0.url().to_owned(), Some(server))
            }
        };
        let redis = Redis::open(&url, TIMEOUTS)?;
        let rig = Self { url, redis, server, threads: Arc::default() };
        rig.take_possession().await?;
        Ok(rig)
    }

    /// Refuses to run where there are keys of another benchmark, and lets no other begin.
    async fn take_possession(&self) -> anyhow::Result<()> {
        let mut command = redis::cmd("SET");
        let marked = self.redis.run(command.arg(marker()).arg(std::process::id()).arg("NX")).await?;
        let found = if marked == Value::Okay { self.keys().await?.pop() } else { Some(marker().into()) };
        let Some(found) = found else { return Ok(()) };
        if marked == Value::Okay {
            self.redis.run(redis::cmd("DEL").arg(marker())).await?;
        }
        bail!(
            "this Redis has a key `{}`: another benchmark is at work on it, or was killed; in the latter case remove \
             all keys {PREFIX}:*",
            crate::types::printable(&found)
        )
    }

    /// True if nobody else uses the Redis.
    pub(super) fn is_private(&self) -> bool {
        self.server.is_some()
    }

    /// The url for another process.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The connection that measures nothing.
    pub(super) fn redis(&self) -> &Redis {
        &self.redis
    }

    /// A queue with a connection of its own, which is open.
    pub(super) async fn queue(&self, name: &str) -> anyhow::Result<Queue> {
        let redis = Redis::open(&self.url, TIMEOUTS)?;
        redis.ping().await?;
        Ok(Queue::new(redis, PREFIX, name.parse()?))
    }

    /// A bare connection for awaiting callers.
    pub(super) async fn connect(&self) -> anyhow::Result<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(TIMEOUTS.response));
        Ok(self.client()?.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// The same client as [`Redis`] has, with its settings for TCP.
    fn client(&self) -> anyhow::Result<Client> {
        let info = self.url.as_str().into_connection_info()?;
        let info = match info.addr() {
            ConnectionAddr::Unix(_) => info,
            _ => info.set_tcp_settings(TcpSettings::default().set_nodelay(true)),
        };
        Ok(Client::open(info)?)
    }

    /// Runs bare commands on a thread and a connection of their own: no runtime stands between them and Redis. When
    /// this is dropped, the thread ends after its current step.
    pub(super) async fn bare<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Bare) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let stop = CancellationToken::new();
        let _stopped_when_dropped = stop.clone().drop_guard();
        let (client, alone) = (self.client()?, Arc::clone(&self.threads).lock_owned().await);
        let worked = tokio::task::spawn_blocking(move || {
            let _alone = alone;
            let connection = client.get_connection_with_timeout(TIMEOUTS.connect)?;
            connection.set_read_timeout(Some(TIMEOUTS.response))?;
            work(&mut Bare::new(connection, stop))
        });
        worked.await.context("a bare client panicked")?
    }

    /// Removes all that was written, and waits until Redis has given back the memory: it does so in the
    /// background, which would be a load on what is measured next.
    pub(super) async fn clear(&self) -> anyhow::Result<()> {
        let _no_thread_writes = self.threads.lock().await;
        // Until there is nothing: what was aborted may have sent its last call just now.
        loop {
            let keys = self.keys().await?;
            if keys.is_empty() {
                break;
            }
            for some in keys.chunks(1000) {
                self.redis.run(redis::cmd("UNLINK").arg(some)).await?;
            }
        }
        let begun = Instant::now();
        while Info::read(&self.redis, "memory").await?.number("lazyfree_pending_objects")? > 0.0 {
            if begun.elapsed() > FREEING_LIMIT {
                bail!("Redis is still giving back memory after {FREEING_LIMIT:?}");
            }
            sleep(FREEING_STEP).await;
        }
        Ok(())
    }

    /// All keys of benchmarks but the marker.
    pub(super) async fn keys(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let (mut found, mut next) = (Vec::new(), Some(ScanCursor::START));
        while let Some(cursor) = next {
            let page = self.redis.scan(cursor, &format!("{PREFIX}:*")).await?;
            found.extend(page.keys.into_iter().filter(|key| *key != marker().as_bytes()));
            next = page.next;
        }
        Ok(found)
    }

    /// Removes the keys, or the server with them. Failing at it costs nobody the figures, so it only says so.
    pub(super) async fn close(mut self) {
        let closed = match self.server.take() {
            Some((server, _dir)) => server.stop().await.map(drop).map_err(anyhow::Error::from),
            None => self.give_up_possession().await,
        };
        if let Err(cause) = closed {
            eprintln!("overdue: cannot clean up: {cause:#}");
        }
    }

    async fn give_up_possession(&self) -> anyhow::Result<()> {
        self.clear().await?;
        // A task that was aborted ends at its next pause, and may send a call until then.
        sleep(LAST_CALLS).await;
        self.clear().await?;
        self.redis.run(redis::cmd("DEL").arg(marker())).await?;
        Ok(())
    }
}

/// What tells of a benchmark that runs.
fn marker() -> String {
    format!("{PREFIX}:running")
}

async fn start(aof: bool) -> anyhow::Result<(Embedded, Option<TempDir>)> {
    if !aof {
        return Ok((Embedded::ephemeral().await?, None));
    }
    let dir = tempfile::Builder::new().prefix("overdue-").tempdir()?;
    let settings = EmbeddedSettings { data_dir: dir.path().to_owned(), port: None };
    Ok((Embedded::start(settings).await?, Some(dir)))
}
