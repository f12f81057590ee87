//! The name of a lock, and its two keys in Redis.

use std::{fmt, str::FromStr, sync::Arc};

use crate::error::Invalid;

/// Longest name in bytes.
const MAX_BYTES: usize = 256;

/// The name of a lock: 1 to 256 bytes of UTF-8 without control characters and braces.
///
/// ```
/// use overdue::lock::LockKey;
/// assert!("nightly report".parse::<LockKey>().is_ok());
/// assert!("nightly{1}".parse::<LockKey>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LockKey(Arc<str>);

impl LockKey {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// If it is empty, over 256 bytes, or holds a control character or a brace. Braces would end the hash tag
    /// that keeps the keys of a lock in one cluster slot.
    pub fn new(key: impl AsRef<str>) -> Result<Self, Invalid> {
        let key = key.as_ref();
        if key.is_empty() || key.len() > MAX_BYTES {
            let why = format!("is {} bytes long; the name of a lock has 1 to {MAX_BYTES}", key.len());
            return Err(Invalid::new("lock", key, why));
        }
        if key.contains(|c: char| c.is_control() || "{}".contains(c)) {
            return Err(Invalid::new("lock", key, "holds a control character or a brace; remove it"));
        }
        Ok(Self(key.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if overdue keeps a lock, or its number, under this key of Redis.
    #[must_use]
    pub fn is_spelled(prefix: &str, redis_key: &[u8]) -> bool {
        redis_key.starts_with(format!("{prefix}:lock:{{").as_bytes())
    }
}

impl FromStr for LockKey {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::new(text)
    }
}

impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The two keys of a lock, in the order in which `lock_acquire.lua` gets them. Both are strings.
#[derive(Debug, Clone)]
pub(super) struct Keys([String; 2]);

impl Keys {
    pub(super) fn new(prefix: &str, key: &LockKey) -> Self {
        let lock = format!("{prefix}:lock:{{{key}}}");
        let fence = format!("{lock}:fence");
        Self([lock, fence])
    }

    /// The holder's token, and the fencing number.
    pub(super) fn both(&self) -> &[String] {
        &self.0
    }

    /// The holder's token alone.
    pub(super) fn lock(&self) -> &[String] {
        &self.0[..1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_1_to_256_bytes_without_control_characters_and_braces() {
        for good in ["a", "42", "report:daily", "日报", " ", &"x".repeat(256)] {
            assert!(LockKey::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a\nb", "{", "}", "a{b}", &"x".repeat(257)] {
            assert!(LockKey::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn both_keys_share_the_hash_tag() {
        let keys = Keys::new("overdue", &LockKey::new("nightly").unwrap());
        assert_eq!(keys.both(), ["overdue:lock:{nightly}", "overdue:lock:{nightly}:fence"]);
        assert_eq!(keys.lock(), ["overdue:lock:{nightly}"]);
    }
}
