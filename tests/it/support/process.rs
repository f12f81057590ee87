//! The real binary: `serve` as a child process, and commands that end by themselves.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use tempfile::TempDir;

use super::{LIMIT, eventually};

/// The binary under test, with nothing of this process' environment that could configure it.
fn overdue(dir: &Path, is_impatient: bool) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overdue"));
    command.current_dir(dir).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OVERDUE_") {
            command.env_remove(name);
        }
    }
    // A free port for each, since many run at once; a test that cares sets another one.
    command.env("OVERDUE_HTTP__LISTEN", "127.0.0.1:0");
    if !is_impatient {
        for name in ["OVERDUE_REDIS__CONNECT_TIMEOUT", "OVERDUE_REDIS__RESPONSE_TIMEOUT"] {
            command.env(name, format!("{}s", LIMIT.as_secs()));
        }
    }
    command
}

/// A directory with an `overdue.toml`, in which commands and `serve` run.
pub(crate) struct Place {
    dir: TempDir,
    /// True if its configuration sets timeouts of its own, because the test is about them.
    is_impatient: bool,
}

impl Place {
    /// With this configuration.
    pub(crate) fn new(config: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("overdue-it-").tempdir().expect("a temporary directory");
        let place = Self { dir, is_impatient: config.contains("_timeout") };
        place.write("overdue.toml", config);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the directory is ours");
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, Stdio::null(), &[])
    }

    /// The same with stdin and variables.
    pub(crate) fn run_with(&self, arguments: &[&str], stdin: Stdio, env: &[(&str, &str)]) -> Ran {
        let mut command = overdue(self.dir.path(), self.is_impatient);
        let output = command.args(arguments).stdin(stdin).envs(env.iter().copied()).output();
        Ran(output.expect("the binary runs"))
    }

    /// Starts `serve` and waits until it says so.
    pub(crate) async fn serve(&self) -> Serve {
        let serve = self.serve_with(&[]);
        serve.says("serving").await;
        serve
    }

    /// Starts `serve` with variables, and does not wait.
    pub(crate) fn serve_with(&self, env: &[(&str, &str)]) -> Serve {
        self.start(&["serve"], env)
    }

    /// Starts a command that runs until it is stopped. What it prints goes to the file `stdout`.
    pub(crate) fn start(&self, arguments: &[&str], env: &[(&str, &str)]) -> Serve {
        let mut command = overdue(self.dir.path(), self.is_impatient);
        let stdout = fs::File::create(self.path("stdout")).expect("the directory is ours");
        command.args(arguments).envs(env.iter().copied()).stdout(stdout).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let stderr = child.stderr.take().expect("stderr is piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().expect("no panic while it is held").push(line);
            }
        });
        Serve { child, log, reader: Some(reader) }
    }
}

/// What a command that ended left behind.
pub(crate) struct Ran(Output);

impl Ran {
    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().expect("it was not killed")
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Expects exit code 0 and gives stdout.
    pub(crate) fn ok(&self) -> String {
        assert_eq!(self.code(), 0, "{}", self.stderr());
        self.stdout()
    }

    /// Expects exit code 0 and JSON on stdout.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).expect("JSON on stdout")
    }

    /// Expects this exit code and one clear line on stderr that holds all the words; gives the line.
    pub(crate) fn fails(&self, code: i32, words: &[&str]) -> String {
        let stderr = self.stderr();
        assert_eq!(self.code(), code, "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "`{word}` is not in: {stderr}");
        }
        stderr
    }
}

/// A running `serve`, killed when dropped.
pub(crate) struct Serve {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Serve {
    /// The log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic while it is held").clone()
    }

    /// Waits for a line with this word, and gives it.
    pub(crate) async fn says(&self, word: &str) -> String {
        eventually(word, async || self.log().into_iter().find(|line| line.contains(word))).await
    }

    /// The ids that the `log` handler wrote a line for, in order.
    pub(crate) fn expired(&self) -> Vec<String> {
        let log = self.log();
        let lines = log.iter().filter(|line| line.contains("deadline expired"));
        lines.filter_map(|line| field(line, "id")).collect()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([format!("-{name}"), pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// Waits for its end and gives the exit code; none if a signal ended it.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let log = Arc::clone(&self.log);
        let ended = eventually("serve ends", async || self.child.try_wait().expect("it is our child"));
        tokio::select! {
            status = ended => status.code(),
            () = tokio::time::sleep(LIMIT / 2) => {
                panic!("serve does not end; its log: {:#?}", log.lock().expect("held briefly").iter().rev().take(20).collect::<Vec<_>>())
            }
        }
    }

    /// Asks it to stop, and expects that it does so in order.
    pub(crate) async fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.ended().await, Some(0), "{:#?}", self.log());
    }

    /// Ends it without a chance to do anything.
    pub(crate) async fn kill9(mut self) -> Vec<String> {
        self.signal("KILL");
        self.ended().await;
        // What it wrote before it died may still be in the pipe.
        self.reader.take().expect("taken only here").join().expect("reading does not panic");
        self.log()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of `name=value` in a log line.
pub(crate) fn field(line: &str, name: &str) -> Option<String> {
    let rest = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
    Some(rest.trim_matches('"').to_owned())
}
