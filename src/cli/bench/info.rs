//! What Redis tells of itself.

use std::collections::HashMap;

use anyhow::Context as _;

use crate::redis::{self, Redis};

/// A section of INFO.
pub(super) struct Info(redis::Info);

/// How often scripts were called, and how long that took in all.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ScriptCalls {
    pub(super) calls: f64,
    pub(super) us: f64,
}

impl Info {
    pub(super) async fn read(redis: &Redis, section: &str) -> anyhow::Result<Self> {
        Ok(Self(redis.info(section).await?))
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.0.text(name).unwrap_or("?")
    }

    pub(super) fn number(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.text(name);
        text.parse().with_context(|| format!("INFO says `{text}` of {name}, which is no number"))
    }

    /// The seconds of a core that Redis has used so far, from the section `cpu`.
    pub(super) fn cpu_s(&self) -> anyhow::Result<f64> {
        Ok(self.number("used_cpu_sys")? + self.number("used_cpu_user")?)
    }

    /// From the section `commandstats`; none were called if it has none.
    pub(super) fn script_calls(&self) -> ScriptCalls {
        let fields = self.text("cmdstat_evalsha").split(',').filter_map(|field| field.split_once('='));
        let fields: HashMap<&str, f64> =
            fields.filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect();
        let of = |name| fields.get(name).copied().unwrap_or(0.0);
        ScriptCalls { calls: of("calls"), us: of("usec") }
    }
}

impl ScriptCalls {
    pub(super) async fn so_far(redis: &Redis) -> anyhow::Result<Self> {
        Ok(Info::read(redis, "commandstats").await?.script_calls())
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self { calls: self.calls - before.calls, us: self.us - before.us }
    }
}

/// The bytes that Redis has in use, as it counts them itself.
pub(super) async fn used_memory(redis: &Redis) -> anyhow::Result<f64> {
    Info::read(redis, "memory").await?.number("used_memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Info {
        Info(redis::Info::parse(text))
    }

    #[test]
    fn script_calls_are_found_or_are_none() {
        let info = parse(
            "# Commandstats\r\ncmdstat_evalsha:calls=42,usec=1234,usec_per_call=29.38,rejected_calls=0\r\n",
        );
        let calls = info.script_calls();
        assert_eq!((calls.calls, calls.us), (42.0, 1234.0));
        assert_eq!(parse("").script_calls().calls, 0.0);
        assert!(info.number("used_memory").is_err());
    }
}
