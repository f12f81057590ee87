//! A real `overdue serve`, as a child process of this executable.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    task::JoinSet,
    time::timeout,
};

use super::rig::{PREFIX, Rig};
use crate::{
    config::is_setting,
    process::{Program, Reach},
};

/// How long its start and its end may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A running `serve` of one queue with the handler `log`, whose lines are switched off. It is killed when dropped.
pub(super) struct Serve {
    program: Program,
    _log: JoinSet<()>,
    _dir: TempDir,
}

impl Serve {
    /// Starts it and waits until it says that it serves.
    pub(super) async fn start(rig: &Rig, queue: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("overdue-").tempdir()?;
        let config = dir.path().join("overdue.toml");
        let text = format!(
            "[redis]\nprefix = \"{PREFIX}\"\n[http]\nlisten = \"\"\n[log]\nlevel = \"info,overdue::handler=off\"\n\
             [queue.{queue}]\nhandler = {{ type = \"log\" }}\n"
        );
        fs::write(&config, text)?;
        let mut command = Command::new(std::env::current_exe()?);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_setting)) {
            command.env_remove(name);
        }
        command.arg("serve").arg("--config").arg(config).current_dir(dir.path());
        // Not as a flag: it may hold a password, and others on this machine can read the flags of a process.
        command.env("OVERDUE_REDIS__URL", rig.url());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut program = Program::spawn(command, Reach::Group).context("cannot start `overdue serve`")?;

        let (_, stderr) = program.pipes();
        let mut lines = BufReader::new(stderr.context("its stderr is piped")?).lines();
        let serving = async {
            let mut log = Vec::new();
            while let Some(line) = lines.next_line().await? {
                if line.contains("serving") {
                    return Ok(());
                }
                log.push(line);
            }
            bail!("`overdue serve` ended: {}", log.join("\n"))
        };
        timeout(LIMIT, serving).await.context("`overdue serve` does not start")??;
        // Read on, so that it never waits for somebody to do so.
        let mut log = JoinSet::new();
        log.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { program, _log: log, _dir: dir })
    }

    /// Its resident memory in MiB, now and at its peak; none where there is no `/proc`.
    pub(super) fn rss_mib(&self) -> Option<(f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.program.id())).ok()?;
        let of = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
        };
        Some((of("VmRSS:")?, of("VmHWM:")?))
    }

    /// The seconds of a core that it has used so far; none where there is no `/proc`, or it does not count them.
    pub(super) fn cpu_s(&self) -> Option<f64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.program.id())).ok()?;
        let mut ns = 0;
        for task in tasks {
            // To the nanosecond, where `stat` counts in hundredths of a second.
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            ns += text.split(' ').next()?.parse::<u64>().ok()?;
        }
        Some(ns as f64 / 1e9)
    }

    /// Ends it, as an operator does.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let status = self.program.terminate(LIMIT).await?;
        if !status.success() {
            bail!("`overdue serve` ended with {status}");
        }
        Ok(())
    }
}
