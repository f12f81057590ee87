//! One data directory and its `redis-server` process: claim it, launch it, ask it, stop it.

use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::{ffi::OsStrExt as _, fs::DirBuilderExt as _, net::UnixStream as BlockingUnixStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use super::{EmbeddedError, torn};

/// The socket's name in the data directory.
pub(super) const SOCKET: &str = "redis.sock";
const LOCK: &str = "redis.lock";
const LOG: &str = "redis.log";
const PID: &str = "redis.pid";
/// What an AOF rewrite writes to. Redis itself never removes those of a server that was killed, and one that
/// runs out of memory in every rewrite would fill the disk with them.
const REWRITE_PREFIX: &[u8] = b"temp-rewriteaof-";

/// In the order of preference. Valkey took over the options and the AOF format.
const BINARIES: [&str; 2] = ["redis-server", "valkey-server"];

/// `sun_path` has 104 bytes on macOS and the BSDs and 108 on Linux, with the closing NUL. The smaller one counts
/// everywhere, so that a configuration can move.
const SOCKET_PATH_MAX_BYTES: usize = 103;

/// How long a live server may say nothing. An empty one is ready 10 ms after its launch; 30 s outlast a busy
/// disk, and the AOF rewrite of a killed server: that child inherited the lock and takes a second to notice.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// How long a server may load its data: it reads a million deadlines a second from the base of its AOF and a
/// quarter of that from the tail, so this is more than memory holds.
const LOADING_LIMIT: Duration = Duration::from_secs(600);
/// How long a shutdown may take: the server writes and fsyncs what is left of its AOF. Together with draining
/// this has to stay below the 90 s after which systemd kills a service.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How long one question may take; a server that hangs takes the connection but never answers.
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// How often waiting looks again.
const STEP: Duration = Duration::from_millis(10);
/// How much of the log goes into an error.
const TAIL_LINES: usize = 10;

/// A data directory, and how its server is to run.
#[derive(Debug, Clone)]
pub(super) struct Server {
    dir: PathBuf,
    port: u16,
    durable: bool,
}

/// Who started the server that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Started,
    Joined,
}

/// A server process of ours. Dropping this lets it run.
struct Launched {
    /// Reaps the process, and knows its exit status or signal.
    exit: JoinHandle<String>,
    /// Where this launch begins in the log.
    log_offset: u64,
}

impl Server {
    /// Checks the path and creates the directory.
    pub(super) fn prepare(data_dir: &Path, port: Option<u16>, durable: bool) -> Result<Self, EmbeddedError> {
        let unusable = |source| EmbeddedError::DataDir { path: data_dir.to_owned(), source };
        let dir = std::path::absolute(data_dir).map_err(unusable)?;
        let server = Self { dir, port: port.unwrap_or(0), durable };
        let socket = server.socket();
        if socket.as_os_str().len() > SOCKET_PATH_MAX_BYTES {
            return Err(EmbeddedError::SocketPathTooLong { socket, max: SOCKET_PATH_MAX_BYTES });
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&server.dir).map_err(unusable)?;
        Ok(server)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// Returns as soon as a server answers PING: the one that is alive, else one that is launched here.
    pub(super) async fn bring_up(&self) -> Result<Origin, EmbeddedError> {
        let begun = Instant::now();
        let mut last_sign_of_life = begun;
        let mut launched = None;
        loop {
            if launched.is_none()
                && let Some(lock) = self.claim()?
            {
                self.mend_log().await?;
                launched = Some(self.launch(lock)?);
                last_sign_of_life = Instant::now();
            }
            let state = match self.ask("PING").await {
                Ok(answer) if answer.starts_with("+PONG") => break,
                Ok(answer) => answer.lines().next().unwrap_or("it closes the connection").to_owned(),
                Err(cause) => cause.to_string(),
            };
            if let Some(launched) = launched.take_if(|launched| launched.exit.is_finished()) {
                return Err(self.died(launched).await);
            }
            if state.starts_with("-LOADING") {
                last_sign_of_life = Instant::now();
            }
            if last_sign_of_life.elapsed() > SILENCE_LIMIT || begun.elapsed() > LOADING_LIMIT {
                let (pid, log, waited) = (self.pid(), self.dir.join(LOG), begun.elapsed());
                return Err(EmbeddedError::NoAnswer { state, pid, log, waited });
            }
            sleep(STEP).await;
        }
        if launched.is_some() {
            return Ok(Origin::Started);
        }
        self.warn_if_port_differs().await;
        Ok(Origin::Joined)
    }

    /// Repeats SHUTDOWN until the process is gone: one that has just been launched does not listen yet.
    pub(super) async fn shut_down(&self) -> Result<(), EmbeddedError> {
        let begun = Instant::now();
        while self.is_running()? {
            if begun.elapsed() > STOP_LIMIT {
                return Err(self.still_stopping(STOP_LIMIT));
            }
            // The answer that counts is the end of the process.
            let _ = self.ask("SHUTDOWN").await;
            sleep(STEP).await;
        }
        Ok(())
    }

    /// Sends SHUTDOWN without waiting, for where nothing can be awaited.
    pub(super) fn ask_to_stop(&self) {
        let sent = BlockingUnixStream::connect(self.socket())
            .and_then(|mut stream| stream.write_all(b"SHUTDOWN\r\n"));
        // Refused: no server is left, or it is in its first milliseconds and will be joined by the next start.
        drop(sent);
    }

    /// True if a process holds `redis.lock`.
    pub(super) fn is_running(&self) -> Result<bool, EmbeddedError> {
        Ok(self.claim()?.is_none())
    }

    /// Takes `redis.lock` if no server is alive.
    ///
    /// The file is opened anew each time: a lock belongs to the opening, and has to be the server's alone once
    /// it runs.
    fn claim(&self) -> Result<Option<File>, EmbeddedError> {
        let file = self.open_lock(LOCK)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(self.unusable(source)),
        }
    }

    pub(super) fn open_lock(&self, name: &str) -> Result<File, EmbeddedError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.open(self.dir.join(name)).map_err(|source| self.unusable(source))
    }

    /// Starts the process and hands it the lock.
    fn launch(&self, lock: File) -> Result<Launched, EmbeddedError> {
        self.remove_stale_files().map_err(|source| self.unusable(source))?;
        for binary in BINARIES {
            let (mut command, log_offset) =
                self.command(binary, &lock).map_err(|source| self.unusable(source))?;
            match command.spawn() {
                Ok(child) => {
                    info!(binary, pid = child.id(), dir = %self.dir.display(), "redis-server launched");
                    return Ok(Launched { exit: tokio::spawn(reap(child)), log_offset });
                }
                Err(source) if source.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(EmbeddedError::Spawn { binary, source }),
            }
        }
        Err(EmbeddedError::NotInstalled)
    }

    /// Sees to a log that lost its end with the power. Only for the holder of `redis.lock`.
    async fn mend_log(&self) -> Result<(), EmbeddedError> {
        let dir = self.dir.clone();
        // Reading is fast beside what Redis does with each command, and yet no work for this thread.
        let mended = tokio::task::spawn_blocking(move || torn::mend(&dir)).await;
        let removed_bytes =
            mended.unwrap_or_else(|cause| Err(cause.into())).map_err(|source| self.unusable(source))?;
        if removed_bytes > 0 {
            warn!(removed_bytes, "the AOF ended in the middle of a write, as after a loss of power: cut off");
        }
        Ok(())
    }

    /// Removes what an earlier server left behind. Only for the holder of `redis.lock`.
    fn remove_stale_files(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == SOCKET || name == PID || name.as_bytes().starts_with(REWRITE_PREFIX) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The command, and the length of the log that it appends to. The log is the process' stdout and stderr: so
    /// it also has what goes wrong before Redis would open a log file of its own.
    fn command(&self, binary: &str, lock: &File) -> io::Result<(Command, u64)> {
        let log = OpenOptions::new().append(true).create(true).open(self.dir.join(LOG))?;
        let log_offset = log.metadata()?.len();
        let mut command = Command::new(binary);
        command
            .args(self.options())
            .stdin(lock.try_clone()?)
            .stdout(log.try_clone()?)
            .stderr(Stdio::from(log));
        if self.durable {
            // A Ctrl-C in the terminal is for overdue alone, which drains before it stops the server.
            command.process_group(0);
        }
        Ok((command, log_offset))
    }

    fn options(&self) -> Vec<OsString> {
        let port = self.port.to_string();
        let appendonly = if self.durable { "yes" } else { "no" };
        let (socket, pid_file) = (self.socket(), self.dir.join(PID));
        let options: [(&str, &OsStr); 16] = [
            ("--dir", self.dir.as_ref()),
            ("--unixsocket", socket.as_ref()),
            ("--unixsocketperm", "700".as_ref()),
            ("--port", port.as_ref()),
            ("--bind", "127.0.0.1".as_ref()),
            ("--protected-mode", "yes".as_ref()),
            ("--pidfile", pid_file.as_ref()),
            ("--daemonize", "no".as_ref()),
            ("--supervised", "no".as_ref()),
            ("--logfile", "".as_ref()),
            ("--save", "".as_ref()),
            ("--appendonly", appendonly.as_ref()),
            ("--appendfsync", "everysec".as_ref()),
            ("--aof-load-truncated", "yes".as_ref()),
            ("--maxmemory", "0".as_ref()),
            ("--maxmemory-policy", "noeviction".as_ref()),
        ];
        options.into_iter().flat_map(|(name, value)| [name.into(), value.to_owned()]).collect()
    }

    /// Sends one command in Redis' inline form and returns the whole reply. QUIT after it makes the end of the
    /// reply the end of the stream, and all of it works while the server loads, too.
    async fn ask(&self, command: &str) -> io::Result<String> {
        let conversation = async {
            let mut stream = UnixStream::connect(self.socket()).await?;
            stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
            let mut reply = String::new();
            stream.read_to_string(&mut reply).await?;
            Ok(reply)
        };
        let silent = || Err(io::Error::new(ErrorKind::TimedOut, "it takes connections but does not answer"));
        timeout(ASK_LIMIT, conversation).await.unwrap_or_else(|_| silent())
    }

    async fn warn_if_port_differs(&self) {
        let port = self.port;
        if port != 0
            && let Ok(reply) = self.ask("CONFIG GET port").await
            && !reply.contains(&format!("\r\n{port}\r\n"))
        {
            warn!(port, "the redis-server that runs already was started with another port and keeps it");
        }
    }

    async fn died(&self, launched: Launched) -> EmbeddedError {
        let log = self.dir.join(LOG);
        let status = launched.exit.await.unwrap_or_else(|cause| cause.to_string());
        let tail = tail(&log, launched.log_offset).unwrap_or_else(|cause| cause.to_string());
        EmbeddedError::Died { status, log, tail }
    }

    pub(super) fn still_stopping(&self, waited: Duration) -> EmbeddedError {
        EmbeddedError::StillStopping { pid: self.pid(), log: self.dir.join(LOG), waited }
    }

    pub(super) fn unusable(&self, source: io::Error) -> EmbeddedError {
        EmbeddedError::DataDir { path: self.dir.clone(), source }
    }

    fn pid(&self) -> String {
        fs::read_to_string(self.dir.join(PID)).map_or_else(|_| "?".to_owned(), |pid| pid.trim().to_owned())
    }
}

/// Waits for the end of the process, so that it does not stay behind as a zombie, and returns how it ended.
async fn reap(mut child: Child) -> String {
    let status = match child.wait().await {
        Ok(status) => status.to_string(),
        Err(cause) => cause.to_string(),
    };
    info!(status, "redis-server ended");
    status
}

/// The last lines of what was logged since `offset`.
fn tail(log: &Path, offset: u64) -> io::Result<String> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
}

/// The url of a unix socket. Percent-encoded, since a path may hold what means something else in a url.
pub(super) fn url_of(socket: &Path) -> String {
    let mut url = "unix://".to_owned();
    for &byte in socket.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_keeps_any_path() {
        assert_eq!(url_of(Path::new("/var/lib/overdue/redis.sock")), "unix:///var/lib/overdue/redis.sock");
        assert_eq!(url_of(Path::new("/a b/50%?#é")), "unix:///a%20b/50%25%3F%23%C3%A9");
    }
}
