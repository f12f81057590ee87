//! Values as they stand in JSON that others have written.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::{DueAt, Payload};
use crate::error::Invalid;

impl Payload {
    /// The inverse of [`Payload::to_json`]: `null` is none, a string that holds no JSON itself is its text, and all
    /// else is kept as it is written.
    ///
    /// # Errors
    /// If it is over 64 KiB.
    pub fn from_json(json: &RawValue) -> Result<Option<Self>, Invalid> {
        let json = json.get();
        if json == "null" {
            return Ok(None);
        }
        let text = if json.starts_with('"') { serde_json::from_str::<String>(json).ok() } else { None };
        // Empty text would be no payload, and text like `12` would come back as a number.
        let text = text.filter(|text| !text.is_empty() && serde_json::from_str::<&RawValue>(text).is_err());
        text.map_or_else(|| Self::new(json), Self::new).map(Some)
    }
}

impl<'de> Deserialize<'de> for DueAt {
    /// Text as its `FromStr` reads it, or a number of milliseconds.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrMs;
        impl de::Visitor<'_> for TextOrMs {
            type Value = DueAt;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time: RFC 3339 like \"2026-01-01T14:30:00Z\", or milliseconds since the epoch")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<DueAt, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, ms: i64) -> Result<DueAt, E> {
                DueAt::from_ms(ms).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<DueAt, E> {
                self.visit_i64(i64::try_from(ms).unwrap_or(i64::MAX))
            }
            /// To JSON, 1e12 and 1000000000000.0 are whole numbers as well.
            fn visit_f64<E: de::Error>(self, ms: f64) -> Result<DueAt, E> {
                if ms.fract() == 0.0 {
                    return self.visit_i64(ms as i64);
                }
                Err(E::invalid_value(de::Unexpected::Float(ms), &self))
            }
        }
        deserializer.deserialize_any(TextOrMs)
    }
}
