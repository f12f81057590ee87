//! Where a replay runs: keys of its own, which are gone when it is over.

use super::super::context::Context;
use crate::{
    app,
    queue::Queue,
    redis::{Redis, Timeouts, embedded::Embedded},
    types::QueueName,
};

/// A queue that nobody else knows.
///
/// A replay that is killed with `-9` leaves it behind: on a shared Redis a handful of keys that begin with
/// `overdue-replay-` and that nothing ever reads again (UNLINK them), or else the server that it started,
/// idle, with its directory (see [`Embedded::ephemeral`]).
pub(super) struct Scratch {
    queue: Queue,
    /// Started just for this, if there was no other.
    server: Option<Embedded>,
}

impl Scratch {
    pub(super) async fn open(context: &Context) -> anyhow::Result<Self> {
        let (redis, server) = match running_redis(context).await? {
            Some(redis) => (redis, None),
            None => {
                let server = Embedded::ephemeral().await?;
                (Redis::open(server.url(), Timeouts::default())?, Some(server))
            }
        };
        let prefix = format!("overdue-replay-{:016x}", rand::random::<u64>());
        let queue = Queue::new(redis, &prefix, QueueName::new("replay")?);
        Ok(Self { queue, server })
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Removes the keys, or the server with them. Failing at it costs nobody the figures, so it only says so.
    pub(super) async fn remove(self) {
        if let Some(server) = self.server {
            if let Err(cause) = server.stop().await {
                eprintln!("overdue: the server of this replay may still run: {cause}");
            }
        } else if let Err(cause) = self.queue.remove().await {
            eprintln!("overdue: keys {} may be left in Redis: {cause}", self.queue.key_pattern());
        }
    }
}

/// The Redis of the configuration, which must answer, or the private one of a running `serve`.
async fn running_redis(context: &Context) -> anyhow::Result<Option<Redis>> {
    let config = &context.config.redis;
    let Some(redis) = app::find_redis(config)? else { return Ok(None) };
    match redis.ping().await {
        Ok(()) => Ok(Some(redis)),
        Err(cause) if config.names_servers() => Err(cause.into()),
        // The socket that a killed `serve` left behind.
        Err(_) => Ok(None),
    }
}
