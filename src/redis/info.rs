//! What Redis tells of itself: <https://redis.io/docs/latest/commands/info/>.

use std::collections::HashMap;

use super::Redis;
use crate::error::{Error, Result};

/// Lines of INFO by their names.
#[derive(Debug, Clone, Default)]
pub struct Info(HashMap<String, String>);

impl Info {
    /// Reads the lines `name:value`; others are headings.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    /// The value of a line; none if this server does not tell it.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The same as a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        self.text(name)?.parse().ok()
    }
}

impl Redis {
    /// What a server says in a section of INFO, or in all that it says without being asked for more, with `default`.
    ///
    /// # Errors
    /// As [`Redis::run`].
    pub async fn info(&self, section: &str) -> Result<Info> {
        let value = self.run(redis::cmd("INFO").arg(section)).await?;
        let text: String = redis::from_redis_value(value)
            .map_err(|_| Error::Reply { script: "INFO", detail: "no text".to_owned() })?;
        Ok(Info::parse(&text))
    }
}
