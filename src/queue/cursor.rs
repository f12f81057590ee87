//! Where a page of `list` ended.

use std::{cmp::Ordering, fmt, str::FromStr};

use crate::{
    error::Invalid,
    types::{DueAt, unhex},
};

/// The place of a row in its state: pages continue behind it even when the row itself is gone by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    score: String,
    id: Vec<u8>,
}

impl Cursor {
    /// The place of a row with this score.
    pub(crate) fn new(score: &[u8], id: Vec<u8>) -> Self {
        Self { score: String::from_utf8_lossy(score).into_owned(), id }
    }

    /// Before all ids that are scheduled for this time.
    #[must_use]
    pub fn at(due_at: DueAt) -> Self {
        Self { score: due_at.as_ms().to_string(), id: Vec::new() }
    }

    pub(crate) fn score(&self) -> &str {
        &self.score
    }

    pub(crate) fn id(&self) -> &[u8] {
        &self.id
    }
}

impl Ord for Cursor {
    /// As Redis orders the members of a sorted set.
    fn cmp(&self, other: &Self) -> Ordering {
        let number = |cursor: &Self| cursor.score.parse::<f64>().unwrap_or(f64::NAN);
        number(self).total_cmp(&number(other)).then_with(|| self.id.cmp(&other.id))
    }
}

impl PartialOrd for Cursor {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_", self.score)?;
        self.id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Cursor {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parsed = text.split_once('_').and_then(|(score, hex)| {
            score.parse::<f64>().ok().filter(|score| !score.is_nan())?;
            Some(Self { score: score.to_owned(), id: unhex(hex)? })
        });
        parsed.ok_or_else(|| Invalid::new("cursor", text, "was not made by `list`: pass one on as it came"))
    }
}
