//! [`Redis`]: a handle to where the queues are, be it one server, the master that sentinels name, or a cluster.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, Value};

use super::{
    cluster::Cluster,
    durability::Wait,
    error::short,
    link::{Link, Request},
    script::{Call, Planted},
    sentinel::Sentinel,
    servers::Access,
    slot::slot_of,
};
use crate::{
    config::RedisConfig,
    error::{Error, Result},
    fault::{self, Side},
    types::{Durability, ServerTime},
};

/// How long a connection attempt and an answer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For establishing a connection.
    pub connect: Duration,
    /// For the answer to one command or pipeline. A command that timed out may have run.
    pub response: Duration,
}

impl From<&RedisConfig> for Timeouts {
    fn from(config: &RedisConfig) -> Self {
        Self { connect: config.connect_timeout, response: config.response_timeout }
    }
}

impl Default for Timeouts {
    /// The values of the reference configuration.
    fn default() -> Self {
        Self::from(&RedisConfig::default())
    }
}

/// A handle to Redis, cheap to clone. It connects on first use. What failed is never repeated in here if it may have
/// run; where a cluster or its nodes say that it has not, it is sent to where they say.
///
/// ```no_run
/// use overdue::redis::{Redis, Timeouts};
///
/// # async fn example() -> overdue::Result<()> {
/// let redis = Redis::open("redis://127.0.0.1:6379", Timeouts::default())?;
/// redis.ping().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Redis {
    route: Route,
    planted: Arc<Planted>,
    /// The slot whose node gets all calls, where there is a cluster; none: any node, for questions to any.
    slot: Option<u16>,
    /// How long connecting and an answer may take, where that is less than the timeouts say.
    limit: Option<Duration>,
}

/// The way to the server that a call is for.
#[derive(Clone)]
enum Route {
    Single(Arc<Link>),
    Sentinel(Arc<Sentinel>),
    Cluster(Arc<Cluster>),
}

impl Redis {
    /// A handle to one server. Checks the url (`redis://`, `rediss://` or `unix://`) without connecting.
    ///
    /// # Errors
    /// If the url cannot be read.
    pub fn open(url: &str, timeouts: Timeouts) -> Result<Self> {
        Ok(Self::on(Route::Single(Access::by_url(timeouts).link_to_url(url)?)))
    }

    /// A handle to what the configuration names: one server, sentinels or a cluster. None if it wants a private server.
    /// Checks urls and reads certificates without connecting.
    ///
    /// ```no_run
    /// use overdue::{
    ///     config::{RedisConfig, RedisUrl},
    ///     redis::Redis,
    /// };
    ///
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = RedisConfig {
    ///     sentinels: vec![RedisUrl::new("redis://10.0.0.1:26379")?, RedisUrl::new("redis://10.0.0.2:26379")?],
    ///     master: Some("mymaster".to_owned()),
    ///     ..RedisConfig::default()
    /// };
    /// let redis = Redis::configured(&config)?.expect("sentinels are named");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a url or a file cannot be used.
    pub fn configured(config: &RedisConfig) -> Result<Option<Self>> {
        let access = Access::new(config)?;
        let route = match (&config.url, &config.master) {
            (Some(url), _) => Route::Single(access.link_to_url(url.as_str())?),
            (None, Some(master)) => Route::Sentinel(Sentinel::new(&config.sentinels, master, access)?),
            (None, None) if config.cluster.is_empty() => return Ok(None),
            (None, None) => Route::Cluster(Cluster::new(&config.cluster, access)?),
        };
        Ok(Some(Self::on(route)))
    }

    fn on(route: Route) -> Self {
        Self { route, planted: Arc::new(Planted::from_env()), slot: None, limit: None }
    }

    /// The same handle, for which the Lua files of a directory take the place of the scripts of their names.
    #[cfg(feature = "faults")]
    #[must_use]
    pub fn planting(&self, dir: &std::path::Path) -> Self {
        Self { planted: Arc::new(Planted::from_dir(dir)), ..self.clone() }
    }

    /// The same handle, with the same connection, for a caller who waits no longer than this for a connection, and
    /// for an answer. Whoever merely drops a call that takes long leaves a half-open connection in its place: only
    /// a timeout in here drops that.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self.clone() }
    }

    /// The same handle, for calls that are about this key, and those in the slot of its hash tag: in a cluster they go
    /// to the node that has it.
    #[must_use]
    pub fn near(&self, key: &str) -> Self {
        Self { slot: Some(slot_of(key)), ..self.clone() }
    }

    /// True if it leads to a cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.route, Route::Cluster(_))
    }

    /// A handle to each server that has a part of the keys: the masters of a cluster, else the one server.
    ///
    /// # Errors
    /// As [`Redis::run`].
    pub async fn masters(&self) -> Result<Vec<Self>> {
        let links = match &self.route {
            Route::Single(_) => return Ok(vec![self.clone()]),
            Route::Sentinel(sentinel) => vec![sentinel.master(self.limit).await?],
            Route::Cluster(cluster) => cluster.masters(self.limit).await?,
        };
        Ok(links.into_iter().map(|link| Self { route: Route::Single(link), ..self.clone() }).collect())
    }

    /// Where it leads, for people: host and port of one server, the name that sentinels know, or nodes of the cluster.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.route {
            Route::Single(link) => link.address(),
            Route::Sentinel(sentinel) => sentinel.name().to_owned(),
            Route::Cluster(cluster) => cluster.name(),
        }
    }

    /// What each sentinel says where the master is, as `host:port`; empty where there are none.
    pub async fn sentinels(&self) -> Vec<(String, Result<String>)> {
        match &self.route {
            Route::Sentinel(sentinel) => sentinel.ask_all().await,
            _ => Vec::new(),
        }
    }

    /// Runs one command.
    ///
    /// # Errors
    /// [`Error::Redis`], after the connect or the response timeout at the latest.
    pub async fn run(&self, command: &Cmd) -> Result<Value> {
        self.send(Request { command, script: None, wait: None }).await
    }

    /// Runs one script; loads it first if the server does not know it.
    ///
    /// # Errors
    /// As [`Redis::run`].
    pub async fn call(&self, call: &Call<'_>) -> Result<Value> {
        self.call_and_wait(call, None).await
    }

    /// The same for a write, and waits until it has reached this. It has a connection for itself meanwhile, so that
    /// nobody else waits.
    ///
    /// # Errors
    /// As [`Redis::run`]. [`Error::NotDurable`]: it is written, but was not seen to get there.
    pub async fn write(&self, call: &Call<'_>, durability: Durability) -> Result<Value> {
        self.call_and_wait(call, Wait::of(durability)).await
    }

    async fn call_and_wait(&self, call: &Call<'_>, wait: Option<Wait>) -> Result<Value> {
        fault::point(Side::Before, call.name());
        let script = self.planted.in_place_of(call.script);
        let command = call.command(script);
        let answer = self.send(Request { command: &command, script: Some(script), wait }).await;
        fault::point(Side::After, call.name());
        answer
    }

    async fn send(&self, request: Request<'_>) -> Result<Value> {
        // Boxed where there is more than the one way: else the state of all of them is a part of every caller's, down to
        // the stack of whoever polls it.
        match &self.route {
            Route::Single(link) => {
                link.send(request, false, self.limit).await.map_err(|failure| failure.error)
            }
            Route::Sentinel(sentinel) => Box::pin(sentinel.send(request, self.limit)).await,
            Route::Cluster(cluster) => match self.slot {
                Some(slot) => Box::pin(cluster.send(slot, request, self.limit)).await,
                None => Box::pin(cluster.send_to_any(request, self.limit)).await,
            },
        }
    }

    /// Asks whether Redis is there and takes commands.
    ///
    /// # Errors
    /// As [`Redis::run`]; a server that is loading its data says so.
    pub async fn ping(&self) -> Result<()> {
        self.run(&redis::cmd("PING")).await.map(drop)
    }

    /// The server's clock.
    ///
    /// # Errors
    /// As [`Redis::run`].
    pub async fn time(&self) -> Result<ServerTime> {
        let value = self.run(&redis::cmd("TIME")).await?;
        let us = redis::from_redis_value(value).ok().and_then(|(s, us): (i64, i64)| {
            // Redis sends both as text of any length.
            s.checked_mul(1_000_000)?.checked_add(us)
        });
        us.map(ServerTime::from_us)
            .ok_or_else(|| Error::Reply { script: "TIME", detail: "no seconds and microseconds".to_owned() })
    }

    /// Names the key that holds another type than it should: Redis does not say which, so this asks for each.
    pub(crate) async fn wrong_type<'a>(
        &self,
        typed: impl Iterator<Item = (&'a String, &'static str)>,
    ) -> Option<Error> {
        for (key, expected) in typed {
            let Value::SimpleString(found) = self.run(redis::cmd("TYPE").arg(key)).await.ok()? else {
                return None;
            };
            if found != expected && found != "none" {
                return Some(Error::WrongType { key: key.clone(), expected, found: short(&found) });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_call_is_small() {
        let redis = Redis::open("redis://127.0.0.1:1", Timeouts::default()).unwrap();
        let command = redis::cmd("PING");
        let bytes = size_of_val(&redis.run(&command));
        assert!(bytes <= 1024, "{bytes} bytes are a part of the state of every caller, and of its stack");
    }
}
