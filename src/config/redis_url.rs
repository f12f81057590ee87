//! The url of Redis, which is a secret as soon as it holds a password.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::error::Invalid;

const SCHEMES: [&str; 4] = ["redis://", "rediss://", "unix://", "redis+unix://"];

/// What may stand in a query and is no secret.
const SHOWN_PARAMETERS: [&str; 3] = ["db", "user", "protocol"];

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

    /// True if it names host and port, not a socket.
    pub(super) fn is_tcp(&self) -> bool {
        self.0.starts_with("redis://") || self.0.starts_with("rediss://")
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
/// user counts as a password, for people write it so), where a port should be and is none, and in the `pass=` that
/// socket urls have, however it is spelled. Passwords with an unescaped `@`, `/` or `?` are hidden too: rather too much
/// than too little.
pub(super) fn hide_password(text: &str) -> String {
    let host_at = text.find("://").map_or(0, |at| at + "://".len());
    let (scheme, rest) = text.split_at(host_at);
    let rest = match rest.rsplit_once('@') {
        Some((user_info, host)) => match user_info.split_once(':') {
            Some((user, _)) => format!("{user}:***@{host}"),
            None => format!("***@{host}"),
        },
        None if host_at > 0 => without_port(rest),
        None => rest.to_owned(),
    };
    let (before, query) =
        rest.split_once('?').map_or((&*rest, None), |(before, query)| (before, Some(query)));
    let before =
        before.split_once("pass=").map_or_else(|| before.to_owned(), |(known, _)| format!("{known}pass=***"));
    let hide = |part: &str| match part.split_once('=') {
        Some((key, _)) if !SHOWN_PARAMETERS.contains(&key) => format!("{key}=***"),
        _ => part.to_owned(),
    };
    let query = query.map(|query| query.split('&').map(hide).collect::<Vec<_>>().join("&"));
    format!("{scheme}{before}{}", query.map_or_else(String::new, |query| format!("?{query}")))
}

/// Without what stands in place of a port and is none: where the host was forgotten, it is the password.
fn without_port(rest: &str) -> String {
    let end = rest.find(|c: char| "/?#\"'`, ".contains(c)).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') && !port.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{host}:***{behind}")
        }
        _ => rest.to_owned(),
    }
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
            ("redis+unix:///r.sock?p%61ss=geheim", "redis+unix:///r.sock?p%61ss=***"),
            ("redis://:geheim", "redis://:***"),
            ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
            ("redis://[::1]", "redis://[::1]"),
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
