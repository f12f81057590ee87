//! The embedded Redis: a private `redis-server` in `data_dir`, for setups that have no Redis of their own.
//!
//! Two advisory file locks (flock) carry the whole protocol; the kernel drops them with the process that
//! holds them, so no death, not even by `kill -9`, leaves a state that needs repair:
//!
//! | file | held by | means |
//! |---|---|---|
//! | `redis.lock` | the `redis-server` process itself, which inherits it as its stdin | a server is alive |
//! | `serve.lock` | every [`Embedded`], shared | the server is in use |
//!
//! Whoever gets `redis.lock` starts the server, so two of them can never write one AOF. Whoever gets
//! `serve.lock` exclusively on leaving was the last user, and shuts the server down. A server whose owner was
//! killed runs on; the next start joins it and, as its only user, stops it at the end.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tracing::{info, warn};

mod error;
#[cfg(test)]
mod fuzz;
mod server;
mod torn;

pub use error::EmbeddedError;
use server::{Origin, SOCKET, STOP_LIMIT, Server, absolute, url_of};

/// How often the supervisor looks whether the server is alive. A try-lock costs next to nothing; half a second
/// is short beside the time that a redis-server needs to load its data.
const SUPERVISE_INTERVAL: Duration = Duration::from_millis(500);
/// The longest pause between two restarts of a server that keeps dying: deadlines are waiting for it.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long a start waits for another process that is just stopping the server: as long as a stop may take,
/// and a little more.
const ENTER_LIMIT: Duration = STOP_LIMIT.saturating_add(Duration::from_secs(5));
/// How often waiting for `serve.lock` tries again.
const ENTER_STEP: Duration = Duration::from_millis(20);

/// Where the embedded server lives, and whether it also listens on TCP.
#[derive(Debug, Clone)]
pub struct EmbeddedSettings {
    /// The directory of its data, socket, log and locks; created with mode 0700 if it is missing.
    pub data_dir: PathBuf,
    /// A port on 127.0.0.1 beside the unix socket; none (or 0) = no TCP. A server that runs already keeps the
    /// port that it was started with.
    pub port: Option<u16>,
}

/// A running embedded server, started or joined.
///
/// End it with [`stop`](Self::stop). Dropping it does the same without waiting: if nobody else uses the server,
/// it is asked to shut down. While this value lives, a server that dies is started again.
///
/// ```no_run
/// use overdue::redis::{Redis, Timeouts, embedded::Embedded};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let embedded = Embedded::ephemeral().await?;
/// let redis = Redis::open(embedded.url(), Timeouts::default())?;
/// redis.ping().await?;
/// embedded.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Embedded {
    // The order matters when dropped: the supervisor must be gone before the server is stopped, and the server
    // told to stop before its directory is deleted.
    supervisor: JoinSet<()>,
    membership: Membership,
    url: String,
    joined: bool,
    _scratch_dir: Option<TempDir>,
}

/// How [`Embedded::stop`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Nobody else used the server; it has saved everything and is down.
    Shutdown,
    /// Another process still uses the server; it runs on.
    LeftToOthers,
}

impl Embedded {
    /// Starts the server of `data_dir`, or joins the one that runs. It has answered PING when this returns.
    ///
    /// # Errors
    /// If the directory cannot be used, no server is installed, it dies at once, or it does not answer in time.
    pub async fn start(settings: EmbeddedSettings) -> Result<Self, EmbeddedError> {
        let server = Server::prepare(&settings.data_dir, settings.port, true)?;
        let mut embedded = Self::run(server.clone(), None).await?;
        embedded.supervisor.spawn(supervise(server));
        Ok(embedded)
    }

    /// Starts a throw-away server without persistence in a temporary directory, which is deleted at the end.
    /// It is not started again if it dies, since it would come back empty.
    ///
    /// It belongs to the caller's process group, so that a Ctrl-C ends both. Only a caller killed with `-9`
    /// leaves the process and the directory behind.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub async fn ephemeral() -> Result<Self, EmbeddedError> {
        let scratch_dir = tempfile::Builder::new()
            .prefix("overdue-")
            .tempdir()
            .map_err(|source| EmbeddedError::DataDir { path: std::env::temp_dir(), source })?;
        let server = Server::prepare(scratch_dir.path(), None, false)?;
        Self::run(server, Some(scratch_dir)).await
    }

    async fn run(server: Server, scratch_dir: Option<TempDir>) -> Result<Self, EmbeddedError> {
        let url = url_of(&server.socket());
        // From here on an error, or a caller that gives up waiting, leaves no server behind without a user.
        let membership = Membership::enter(server).await?;
        let joined = membership.server.bring_up().await? == Origin::Joined;
        info!(url, joined, "the embedded redis-server is ready");
        Ok(Self { supervisor: JoinSet::new(), membership, url, joined, _scratch_dir: scratch_dir })
    }

    /// Where clients connect: `unix:///absolute/path/redis.sock`, percent-encoded where the path needs it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// True if the server was running already, started by another process.
    #[must_use]
    pub fn joined(&self) -> bool {
        self.joined
    }

    /// Leaves the server, and shuts it down if nobody else uses it.
    ///
    /// # Errors
    /// If it has not shut down after 30 seconds.
    pub async fn stop(mut self) -> Result<Stopped, EmbeddedError> {
        self.supervisor.shutdown().await;
        if !self.membership.leave_as_last()? {
            return Ok(Stopped::LeftToOthers);
        }
        self.membership.server.shut_down().await?;
        Ok(Stopped::Shutdown)
    }
}

/// Where another command finds the embedded server of `data_dir`: the url of its socket, if there is one.
///
/// A socket outlives a server that was killed, so connecting to it can still be refused.
#[must_use]
pub fn find(data_dir: &Path) -> Option<String> {
    let socket = absolute(data_dir).ok()?.join(SOCKET);
    socket.exists().then(|| url_of(&socket))
}

/// The shared hold on `serve.lock` that says "this server is in use".
#[derive(Debug)]
struct Membership {
    lock: File,
    server: Server,
}

impl Membership {
    /// Waits while another process is stopping the server, so that nobody joins one that is about to go.
    async fn enter(server: Server) -> Result<Self, EmbeddedError> {
        let lock = server.open_lock("serve.lock")?;
        let begun = Instant::now();
        loop {
            match lock.try_lock_shared() {
                Ok(()) => return Ok(Self { lock, server }),
                Err(TryLockError::Error(source)) => return Err(server.unusable(source)),
                Err(TryLockError::WouldBlock) if begun.elapsed() > ENTER_LIMIT => {
                    return Err(server.still_stopping(ENTER_LIMIT));
                }
                Err(TryLockError::WouldBlock) => sleep(ENTER_STEP).await,
            }
        }
    }

    /// Gives up the shared hold; true if nobody else has one, and then nobody can enter until this is dropped.
    ///
    /// Unlocking first keeps two that leave at the same instant from refusing each other: the later of them
    /// finds the lock free.
    fn leave_as_last(&self) -> Result<bool, EmbeddedError> {
        self.lock.unlock().map_err(|source| self.server.unusable(source))?;
        match self.lock.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(source)) => Err(self.server.unusable(source)),
        }
    }
}

impl Drop for Membership {
    /// After a proper stop there is no server left to ask, or others use it: then this does nothing.
    fn drop(&mut self) {
        if let Ok(true) = self.leave_as_last() {
            self.server.ask_to_stop();
        }
    }
}

/// Starts the server again whenever it is gone. Never gives up; ends by being aborted.
async fn supervise(server: Server) {
    let mut pause = SUPERVISE_INTERVAL;
    loop {
        sleep(pause).await;
        if let Ok(true) = server.is_running() {
            pause = (pause / 2).max(SUPERVISE_INTERVAL);
            continue;
        }
        warn!(dir = %server.dir().display(), "redis-server is gone, starting it again");
        pause = (pause * 2).min(RESTART_PAUSE_MAX);
        match server.bring_up().await {
            Ok(_) => info!("redis-server answers again"),
            Err(cause) => warn!(%cause, retry_after_ms = pause.as_millis(), "redis-server did not come back"),
        }
    }
}
