//! `overdue doctor`

use anyhow::bail;
use clap::Args;

use super::{
    context::Context,
    output::{Format, Row},
};
use crate::doctor::{Allowed, Finding, Level, examine, examine_rights};

/// `overdue doctor`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Looks at version, role, eviction, persistence, replicas, memory, clocks, the way to Redis, sentinels, slots, and tries each script on
scratch keys of a queue `doctor-…` that is removed again. Each finding has what follows from it, and the line that mends it.

Exit code 0: nothing worse than a warning. 1: an error was found, or with --strict a warning, or Redis does not answer.")]
pub(super) struct Doctor {
    /// Fail at warnings too
    #[arg(long)]
    strict: bool,
    /// Leave out what is as it should be
    #[arg(long, short)]
    quiet: bool,
}

impl Row for Finding {
    const COLUMNS: &'static [&'static str] = &["level", "check", "server", "found"];

    fn cells(&self) -> Vec<String> {
        vec![self.level.to_string(), self.check.to_owned(), self.server.clone(), self.found.clone()]
    }
}

impl Doctor {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let config = &context.config.redis;
        let allowed = Allowed { eviction: config.allow_eviction };
        let redis = context.redis().await?;
        let mut findings = examine(&redis, allowed).await?;
        findings.extend(examine_rights(&redis, &config.prefix, &findings).await);
        let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
        if self.quiet {
            findings.retain(|finding| finding.level > Level::Ok);
        }
        context.output.rows(&findings)?;
        if context.output.format() == Format::Table {
            for finding in findings.iter().filter(|finding| finding.level > Level::Ok) {
                super::output::line(&for_people(finding))?;
            }
        }
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        let limit = if self.strict { Level::Warning } else { Level::Error };
        if worst >= limit {
            bail!("{} errors, {} warnings", count(Level::Error), count(Level::Warning));
        }
        Ok(())
    }
}

/// What a row has no room for.
fn for_people(finding: &Finding) -> String {
    let Finding { level, check, consequence, remedy, .. } = finding;
    let text = if remedy.is_empty() {
        format!("\n{level}: {check}: {consequence}")
    } else {
        format!("\n{level}: {check}: {consequence}\n  {remedy}")
    };
    text.lines().map(super::output::for_terminal).collect::<Vec<_>>().join("\n")
}
