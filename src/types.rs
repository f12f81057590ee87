//! The values that the contract speaks of. Each is checked once, where it enters, and is right from then on.

#[cfg(test)]
mod fuzz;
mod json;

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

mod durability;
mod queue_name;

pub use durability::{Durability, DurabilityLevel};
pub use queue_name::{Companion, MAX_QUEUE_NAME_BYTES, QueueName};

use crate::error::Invalid;

/// Longest id in bytes.
pub const MAX_ID_BYTES: usize = 256;
/// Longest payload in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// The id of a deadline within its queue: 1 to 256 bytes of UTF-8 without control characters.
///
/// ```
/// use overdue::Id;
/// assert!("order-42".parse::<Id>().is_ok());
/// assert!("42".parse::<Id>().is_ok());
/// assert!("".parse::<Id>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(Arc<str>);

impl Id {
    /// Checks and wraps an id.
    ///
    /// # Errors
    /// If it is empty, over 256 bytes, or holds a control character.
    pub fn new(id: impl AsRef<str>) -> Result<Self, Invalid> {
        let id = id.as_ref();
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            let why = format!("is {} bytes long; an id has 1 to {MAX_ID_BYTES}", id.len());
            return Err(Invalid::new("id", id, why));
        }
        if id.contains(char::is_control) {
            return Err(Invalid::new("id", id, "holds a control character; remove it"));
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a handler gets along with an id: up to 64 KiB of text, JSON or not.
///
/// ```
/// use overdue::Payload;
///
/// let payload = Payload::new(r#"{"amount":"100.00"}"#)?;
/// assert_eq!(payload.as_str(), r#"{"amount":"100.00"}"#);
/// # Ok::<(), overdue::error::Invalid>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload(Arc<str>);

impl Payload {
    /// Checks and wraps a payload.
    ///
    /// # Errors
    /// If it is empty (that is no payload) or over 64 KiB.
    pub fn new(text: impl AsRef<str>) -> Result<Self, Invalid> {
        let text = text.as_ref();
        if text.is_empty() || text.len() > MAX_PAYLOAD_BYTES {
            let why = format!("is {} bytes long; a payload has 1 to {MAX_PAYLOAD_BYTES}", text.len());
            return Err(Invalid::new("payload", text, why));
        }
        Ok(Self(text.into()))
    }

    /// The payload as it was registered.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// JSON is passed on as it stands, so that no number loses a digit, but on one line: line breaks in JSON
    /// stand only between its parts. Other text becomes a JSON string.
    #[must_use]
    pub fn to_json(&self) -> Box<RawValue> {
        let json: Result<Box<RawValue>, _> = if self.0.contains(['\n', '\r']) {
            serde_json::from_str(&self.0)
                .and_then(|json: Box<RawValue>| RawValue::from_string(json.get().replace(['\n', '\r'], " ")))
        } else {
            serde_json::from_str(&self.0)
        };
        json.unwrap_or_else(|_| {
            serde_json::value::to_raw_value(&*self.0).expect("a string always has a JSON form")
        })
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

/// A deadline: milliseconds since the Unix epoch, from 1e11 (March 1973; less looks like seconds) to the year 9999.
///
/// ```
/// use overdue::DueAt;
///
/// let due_at: DueAt = "2026-01-01T14:30:00Z".parse()?;
/// assert_eq!(due_at.as_ms(), 1_767_277_800_000);
/// assert!(DueAt::from_ms(1_767_277_800).is_err(), "these are seconds");
/// # Ok::<(), overdue::error::Invalid>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DueAt(i64);

impl DueAt {
    /// The earliest deadline: a smaller score cannot be told from one in seconds. `lib.lua` has the same number.
    pub const MIN_MS: i64 = 100_000_000_000;
    /// The latest deadline, the last millisecond of the year 9999. `lib.lua` has the same number.
    pub const MAX_MS: i64 = 253_402_300_799_999;

    /// Checks and wraps milliseconds since the epoch.
    ///
    /// # Errors
    /// If they are below 1e11 or past the year 9999.
    pub fn from_ms(ms: i64) -> Result<Self, Invalid> {
        if ms < Self::MIN_MS {
            let why = "is before March 1973 (1e11 ms): are these seconds? Deadlines are in milliseconds";
            return Err(Invalid::new("deadline", ms, why));
        }
        if ms > Self::MAX_MS {
            return Err(Invalid::new("deadline", ms, "is past the year 9999"));
        }
        Ok(Self(ms))
    }

    /// Milliseconds since the epoch, which is the score in Redis.
    #[must_use]
    pub fn as_ms(self) -> i64 {
        self.0
    }

    /// The deadline `delay` later, at most the end of the year 9999.
    #[must_use]
    pub fn saturating_add(self, delay: Duration) -> Self {
        let delay_ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(delay_ms).min(Self::MAX_MS))
    }
}

impl FromStr for DueAt {
    type Err = Invalid;

    /// Reads RFC 3339 (a zone is required) or milliseconds since the epoch. Fractions of a millisecond
    /// are rounded up, so that nothing fires early.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        if let Ok(ms) = text.parse::<i64>() {
            return Self::from_ms(ms);
        }
        let Ok(at) = DateTime::parse_from_rfc3339(text) else {
            let why = if is_naive(text) {
                "has no zone: append Z for UTC, or an offset like +02:00"
            } else if text.parse::<chrono::NaiveDate>().is_ok() {
                "is a date without a time and a zone: write it like 2026-01-01T14:30:00Z"
            } else {
                "is no time: write RFC 3339 like 2026-01-01T14:30:00Z, or milliseconds since the epoch"
            };
            return Err(Invalid::new("time", text, why));
        };
        // Asked of the text: chrono drops what is less than a nanosecond.
        let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
        let whole_ms = fraction.bytes().take_while(u8::is_ascii_digit).skip(3).all(|digit| digit == b'0');
        Self::from_ms(at.timestamp_millis() + i64::from(!whole_ms))
    }
}

fn is_naive(text: &str) -> bool {
    text.parse::<NaiveDateTime>().is_ok()
        || NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").is_ok()
}

impl fmt::Display for DueAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&rfc3339_ms(self.0))
    }
}

impl fmt::Debug for DueAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for DueAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Milliseconds since the epoch as RFC 3339 in UTC with milliseconds: `2026-01-01T00:00:00.000Z`.
#[must_use]
pub fn rfc3339_ms(ms: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(ms)
        .map_or_else(|| ms.to_string(), |at| at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// Bytes that somebody else has written, such as an id by a foreign client, fit for a terminal and a log line: what is not UTF-8 becomes
/// a replacement character, and control characters are escaped.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for character in String::from_utf8_lossy(bytes).chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

/// The same of text, cut to so many characters.
pub(crate) fn shortened(text: &str, most_chars: usize) -> String {
    let text = printable(text.as_bytes());
    match text.char_indices().nth(most_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The bytes that pairs of hexadecimal digits stand for. `from_str_radix` would take `+f` for one.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(byte).collect()
}

/// An instant of the Redis server's clock, in microseconds since the epoch: the only clock that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerTime {
    us: i64,
}

impl ServerTime {
    /// From microseconds since the epoch, as Redis' `TIME` tells them.
    #[must_use]
    pub fn from_us(us: i64) -> Self {
        Self { us }
    }

    /// From milliseconds since the epoch: for virtual time.
    #[must_use]
    pub fn from_ms(ms: i64) -> Self {
        Self { us: ms.saturating_mul(1000) }
    }

    /// Whole milliseconds since the epoch, rounded down.
    #[must_use]
    pub fn as_ms(self) -> i64 {
        self.us.div_euclid(1000)
    }

    /// Seconds since the epoch.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.us as f64 / 1e6
    }

    /// How long until `due_at`; zero if it has passed.
    #[must_use]
    pub fn until(self, due_at: DueAt) -> Duration {
        let us = due_at.as_ms().saturating_mul(1000).saturating_sub(self.us);
        Duration::from_micros(u64::try_from(us).unwrap_or(0))
    }

    /// The deadline that is so much later, rounded up; none if that is beyond the range of deadlines.
    #[must_use]
    pub fn then(self, later: Duration) -> Option<DueAt> {
        let us = self.us.checked_add(i64::try_from(later.as_micros()).ok()?)?;
        DueAt::from_ms(us.checked_add(999)?.div_euclid(1000)).ok()
    }

    /// How long ago `due_at` was; zero if it is yet to come.
    #[must_use]
    pub fn since(self, due_at: DueAt) -> Duration {
        let us = self.us.saturating_sub(due_at.as_ms().saturating_mul(1000));
        Duration::from_micros(u64::try_from(us).unwrap_or(0))
    }
}

/// The fencing token of a lease. It grows with every claim of the queue, across restarts and failovers,
/// so a store that remembers the largest token it has seen can refuse a late writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Token(u64);

impl Token {
    /// Wraps a token that a claim answered.
    #[must_use]
    pub fn new(token: u64) -> Self {
        Self(token)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the checked text types share: reading, printing, and the way through serde.
macro_rules! text_type {
    ($type:ident) => {
        impl FromStr for $type {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }
        impl TryFrom<String> for $type {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.as_str().to_owned()
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
text_type!(Id);
text_type!(QueueName);
text_type!(Payload);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_1_to_256_bytes_without_control_characters() {
        for good in ["42", "order:42", "order 42", "订单-42", &"x".repeat(256)] {
            assert!(Id::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a\nb", "\u{0}", "a\u{7f}", "a\u{85}b", &"x".repeat(257)] {
            assert!(Id::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn deadlines_round_up_and_need_a_zone() {
        let ms = |text: &str| text.parse::<DueAt>().map(DueAt::as_ms);
        assert_eq!(ms("2026-01-01T00:00:00Z"), Ok(1_767_225_600_000));
        assert_eq!(ms("2026-01-01T01:00:00+01:00"), Ok(1_767_225_600_000));
        assert_eq!(ms("2026-01-01T00:00:00.0001Z"), Ok(1_767_225_600_001));
        assert_eq!(ms("2026-01-01T00:00:00.0000000000001+00:00"), Ok(1_767_225_600_001));
        assert_eq!(ms("1767225600000"), Ok(1_767_225_600_000));
        assert!(ms("2026-01-01").unwrap_err().to_string().contains("without a time and a zone"));
        for naive in ["2026-01-01T00:00:00", "2026-01-01 00:00:00"] {
            assert!(ms(naive).unwrap_err().to_string().contains("no zone"), "{naive}");
        }
        assert!(ms("1767225600").unwrap_err().to_string().contains("seconds"));
        assert!(ms("253402300800000").is_err());
        let json = |text: &str| serde_json::from_str::<DueAt>(text).map(DueAt::as_ms);
        assert_eq!(json("1767225600000").unwrap(), 1_767_225_600_000);
        assert_eq!(json(r#""2026-01-01T00:00:00Z""#).unwrap(), 1_767_225_600_000);
        for bad in ["1767225600", "-1", "18446744073709551615", "1767225600000.5", "null", "\"soon\""] {
            assert!(json(bad).is_err(), "{bad}");
        }
        assert!(ms("tomorrow").unwrap_err().to_string().contains("RFC 3339"));
    }

    #[test]
    fn json_payloads_stay_json_and_text_becomes_a_string() {
        let json = |text: &str| Payload::new(text).unwrap().to_json().get().to_owned();
        assert_eq!(
            json(r#"{"amount":"100.00","n":12345678901234567890}"#),
            r#"{"amount":"100.00","n":12345678901234567890}"#
        );
        assert_eq!(json("{\n  \"n\": 1\r\n}"), r#"{   "n": 1  }"#);
        assert_eq!(json("two\nlines"), r#""two\nlines""#);
        assert_eq!(json("007"), r#""007""#);
        assert_eq!(json("plain text"), r#""plain text""#);
        for text in [r#"{"n":1}"#, "plain text", "007", r#""12""#, r#""""#, "[]", "é"] {
            let payload = Payload::new(text).unwrap();
            assert_eq!(Payload::from_json(&payload.to_json()), Ok(Some(payload)), "{text}");
        }
        assert_eq!(Payload::from_json(serde_json::from_str("null").unwrap()), Ok(None));
        assert!(Payload::new("x".repeat(MAX_PAYLOAD_BYTES + 1)).is_err());
    }

    #[test]
    fn what_foreign_clients_wrote_cannot_reach_the_terminal_raw() {
        assert_eq!(printable(b"order-\xff\n\x1b[2J"), "order-\u{fffd}\\n\\u{1b}[2J");
        assert_eq!(printable("订单 42".as_bytes()), "订单 42");
    }

    #[test]
    fn hexadecimal_digits_have_no_sign() {
        assert_eq!(unhex("00fFa0"), Some(vec![0, 0xff, 0xa0]));
        for bad in ["+f", "0", "0x", " 0", "é", "00+0"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }

    #[test]
    fn server_time_measures_to_the_microsecond() {
        let due = DueAt::from_ms(1_767_225_600_000).unwrap();
        let now = ServerTime::from_us(1_767_225_599_999_400);
        assert_eq!(now.until(due), Duration::from_micros(600));
        assert_eq!(now.since(due), Duration::ZERO);
        assert_eq!(now.as_ms(), 1_767_225_599_999);
    }
}
