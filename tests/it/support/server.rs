//! Real redis-servers for tests.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{LazyLock, OnceLock},
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
    kill -9 $! 2>/dev/null
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
        Self::start_as(&[program()], options, |_| {})
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

    /// Where overdue connects: as a user with no more rights than the documentation says.
    pub(crate) fn url(&self) -> String {
        let socket = self.socket();
        format!("unix://{}?user={USER}&pass={PASSWORD}", socket.display())
    }

    /// Where those connect who may do everything.
    pub(crate) fn root_url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A file in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
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

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("redis.sock")
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

/// Who overdue is to its servers here.
pub(crate) const USER: &str = "overdue";
pub(crate) const PASSWORD: &str = "geheim";

/// The rights of that user, word by word as the documentation has them: there, an operator copies them.
fn rights() -> impl Iterator<Item = String> {
    let line = include_str!("../../../docs/servers.md").lines().find(|line| line.starts_with("ACL SETUSER"));
    let words = line.expect("the documentation has the line").split(' ').skip(2);
    // As the page says of it.
    let waitaof = (version() >= (7, 2)).then_some("+waitaof");
    words.chain(waitaof).map(|word| word.replace("PASSWORD", PASSWORD))
}

/// The server that the tests run on: `redis-server`, or what `OVERDUE_TEST_REDIS_SERVER` names.
pub(crate) fn program() -> &'static str {
    static PROGRAM: LazyLock<String> =
        LazyLock::new(|| env::var("OVERDUE_TEST_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned()));
    &PROGRAM
}

/// The first two numbers of its version; those of Valkey, which go on where Redis 7.2 ended.
pub(crate) fn version() -> (u32, u32) {
    static VERSION: LazyLock<(u32, u32)> = LazyLock::new(|| {
        let said = Command::new(program()).arg("--version").output().expect("a server to test with").stdout;
        let said = String::from_utf8_lossy(&said).into_owned();
        let version = said.split_once(" v=").expect("it says its version").1;
        let mut numbers = version.split('.').map(|number| number.parse().expect("a number"));
        (numbers.next().expect("a major version"), numbers.next().expect("a minor version"))
    });
    *VERSION
}

fn launch(dir: &Path, program: &[String], options: &[String]) -> (Child, u32) {
    let fixed = ["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "no"];
    let fixed = fixed.into_iter().chain(["--daemonize", "no"]);
    // Before 7.0 DEBUG was always there.
    let debug = ["--enable-debug-command", "yes"].into_iter().filter(|_| version() >= (7, 0));
    let user = ["--user".to_owned()].into_iter().chain(rights());
    let words = fixed.chain(debug).map(str::to_owned).chain(user);
    let words: Vec<String> = program.iter().cloned().chain(words).chain(options.iter().cloned()).collect();
    keep(dir, &words)
}

/// Runs a server in a directory, as long as the other end of the keeper's stdin is held.
pub(super) fn keep(dir: &Path, words: &[String]) -> (Child, u32) {
    let mut keeper = Command::new("sh")
        .args(["-c", KEEPER, "keeper"])
        .arg(dir)
        .args(words)
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
