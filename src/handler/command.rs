//! The `command` handler.

use std::{
    env, io,
    pin::pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use futures_util::future::{Either, join, select};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{ChildStderr, ChildStdin},
    time::timeout,
};

use super::{Delivery, Handler, Outcome, event};
use crate::{
    config::{self, CommandConfig},
    duration,
    process::{Program, Reach},
    types::printable,
};

/// How much of the end of stderr is kept.
const TAIL_BYTES: usize = 2048;
/// How long a group that timed out has between SIGTERM and SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(1);
/// How long to wait for the end of stderr once the command has ended. It is there at once, unless something
/// that the command left in the background holds it open.
const STDERR_GRACE: Duration = Duration::from_millis(100);

/// Runs a program for each expiry, with the event as JSON on its standard input. Exit code 0 is done, the
/// codes in `dead_exit_codes` are dead, and all else is tried again: 75 (`EX_TEMPFAIL`), any other code, a
/// signal, a timeout, a program that is not there.
///
/// The program runs in a process group of its own, which is killed as a whole when it times out or when the
/// delivery is dropped.
#[derive(Debug)]
pub struct Command {
    config: CommandConfig,
    /// The environment's settings of overdue: they may hold the password of Redis, and are not passed on.
    hidden: Vec<String>,
}

impl Command {
    /// The handler for this command line.
    #[must_use]
    pub fn new(config: CommandConfig) -> Self {
        let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        Self { config, hidden: names.filter(|name| config::is_setting(name)).collect() }
    }

    fn spawn(&self) -> io::Result<Group> {
        let (program, arguments) = self.config.command.split_first().expect("a checked command is not empty");
        let mut command = tokio::process::Command::new(program);
        command.args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        for name in &self.hidden {
            command.env_remove(name);
        }
        Program::spawn(command, Reach::Group).map(Group)
    }

    fn outcome(&self, end: End, stderr: &Tail) -> Outcome {
        let what = match end {
            End::Exit(status) if status.success() => return Outcome::Done,
            End::Exit(status) => match status.code() {
                Some(code) => format!("exit code {code}"),
                None => format!("killed by {status}"),
            },
            End::TimedOut => format!("killed after {}", duration::format(self.config.timeout)),
        };
        let stderr = stderr.text();
        let error = if stderr.is_empty() { what } else { format!("{what}: {stderr}") };
        match end {
            End::Exit(status) if self.is_dead(status) => Outcome::dead(error),
            _ => Outcome::retry(error),
        }
    }

    fn is_dead(&self, status: ExitStatus) -> bool {
        status
            .code()
            .is_some_and(|code| self.config.dead_exit_codes.iter().any(|dead| i32::from(*dead) == code))
    }
}

impl Handler for Command {
    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let program = &self.config.command[0];
        let mut group = match self.spawn() {
            Ok(group) => group,
            Err(cause) => return Outcome::retry(format!("cannot run `{program}`: {cause}")),
        };
        let mut stderr = Tail::default();
        match group.run(event::body(delivery), &mut stderr, self.config.timeout).await {
            Ok(end) => self.outcome(end, &stderr),
            Err(cause) => Outcome::retry(format!("cannot wait for `{program}`: {cause}")),
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy)]
enum End {
    Exit(ExitStatus),
    TimedOut,
}

/// A command that runs. One whose delivery is dropped goes to somebody else, so what still runs of it is killed.
struct Group(Program);

impl Group {
    /// Passes the event, and drains stderr all the while: a full pipe would stop the command.
    async fn run(&mut self, event: Vec<u8>, stderr: &mut Tail, limit: Duration) -> io::Result<End> {
        let (input, output) = self.0.pipes();
        let pipes = pin!(join(feed(input, event), stderr.fill(output)));
        match select(pin!(self.end(limit)), pipes).await {
            Either::Left((end, pipes)) => {
                // On a timeout of its own, stderr so far is all there is.
                let _ = timeout(STDERR_GRACE, pipes).await;
                end
            }
            Either::Right((_, end)) => end.await,
        }
    }

    /// Waits for the end, and brings it about after `limit`.
    async fn end(&mut self, limit: Duration) -> io::Result<End> {
        if let Ok(status) = timeout(limit, self.0.wait()).await {
            return status.map(End::Exit);
        }
        self.0.terminate(TERM_GRACE).await.map(|_| End::TimedOut)
    }
}

/// Writes the event and a newline. A command need not read it.
async fn feed(stdin: Option<ChildStdin>, mut event: Vec<u8>) {
    event.push(b'\n');
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(&event).await;
    }
}

/// The last bytes of a stream, however many there are.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    async fn fill(&mut self, stream: Option<ChildStderr>) {
        let Some(mut stream) = stream else { return };
        let mut buffer = [0; 4 * TAIL_BYTES];
        while let Ok(len @ 1..) = stream.read(&mut buffer).await {
            self.push(&buffer[..len]);
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.drain(..self.0.len().saturating_sub(TAIL_BYTES));
    }

    /// On one line, fit for logs and terminals.
    fn text(&self) -> String {
        printable(self.0.trim_ascii())
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn command() -> Command {
        let timeout = Duration::from_secs(15);
        Command::new(CommandConfig { command: vec!["x".to_owned()], timeout, dead_exit_codes: vec![65, 255] })
    }

    fn tail(text: &str) -> Tail {
        let mut tail = Tail::default();
        tail.push(text.as_bytes());
        tail
    }

    #[test]
    fn the_exit_code_decides() {
        let outcome =
            |code: i32| command().outcome(End::Exit(ExitStatus::from_raw(code << 8)), &tail("no\n"));
        assert_eq!(outcome(0), Outcome::Done);
        for code in [1, 64, 75, 254] {
            assert_eq!(outcome(code), Outcome::retry(format!("exit code {code}: no")));
        }
        for code in [65, 255] {
            assert_eq!(outcome(code), Outcome::dead(format!("exit code {code}: no")));
        }
    }

    #[test]
    fn a_signal_and_a_timeout_are_tried_again() {
        let killed = command().outcome(End::Exit(ExitStatus::from_raw(9)), &tail(" \n"));
        assert_eq!(killed, Outcome::retry("killed by signal: 9 (SIGKILL)"));
        assert_eq!(
            command().outcome(End::TimedOut, &tail("a\nb")),
            Outcome::retry("killed after 15s: a\\nb")
        );
    }

    #[test]
    fn the_tail_is_the_end_and_bounded() {
        let mut tail = tail(&"x".repeat(3 * TAIL_BYTES));
        assert_eq!(tail.0.len(), TAIL_BYTES);
        tail.push(b"the \x1b[31mend\n");
        assert_eq!(tail.0.len(), TAIL_BYTES);
        assert!(tail.text().ends_with("xxxthe \\u{1b}[31mend"), "{}", tail.text());
    }
}
