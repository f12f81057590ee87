//! What can go wrong with the embedded server, each with what to do about it.

use std::{io, path::PathBuf, time::Duration};

/// Why the embedded server could not be started, joined or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// The data directory, or a file in it, cannot be created, opened or locked.
    #[error(
        "data directory `{path}` cannot be used ({source}): \
         make it a writable directory of this user, or set another `redis.data_dir`",
        path = path.display()
    )]
    DataDir {
        /// The data directory.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },

    /// The operating system limits the length of a unix socket's path.
    #[error(
        "socket path `{path}` is {length} bytes long and can have at most {max}: \
         choose a shorter `redis.data_dir`",
        path = socket.display(), length = socket.as_os_str().len()
    )]
    SocketPathTooLong {
        /// The absolute path of the socket.
        socket: PathBuf,
        /// The longest path possible, in bytes.
        max: usize,
    },

    /// Neither `redis-server` nor `valkey-server` is on PATH.
    #[error(
        "no redis-server on PATH (a valkey-server would do as well). Install it with \
         `apt-get install redis-server`, `dnf install redis` or `brew install redis`, \
         or set `redis.url` to a Redis that runs already"
    )]
    NotInstalled,

    /// The binary is there, but the operating system does not start it.
    #[error("`{binary}` cannot be started: {source}")]
    Spawn {
        /// The name of the binary.
        binary: &'static str,
        /// The operating system's words.
        source: io::Error,
    },

    /// The server ended before it was ready.
    #[error("redis-server ended while starting ({status}); `{log}` says:\n{tail}", log = log.display())]
    Died {
        /// Its exit status or signal.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },

    /// A server is alive, but it does not answer.
    #[error(
        "redis-server (pid {pid}) is alive but not ready after {waited:.0?} ({state}): see `{log}`; \
         if it hangs, end it with `kill -9 {pid}`, its AOF survives that",
        log = log.display()
    )]
    NoAnswer {
        /// What was the matter when it was last asked.
        state: String,
        /// Its process id as it wrote it down, `?` if it did not.
        pid: String,
        /// Its log file.
        log: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },

    /// The server was told to shut down and is still there.
    #[error(
        "redis-server (pid {pid}) is still shutting down after {waited:.0?}: see `{log}`; \
         if it hangs, end it with `kill -9 {pid}`, its AOF survives that",
        log = log.display()
    )]
    StillStopping {
        /// Its process id as it wrote it down, `?` if it did not.
        pid: String,
        /// Its log file.
        log: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
}
