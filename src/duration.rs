//! Durations as people write them in the configuration and on the command line: `250ms`, `30m`, `1h30m`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};

use crate::error::Invalid;

/// The longest duration taken anywhere, 100 years: no deadline computed from it leaves the year 9999.
pub const MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Largest first, so that formatting can walk down. There is no month and no year: `M` beside `m` is a
/// trap in which a timeout of thirty minutes becomes one of thirty months, so the letters are lower case only.
const UNITS_MS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

const BILLION: u128 = 1_000_000_000;

/// Reads a duration such as `250ms`, `30m`, `2h`, `1h30m` or `1.5s`. The precision is one millisecond; a fraction of
/// one is rounded up, so that nothing fires early.
///
/// # Errors
/// If there is no unit, an unknown unit, no number, more than nine digits behind a point, or the whole is over 100
/// years.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(overdue::duration::parse("1h30m").unwrap(), Duration::from_secs(5400));
/// assert!(overdue::duration::parse("10x").is_err());
/// ```
pub fn parse(text: &str) -> Result<Duration, Invalid> {
    let bad = |why: &str| {
        Err(Invalid::new("duration", text, format!("{why}; write it like 250ms, 30m, 2h or 1h30m")))
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return bad("is empty");
    }
    let mut total_ps: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let Some(billionths) = billionths(&rest[..digits]) else {
            return bad("is no duration");
        };
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c.is_whitespace()).unwrap_or(rest.len());
        let Some((_, unit_ms)) = UNITS_MS.iter().find(|(name, _)| *name == &rest[..letters]) else {
            return bad(if letters == 0 { "has no unit" } else { "has an unknown unit" });
        };
        // A billionth of a millisecond is a picosecond.
        total_ps = total_ps.saturating_add(billionths.saturating_mul((*unit_ms).into()));
        rest = rest[letters..].trim_start();
    }
    let total_ms = total_ps.div_ceil(BILLION);
    if total_ms > MAX.as_millis() {
        return bad("is longer than 100 years");
    }
    Ok(Duration::from_millis(total_ms as u64))
}

/// Digits with at most one point among them, and at most nine behind it, as a count of billionths.
fn billionths(text: &str) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.len() + fraction.len() == 0 || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    // What does not fit is far more than 100 years, whatever the unit.
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().unwrap_or(u64::MAX) };
    let fraction: u128 = format!("{fraction:0<9}").parse().ok()?;
    Some(u128::from(whole) * BILLION + fraction)
}

/// Writes a duration the way [`parse`] reads it: `1h30m`, `250ms`, `0s`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let mut rest_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest_ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, unit_ms) in UNITS_MS {
        let count = rest_ms / unit_ms;
        rest_ms %= unit_ms;
        if count > 0 {
            text.push_str(&format!("{count}{name}"));
        }
    }
    text
}

/// A duration as it stands in a file or a request. A bare number is the usual mistake, so the message for it says
/// what to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text(pub Duration);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Quoted;
        impl de::Visitor<'_> for Quoted {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a duration in quotes, like "250ms", "30m", "2h" or "1h30m""#)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                parse(text).map(Text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Quoted)
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, ms) in [
            ("250ms", 250),
            ("30m", 1_800_000),
            ("2h", 7_200_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1.5s", 1500),
            (".5s", 500),
            ("1.1s", 1100),
            ("0.0001ms", 1),
            ("1.000000001ms", 2),
            ("0s", 0),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_text_in_the_message() {
        for text in [
            "10x",
            "",
            "30",
            "m",
            "-5s",
            "30M",
            "1y",
            "1e3s",
            "101000d",
            "1..5s",
            "ms5",
            ".s",
            "1.0000000000s",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn format_is_the_inverse_of_parse() {
        for ms in [0, 1, 999, 1000, 61_001, 5_400_000, 90_061_001, MAX.as_millis() as u64] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }
}
