//! The url of Redis, which is a secret as soon as it holds a password.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::error::Invalid;

const SCHEMES: [&str; 4] = ["redis://", "rediss://", "unix://", "redis+unix://"];

/// The url of a Redis server. `Display`, `Debug` and `Serialize` show `***` in place of the password.
///
/// ```
/// use overdue::config::RedisUrl;
/// let url = RedisUrl::new("redis://app:geheim@10.0.0.1:6379/0").unwrap();
/// assert_eq!(url.to_string(), "redis://app:***@10.0.0.1:6379/0");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// Checks and wraps a url.
    ///
    /// # Errors
    /// If it has another scheme than `redis`, `rediss`, `unix` or `redis+unix`, or nothing after it.
    pub fn new(url: impl Into<String>) -> Result<Self, Invalid> {
        let url = url.into();
        match SCHEMES.iter().find_map(|scheme| url.strip_prefix(scheme)) {
            None => {
                let why = format!("does not begin with one of {}", SCHEMES.join(" "));
                Err(Invalid::new("url", hide_password(&url), why))
            }
            Some("") => Err(Invalid::new("url", url, "ends after its scheme; name the host or the socket")),
            Some(_) => Ok(Self(url)),
        }
    }

    /// The url with its password, for connecting and nothing else.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hide_password(&self.0))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Puts `***` in place of the password of a url, or of a text with a url in it: before the last `@` (a lone
/// user counts as a password, for people write it so), and in the `pass=` that socket urls have. Passwords
/// with an unescaped `@`, `/` or `?` are hidden too: rather too much than too little.
pub(super) fn hide_password(text: &str) -> String {
    let host_at = text.find("://").map_or(0, |at| at + "://".len());
    let (scheme, rest) = text.split_at(host_at);
    let rest = match rest.rsplit_once('@') {
        Some((user_info, host)) => match user_info.split_once(':') {
            Some((user, _)) => format!("{user}:***@{host}"),
            None => format!("***@{host}"),
        },
        None => rest.to_owned(),
    };
    let hide_query = |part: &str| match part.split_once("pass=") {
        Some((before, _)) => format!("{before}pass=***"),
        None => part.to_owned(),
    };
    let rest: Vec<String> = rest.split('&').map(hide_query).collect();
    format!("{scheme}{}", rest.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:geheim@h", "redis://:***@h"),
            ("rediss://app:geheim@h:1/2?protocol=resp3", "rediss://app:***@h:1/2?protocol=resp3"),
            ("redis://geheim@h", "redis://***@h"),
            ("redis://app:ge@he/im?@h", "redis://app:***@h"),
            ("redis+unix:///r.sock?db=1&pass=geheim&user=a", "redis+unix:///r.sock?db=1&pass=***&user=a"),
        ] {
            let checked = RedisUrl::new(url).unwrap();
            assert_eq!(checked.as_str(), url);
            assert_eq!(checked.to_string(), shown);
            assert_eq!(format!("{checked:?}"), format!("RedisUrl({shown})"));
            assert_eq!(serde_json::to_string(&checked).unwrap(), format!("{shown:?}"));
        }
    }

    #[test]
    fn other_schemes_are_refused_without_telling_the_password() {
        for url in ["http://a:geheim@h", "a:geheim@h:6379", ":geheim@h", "127.0.0.1:6379", "redis://", ""] {
            let error = RedisUrl::new(url).unwrap_err().to_string();
            assert!(!error.contains("geheim"), "{error}");
        }
    }
}
