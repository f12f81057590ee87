//! W3C trace context: what a deadline carries from its registration to its handler.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};

/// A `traceparent` by W3C Trace Context, level 1: `00-<trace>-<parent>-<flags>`, in lower-case hexadecimal digits.
///
/// ```
/// use overdue::queue::TraceParent;
/// assert!(TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").is_some());
/// assert!(TraceParent::parse("00-00000000000000000000000000000000-00f067aa0ba902b7-01").is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent(Arc<str>);

/// Version, trace, parent and flags, with dashes between them.
const LEN: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;

impl TraceParent {
    /// Reads the header. What is not valid is none: the specification has it ignored. Of a later version, the parts
    /// that this one knows are kept.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (known, more) = text.split_at_checked(LEN)?;
        let parts: Vec<&str> = known.split('-').collect();
        let [version, trace, parent, flags] = parts[..] else { return None };
        let is_hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let is_zero = |part: &str| part.bytes().all(|b| b == b'0');
        let lens = parts.iter().map(|part| part.len()).eq([2, 32, 16, 2]);
        let is_sound = lens && parts.iter().all(|part| is_hex(part)) && !is_zero(trace) && !is_zero(parent);
        let is_known = match version {
            "00" => more.is_empty(),
            "ff" => false,
            _ => more.is_empty() || more.starts_with('-'),
        };
        (is_sound && is_known).then(|| Self(format!("00-{trace}-{parent}-{flags}").into()))
    }

    /// The header's value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for TraceParent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_the_specification_calls_invalid_is_ignored() {
        let parsed = |text: &str| TraceParent::parse(text).map(|trace| trace.to_string());
        assert_eq!(parsed(GOOD).as_deref(), Some(GOOD));
        assert_eq!(parsed(&format!("cc{}-what-comes", &GOOD[2..])).as_deref(), Some(GOOD));
        for bad in [
            "",
            "garbage",
            &GOOD[..LEN - 1],
            &format!("{GOOD}-more"),
            &format!("cc{}.more", &GOOD[2..]),
            &format!("ff{}", &GOOD[2..]),
            &GOOD.to_uppercase(),
            &GOOD.replace('4', "g"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b701-",
            "ö0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
