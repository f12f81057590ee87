//! Programs that overdue runs: how they are started, signalled and ended.

use std::{io, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use tokio::{
    process::{Child, ChildStderr, ChildStdin, Command},
    time::{Instant, sleep, timeout_at},
};

/// How often the end of a group is looked for while it has time to end by itself.
const GROUP_STEP: Duration = Duration::from_millis(20);

/// Whom a signal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The program and what it starts: it leads a process group of its own.
    Group,
    /// The program alone: it stays in the group of overdue, which is that of the terminal.
    Program,
}

/// A program that runs. It is killed when dropped, and the runtime reaps it.
pub(crate) struct Program {
    child: Child,
    pid: Pid,
    reach: Reach,
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// Those of the system: there is no such program, or it cannot be run.
    pub(crate) fn spawn(mut command: Command, reach: Reach) -> io::Result<Self> {
        if reach == Reach::Group {
            command.process_group(0);
        }
        let child = command.spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = id.and_then(Pid::from_raw).expect("a child that nobody waited for has an id");
        Ok(Self { child, pid, reach })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Its ends of the pipes, if they were asked for.
    pub(crate) fn pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStderr>) {
        (self.child.stdin.take(), self.child.stderr.take())
    }

    /// Waits for its end. What it left in the background is not waited for.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// True for a signal that the keys of a terminal, or its end, have sent to the program already.
    pub(crate) fn has_from_terminal(&self, signal: Signal) -> bool {
        self.reach == Reach::Program && [Signal::INT, Signal::QUIT, Signal::HUP].contains(&signal)
    }

    /// Signals it, unless it is reaped: its id may be another's from then on.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.child.id().is_some() {
            self.send(signal);
        }
    }

    /// Ends it by SIGTERM, and what still runs after `grace` by SIGKILL.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) async fn terminate(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        let end = Instant::now() + grace;
        self.signal(Signal::TERM);
        // One that is stopped would learn of it only later.
        self.signal(Signal::CONT);
        let in_time = timeout_at(end, self.child.wait()).await.is_ok();
        while self.outlived() && Instant::now() < end {
            sleep(GROUP_STEP).await;
        }
        // No other group can have got the id since the last look: ids come round far more slowly.
        if !in_time || self.outlived() {
            self.send(Signal::KILL);
        }
        self.child.wait().await
    }

    /// True if something of its group still runs.
    fn outlived(&self) -> bool {
        self.reach == Reach::Group && test_kill_process_group(self.pid).is_ok()
    }

    fn send(&self, signal: Signal) {
        // Fails only if nothing of it runs any more.
        let _ = match self.reach {
            Reach::Group => kill_process_group(self.pid, signal),
            Reach::Program => kill_process(self.pid, signal),
        };
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
