//! What is wrong with a Redis before it hurts: findings, each with what it costs and how to mend it.
//!
//! # Layout
//! - this file: findings, and the examination of everything
//! - `server`: what a server says of itself: version, role, eviction, persistence, replicas, memory
//! - `place`: what is seen from here: clocks, round trips, sentinels, slots
//! - `rights`: each script tried on scratch keys

mod place;
mod rights;
mod server;

use std::fmt;

use serde::Serialize;

use crate::{
    error::{Error, Result, TroubleKind},
    redis::{Info, Redis},
};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It can cost something some day.
    Warning,
    /// It costs deadlines, or nothing works.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// What was looked at, what was found, what follows from it, and the line that mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at, as a fixed word.
    pub check: &'static str,
    /// The server that it is about.
    pub server: String,
    /// What was found.
    pub found: String,
    /// What follows from it; empty if it is as it should be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consequence: String,
    /// What to do about it; empty if there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        let (consequence, remedy) = (String::new(), String::new());
        Self { level: Level::Ok, check, server: String::new(), found: found.into(), consequence, remedy }
    }

    fn new(
        level: Level,
        check: &'static str,
        found: impl Into<String>,
        consequence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (found, consequence, remedy) = (found.into(), consequence.into(), remedy.into());
        Self { level, check, server: String::new(), found, consequence, remedy }
    }

    fn of(self, server: &str) -> Self {
        Self { server: server.to_owned(), ..self }
    }

    /// True if deadlines will be deleted by Redis itself: nobody should serve there.
    #[must_use]
    pub fn forbids_serving(&self) -> bool {
        self.check == server::EVICTION && self.level == Level::Error
    }
}

/// What the operator has decided.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed {
    /// `redis.allow_eviction`.
    pub eviction: bool,
}

/// Looks at the servers, and at the way to them. Nothing is written.
///
/// # Errors
/// If no server can be reached at all.
pub async fn examine(redis: &Redis, allowed: Allowed) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let masters = redis.masters().await?;
    for master in &masters {
        let (name, info) = (master.name(), info(master).await?);
        let of_server = match &info {
            Ok(info) => [server::examine(info, allowed), place::examine(master, info).await?].concat(),
            Err(refused) => vec![refused.clone()],
        };
        findings.extend(of_server.into_iter().map(|finding| finding.of(&name)));
    }
    findings.extend(place::sentinels(redis).await);
    findings.extend(place::slots(redis, &masters).await?);
    Ok(findings)
}

/// Tries each script on scratch keys. `prefix` is what keys begin with. Where nothing can be written, as `others` have
/// found, every verb would fail for this one reason, and is not tried.
pub async fn examine_rights(redis: &Redis, prefix: &str, others: &[Finding]) -> Vec<Finding> {
    if others.iter().any(|finding| finding.check == server::ROLE && finding.level == Level::Error) {
        return Vec::new();
    }
    rights::examine(redis, prefix).await
}

/// INFO, or the finding that this user may not see it.
async fn info(redis: &Redis) -> Result<Result<Info, Finding>> {
    match redis.info("default").await {
        Err(Error::Redis(trouble)) if trouble.kind == TroubleKind::NoPerm => {
            let consequence = "role, eviction, persistence and memory cannot be looked at";
            let remedy = "ACL SETUSER overdue +info";
            Ok(Err(Finding::new(Level::Warning, "info", "refused", consequence, remedy)))
        }
        answer => answer.map(Ok),
    }
}
