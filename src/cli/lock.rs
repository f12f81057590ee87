//! `overdue lock`

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    os::unix::process::ExitStatusExt as _,
    pin::pin,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use futures_util::future::select_all;
use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::context::Context;
use crate::{
    duration,
    lock::{Held, Lock, LockKey, LockOptions, Loss, Release},
    process::{Program, Reach},
};

/// What the command finds in its environment. One underscore each: with two they would be settings of overdue.
const KEY_VARIABLE: &str = "OVERDUE_LOCK_KEY";
const FENCE_VARIABLE: &str = "OVERDUE_LOCK_FENCE";
/// The exit code when the lock was lost. Shells use 126 to 255 for commands that did not run or were killed, and
/// programs of this kind 125 for what went wrong around the command.
const LOST: u8 = 125;

/// `overdue lock`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: that of the command, or 128+n if signal n killed it, when the lock was held to the end;
1 the lock was not obtained, or Redis is away; 2 wrong usage; 125 the lock was lost; 126 the command
cannot be run; 127 there is no such command."
)]
pub(super) struct LockCommand {
    /// The name of the lock: 1 to 256 bytes of UTF-8 without control characters and braces
    key: LockKey,
    /// How long the lock outlives this process if it is killed, 100ms to 24h; it is extended each third of it
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    ttl: Duration,
    /// How long to wait while another holds the lock, up to 24h; 0s makes one attempt
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    wait: Duration,
    /// How long the command may run on after the SIGTERM that tells it that the lock is lost, before SIGKILL
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    kill_after: Duration,
    /// The command and its arguments, after --; no shell. It finds OVERDUE_LOCK_KEY and OVERDUE_LOCK_FENCE in its environment
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// A command that did not start: 127 if there is none, else 126, as shells have it.
#[derive(Debug, thiserror::Error)]
#[error("cannot run `{}`: {cause}", .program.display())]
pub(super) struct CannotRun {
    program: OsString,
    cause: io::Error,
}

impl CannotRun {
    pub(super) fn code(&self) -> u8 {
        if self.cause.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
    }
}

impl LockCommand {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<ExitCode> {
        // First of all: a signal from now on must not leave a lock behind.
        let mut signals = Signals::listen()?;
        let options = LockOptions { ttl: self.ttl, wait: self.wait };
        let prefix = &context.config.redis.prefix;
        let lock = Lock::new(context.redis().await?, prefix, self.key.clone(), options)?;
        let held = match acquire(&lock, &mut signals).await? {
            Ok(held) => held,
            Err(signal) => return Ok(ExitCode::from(code_of_signal(signal.as_raw()))),
        };
        let mut program = match self.spawn(&held) {
            Ok(program) => program,
            Err(cause) => {
                let program = self.command[0].clone();
                held.release().await?;
                return Err(CannotRun { program, cause }.into());
            }
        };
        let (ended, is_lost) = self.attend(&mut program, &held, &mut signals).await;
        // Before any error: whatever happened, the lock must not stay.
        let was_held = self.release(held, is_lost).await;
        let status = ended.context("cannot wait for the command")?;
        Ok(ExitCode::from(if was_held { code_of(status) } else { LOST }))
    }

    /// On a terminal the command stays in its process group: another one could not read from it, and Ctrl-C and Ctrl-Z
    /// would miss it.
    fn spawn(&self, held: &Held) -> io::Result<Program> {
        let mut command = tokio::process::Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        command.env(KEY_VARIABLE, self.key.as_str()).env(FENCE_VARIABLE, held.fence().to_string());
        Program::spawn(command, if io::stdin().is_terminal() { Reach::Program } else { Reach::Group })
    }

    /// Passes on signals until the command ends, and ends it if the lock is lost; says whether it was.
    async fn attend(
        &self,
        program: &mut Program,
        held: &Held,
        signals: &mut Signals,
    ) -> (io::Result<ExitStatus>, bool) {
        loop {
            tokio::select! {
                status = program.wait() => return (status, false),
                loss = held.lost() => {
                    self.say_lost(&loss);
                    return (program.terminate(self.kill_after).await, true);
                }
                signal = signals.next() => {
                    if !program.has_from_terminal(signal) {
                        program.signal(signal);
                    }
                }
            }
        }
    }

    /// Releases the lock; true if it was held until now.
    async fn release(&self, held: Held, is_said: bool) -> bool {
        match held.release().await {
            Ok(Release::Released) => true,
            Ok(Release::Lost(loss)) => {
                if !is_said {
                    self.say_lost(&loss);
                }
                false
            }
            Err(cause) => {
                let ttl = duration::format(self.ttl);
                eprintln!(
                    "overdue: lock `{}` is not released, it is free in at most {ttl}: {cause}",
                    self.key
                );
                true
            }
        }
    }

    fn say_lost(&self, loss: &Loss) {
        eprintln!("overdue: lock `{}` is lost: {loss}", self.key);
    }
}

/// Waits for the lock, or for a signal, after which nothing is held.
async fn acquire(lock: &Lock, signals: &mut Signals) -> anyhow::Result<Result<Held, Signal>> {
    let stop = CancellationToken::new();
    let mut acquiring = pin!(lock.acquire_unless(&stop));
    tokio::select! {
        held = &mut acquiring => Ok(Ok(held?)),
        signal = signals.next() => {
            stop.cancel();
            if let Ok(held) = acquiring.await {
                held.release().await?;
            }
            Ok(Err(signal))
        }
    }
}

fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.unwrap_or_else(|| code_of_signal(status.signal().unwrap_or(0)))
}

fn code_of_signal(signal: i32) -> u8 {
    128 + u8::try_from(signal).unwrap_or(0)
}

/// The signals that are meant for the command.
struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        use Signal as S;
        let mut signals = Vec::new();
        for kind in [S::TERM, S::INT, S::HUP, S::QUIT, S::USR1, S::USR2] {
            let stream = signal(SignalKind::from_raw(kind.as_raw())).context("cannot listen for signals")?;
            signals.push((kind, stream));
        }
        Ok(Self(signals))
    }

    async fn next(&mut self) -> Signal {
        let next = self.0.iter_mut().map(|(kind, stream)| {
            Box::pin(async {
                stream.recv().await;
                *kind
            })
        });
        select_all(next).await.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_shells() {
        assert_eq!(code_of(ExitStatus::from_raw(0)), 0);
        assert_eq!(code_of(ExitStatus::from_raw(255 << 8)), 255);
        assert_eq!(code_of(ExitStatus::from_raw(9)), 137);
        let cannot = |kind| CannotRun { program: "x".into(), cause: io::Error::from(kind) }.code();
        assert_eq!(cannot(io::ErrorKind::NotFound), 127);
        assert_eq!(cannot(io::ErrorKind::PermissionDenied), 126);
    }
}
