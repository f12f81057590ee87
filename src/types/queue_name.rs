//! The name of a queue, and of the companions that a queue of orders has.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Invalid;

/// Longest queue name in bytes, that of a companion aside.
pub const MAX_QUEUE_NAME_BYTES: usize = 64;

/// The name of a queue: 1 to 64 of `a-z 0-9 _ -`, and for a companion `.intake` or `.notify` behind it.
///
/// ```
/// use overdue::types::{Companion, QueueName};
/// let orders: QueueName = "orders".parse().unwrap();
/// assert_eq!(orders.companion(Companion::Intake).as_str(), "orders.intake");
/// assert!("orders.other".parse::<QueueName>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueName(Arc<str>);

/// A queue that a queue of orders keeps beside itself, in the same cluster slot. All commands work on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Companion {
    /// Orders that were accepted and are to be created.
    Intake,
    /// Expired orders of which somebody is to be told.
    Notify,
}

impl Companion {
    const ALL: [Self; 2] = [Self::Intake, Self::Notify];

    /// The word behind the dot.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Intake => "intake",
            Self::Notify => "notify",
        }
    }
}

impl QueueName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// If it is empty, over 64 characters, or holds another character.
    pub fn new(name: impl AsRef<str>) -> Result<Self, Invalid> {
        let name = name.as_ref();
        let (base, companion) = split(name);
        let known = companion.is_none_or(|word| Companion::ALL.iter().any(|known| known.word() == word));
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        if base.is_empty() || base.len() > MAX_QUEUE_NAME_BYTES || !base.bytes().all(allowed) || !known {
            let why = "cannot be: queue names are 1 to 64 of a-z 0-9 _ -, \
                       and queues of orders have companions NAME.intake and NAME.notify";
            return Err(Invalid::new("queue name", name, why));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without that of a companion: what stands in the braces of its keys.
    #[must_use]
    pub fn base(&self) -> &str {
        split(&self.0).0
    }

    /// Which companion it is, if it is one.
    #[must_use]
    pub fn as_companion(&self) -> Option<Companion> {
        let word = split(&self.0).1?;
        Companion::ALL.into_iter().find(|companion| companion.word() == word)
    }

    /// The queue that this one belongs to: itself, or the one that it is a companion of.
    #[must_use]
    pub fn root(&self) -> Self {
        Self(self.base().into())
    }

    /// The name of a companion of this queue.
    #[must_use]
    pub fn companion(&self, companion: Companion) -> Self {
        Self(format!("{}.{}", self.base(), companion.word()).into())
    }
}

fn split(name: &str) -> (&str, Option<&str>) {
    name.split_once('.').map_or((name, None), |(base, companion)| (base, Some(companion)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_names_are_lower_case() {
        assert!(QueueName::new("orders_eu-1").is_ok());
        for bad in
            ["", "Orders", "a b", "a{b}", &"x".repeat(65), ".intake", "orders.", "orders.intake.intake"]
        {
            assert!(QueueName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn companions_know_whose_they_are() {
        let orders = QueueName::new("orders").unwrap();
        let notify = orders.companion(Companion::Notify);
        assert_eq!((notify.as_str(), notify.base()), ("orders.notify", "orders"));
        assert_eq!((orders.as_companion(), notify.as_companion()), (None, Some(Companion::Notify)));
        assert_eq!(QueueName::new("orders.notify").unwrap(), notify);
    }
}
