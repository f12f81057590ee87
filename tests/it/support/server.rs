//! Real redis-servers for tests.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use super::LIMIT;

/// Keeps a server exactly as long as somebody holds the other end of its stdin: the kernel closes it
/// however the test process ends. A word on stdin keeps the directory, for a restart. XFSZ is ignored so that a
/// limit on the size of files is an error to Redis, as a full disk is.
const KEEPER: &str = r#"
    trap '' INT TERM HUP XFSZ
    dir=$1; shift
    "$@" >>"$dir/log" 2>&1 &
    echo $!
    read -r keep
    kill -9 $!
    wait
    [ "$keep" ] || rm -rf "$dir"
"#;

/// A redis-server of its own without persistence, gone when dropped.
pub(crate) struct RedisServer {
    dir: PathBuf,
    program: Vec<String>,
    options: Vec<String>,
    keeper: Child,
    pid: u32,
}

impl RedisServer {
    /// The one that the tests of a process share. Nobody flushes, fills, stops or breaks it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<RedisServer> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One to stop, fill or break.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further options, such as `["--appendonly", "yes"]`.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        Self::start_as(&["redis-server"], options, |_| {})
    }

    /// The same by other words than `redis-server`, which exec it in the end, once `prepare` has put into its
    /// directory what it is to find there.
    pub(crate) fn start_as(program: &[&str], options: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let dir =
            tempfile::Builder::new().prefix("overdue-it-").tempdir().expect("a temporary directory").keep();
        prepare(&dir);
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (program, options) = (owned(program), owned(options));
        let (keeper, pid) = launch(&dir, &program, &options);
        let server = Self { dir, program, options, keeper, pid };
        server.wait_until_it_listens();
        server
    }

    /// Where its files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Ends the process without a chance to write anything; its files stay.
    pub(crate) fn kill9(&mut self) {
        let mut stdin = self.keeper.stdin.take().expect("the keeper's stdin is held until now");
        stdin.write_all(b"keep\n").expect("the keeper lives as long as its stdin");
        self.keeper.wait().expect("the keeper ends after its word");
    }

    /// Starts it again on its files, after [`RedisServer::kill9`]. It may still be loading.
    pub(crate) fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// The same with further options.
    pub(crate) fn restart_with(&mut self, options: &[&str]) {
        self.options.extend(options.iter().map(ToString::to_string));
        let _ = fs::remove_file(self.socket());
        (self.keeper, self.pid) = launch(&self.dir, &self.program, &self.options);
        self.wait_until_it_listens();
    }

    /// Sends a signal by its name, such as `STOP` and `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid.to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {}", self.pid);
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("redis.sock")
    }

    fn wait_until_it_listens(&self) {
        let begun = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            if begun.elapsed() > LIMIT {
                let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                panic!("redis-server does not listen; its log says:\n{log}");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        let _ = fs::remove_dir_all(&self.dir); // after a kill9 the keeper left it
    }
}

fn launch(dir: &Path, program: &[String], options: &[String]) -> (Child, u32) {
    let mut keeper = Command::new("sh")
        .args(["-c", KEEPER, "keeper"])
        .arg(dir)
        .args(program)
        .args(["--port", "0", "--unixsocket", "redis.sock", "--dir"])
        .arg(dir)
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--enable-debug-command", "yes"])
        .args(options)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh");
    let mut pid = String::new();
    let stdout = keeper.stdout.take().expect("stdout is piped");
    BufReader::new(stdout).read_line(&mut pid).expect("the keeper says the pid");
    let pid = pid.trim().parse().expect("a pid");
    (keeper, pid)
}
