//! Where a page of a list ends.

use std::{fmt, str::FromStr};

use crate::error::Invalid;

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

    pub(crate) fn score(&self) -> &str {
        &self.score
    }

    pub(crate) fn id(&self) -> &[u8] {
        &self.id
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
            score.parse::<f64>().ok()?;
            let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
            let id = (0..hex.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
            Some(Self { score: score.to_owned(), id })
        });
        parsed.ok_or_else(|| Invalid::new("cursor", text, "was not made by `list`: pass one on as it came"))
    }
}
