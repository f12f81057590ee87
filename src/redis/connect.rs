//! [`Redis`]: a handle to one server.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisError, Value,
    aio::MultiplexedConnection,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use tokio::{sync::Mutex, time::timeout};

use super::{
    error::short,
    script::{Call, Planted},
};
use crate::{
    config::RedisConfig,
    error::{Error, Invalid, Result, Trouble, TroubleKind},
    fault::{self, Side},
    types::ServerTime,
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

/// A handle to one Redis server, cheap to clone. It connects on first use. A connection that broke, timed out
/// (it may be half-open) or leads to a demoted master is dropped, and the next call makes a new one; the
/// failed call itself is never repeated here, because it may have run.
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
    inner: Arc<Inner>,
    /// How long connecting and an answer may take, where that is less than the timeouts say.
    limit: Option<Duration>,
}

struct Inner {
    client: Client,
    config: AsyncConnectionConfig,
    connect_timeout: Duration,
    /// The number tells connections apart, so that a late error of an old one does not drop its successor.
    slot: Mutex<(u64, Option<MultiplexedConnection>)>,
    planted: Planted,
}

impl Redis {
    /// Checks the url (`redis://`, `rediss://` or `unix://`) without connecting.
    ///
    /// # Errors
    /// If the url cannot be read.
    pub fn open(url: &str, timeouts: Timeouts) -> Result<Self> {
        // The url may hold a password, so the message leaves it out.
        let bad = |cause: RedisError| Invalid::new("redis.url", "…", format!("cannot be used: {cause}"));
        let info = url.into_connection_info().map_err(bad)?;
        let info = match info.addr() {
            ConnectionAddr::Unix(_) => info,
            _ => info.set_tcp_settings(tcp_settings(timeouts)),
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeouts.connect))
            .set_response_timeout(Some(timeouts.response));
        let client = Client::open(info).map_err(bad)?;
        let slot = Mutex::new((0, None));
        let (connect_timeout, planted) = (timeouts.connect, Planted::from_env());
        let inner = Inner { client, config, connect_timeout, slot, planted };
        Ok(Self { inner: Arc::new(inner), limit: None })
    }

    /// A handle of its own to the same server, for which the Lua files of a directory take the place of the
    /// scripts of their names.
    #[cfg(feature = "faults")]
    #[must_use]
    pub fn planting(&self, dir: &std::path::Path) -> Self {
        let Inner { client, config, connect_timeout, .. } = &*self.inner;
        let (client, config, connect_timeout) = (client.clone(), config.clone(), *connect_timeout);
        let (slot, planted) = (Mutex::new((0, None)), Planted::from_dir(dir));
        let inner = Inner { client, config, connect_timeout, slot, planted };
        Self { inner: Arc::new(inner), limit: self.limit }
    }

    /// The same handle, with the same connection, for a caller who waits no longer than this for a connection, and
    /// for an answer. Whoever merely drops a call that takes long leaves a half-open connection in its place: only
    /// a timeout in here drops that.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { inner: Arc::clone(&self.inner), limit: Some(limit) }
    }

    /// Runs one command.
    ///
    /// # Errors
    /// [`Error::Redis`], after the connect or the response timeout at the latest.
    pub async fn run(&self, command: &Cmd) -> Result<Value> {
        let (number, mut connection) = self.connection().await?;
        let sent = connection.send_packed_command(command);
        let answer = match self.limit {
            Some(limit) => timeout(limit, sent).await.unwrap_or_else(|_| Err(too_late())),
            None => sent.await,
        };
        match answer {
            Ok(Value::ServerError(error)) => Err(self.failed(number, error.into()).await),
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(number, error).await),
        }
    }

    /// Runs one script; loads it first if the server does not know it.
    ///
    /// # Errors
    /// As [`Redis::run`].
    pub async fn call(&self, call: &Call<'_>) -> Result<Value> {
        fault::point(Side::Before, call.name());
        let script = self.inner.planted.in_place_of(call.script);
        let command = call.command(script);
        let mut answer = self.run(&command).await;
        if matches!(&answer, Err(Error::Redis(trouble)) if trouble.kind == TroubleKind::NoScript) {
            self.run(&script.load_command()).await?;
            answer = self.run(&command).await;
        }
        fault::point(Side::After, call.name());
        answer
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

    async fn connection(&self) -> Result<(u64, MultiplexedConnection)> {
        let limit = self.inner.connect_timeout.min(self.limit.unwrap_or(Duration::MAX));
        // One limit for waiting and connecting: else each of a crowd would wait for the attempts before its own.
        match timeout(limit, self.connect()).await {
            Ok(connected) => connected,
            Err(_) => {
                let detail = format!("no connection within {limit:?}");
                Err(Trouble { kind: TroubleKind::Unreachable, detail }.into())
            }
        }
    }

    async fn connect(&self) -> Result<(u64, MultiplexedConnection)> {
        // Held while connecting, so that a crowd of callers makes one connection, not one each.
        let mut slot = self.inner.slot.lock().await;
        if let (number, Some(connection)) = &*slot {
            return Ok((*number, connection.clone()));
        }
        let made = self.inner.client.get_multiplexed_async_connection_with_config(&self.inner.config).await;
        let connection = made.map_err(Error::from)?;
        *slot = (slot.0 + 1, Some(connection.clone()));
        Ok((slot.0, connection))
    }

    async fn failed(&self, number: u64, error: RedisError) -> Error {
        let broken = matches!(error.kind(), ErrorKind::Parse) || error.is_unrecoverable_error();
        let error = Error::from(error);
        let useless = matches!(&error, Error::Redis(trouble) if trouble.kind.ends_connection());
        if broken || useless {
            let mut slot = self.inner.slot.lock().await;
            if slot.0 == number {
                slot.1 = None;
            }
        }
        error
    }
}

fn too_late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Small commands wait for nobody's ack (nodelay), and a peer that is gone without a word is noticed while
/// idle (keepalive) and while a command is on its way (user timeout).
fn tcp_settings(timeouts: Timeouts) -> TcpSettings {
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5));
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(timeouts.response);
    #[cfg(not(target_os = "linux"))]
    let _ = timeouts;
    settings
}
