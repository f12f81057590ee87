//! Waiting until a write has reached what it has to.
//! <https://redis.io/docs/latest/commands/wait/>, <https://redis.io/docs/latest/commands/waitaof/>

use std::time::Duration;

use redis::{Cmd, Value};

use super::error::short;
use crate::{
    error::{Error, Result},
    types::{Durability, DurabilityLevel},
};

/// Waits for all writes of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    level: DurabilityLevel,
    replicas: u32,
    timeout_ms: u64,
}

impl Wait {
    /// What has to be said behind a write on the same connection; none if nothing is waited for.
    pub(super) fn of(durability: Durability) -> Option<Self> {
        let Durability { level, replicas, timeout } = durability;
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        let replicas = match level {
            DurabilityLevel::Memory => return None,
            DurabilityLevel::Replicated => replicas.max(1),
            DurabilityLevel::Fsynced => replicas,
        };
        Some(Self { level, replicas, timeout_ms })
    }

    pub(super) fn timeout(self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    pub(super) fn command(self) -> Cmd {
        match self.level {
            DurabilityLevel::Fsynced => waitaof(self.replicas, self.timeout_ms),
            _ => {
                let mut command = redis::cmd("WAIT");
                command.arg(self.replicas).arg(self.timeout_ms);
                command
            }
        }
    }

    /// What tells, before anything is written, whether this server can do it at all: it has nothing to wait for, and so
    /// answers at once. Redis before 7.2 does not know the command, and one without an AOF refuses it.
    pub(super) fn trial(self) -> Option<Cmd> {
        (self.level == DurabilityLevel::Fsynced).then(|| waitaof(0, self.timeout_ms))
    }

    /// Whether the answer means that it was reached.
    pub(super) fn check(self, answer: &Value) -> Result<()> {
        let (synced, replicas) = match (self.level, answer) {
            (DurabilityLevel::Fsynced, Value::Array(parts)) => match parts[..] {
                [Value::Int(synced), Value::Int(replicas)] => (synced > 0, replicas),
                _ => (false, 0),
            },
            (DurabilityLevel::Replicated, Value::Int(replicas)) => (true, *replicas),
            _ => (false, 0),
        };
        if synced && replicas >= i64::from(self.replicas) {
            return Ok(());
        }
        let reached = match self.level {
            DurabilityLevel::Fsynced => {
                let here = if synced { "synced" } else { "not synced" };
                format!("{here} here, and by {replicas} of {} replicas", self.replicas)
            }
            _ => format!("{replicas} of {} replicas have it", self.replicas),
        };
        Err(self.failed(&reached))
    }

    /// It is written, and this is all that is known.
    pub(super) fn failed(self, reached: &str) -> Error {
        Error::NotDurable { level: self.level.word(), reached: short(reached), waited: self.timeout() }
    }
}

fn waitaof(replicas: u32, timeout_ms: u64) -> Cmd {
    let mut command = redis::cmd("WAITAOF");
    command.arg(1).arg(replicas).arg(timeout_ms);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_reached_if_enough_have_it() {
        let of = |level, replicas| {
            Wait::of(Durability { level, replicas, timeout: Duration::from_secs(1) })
                .expect("something to wait for")
        };
        let pair = |synced, replicas| Value::Array(vec![Value::Int(synced), Value::Int(replicas)]);
        let replicated = of(DurabilityLevel::Replicated, 0);
        assert!(replicated.check(&Value::Int(1)).is_ok() && replicated.check(&Value::Int(0)).is_err());
        let error = of(DurabilityLevel::Replicated, 2).check(&Value::Int(1)).unwrap_err().to_string();
        assert!(error.contains("1 of 2 replicas") && error.contains("may still"), "{error}");
        assert!(of(DurabilityLevel::Fsynced, 0).check(&pair(1, 0)).is_ok());
        assert!(of(DurabilityLevel::Fsynced, 1).check(&pair(1, 0)).is_err());
        assert!(of(DurabilityLevel::Fsynced, 0).check(&pair(0, 5)).is_err());
        assert!(of(DurabilityLevel::Fsynced, 0).check(&Value::Int(7)).is_err());
    }
}
