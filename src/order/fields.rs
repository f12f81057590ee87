//! What a caller says of an order: names and texts, checked once.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::error::Invalid;

/// The most fields of an order. `order_lib.lua` has the same number.
pub const MAX_FIELDS: usize = 100;
/// The most bytes in the names and values of an order's fields together. `order_lib.lua` has the same number. As
/// JSON it can double, by escapes, and is then still a payload.
pub const MAX_FIELD_BYTES: usize = 30 * 1024;
/// Longest name of a field in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// What the scripts write into an order themselves.
pub(crate) const RESERVED: [&str; 7] =
    ["digest", "status", "created_at", "due_at", "paid_at", "cancelled_at", "expired_at"];
/// The field that must be a decimal number, where there is one.
const AMOUNT: &str = "amount";

/// The fields of an order: at most 100 names with a text each, 30 KiB together. An `amount` is decimal digits such
/// as `100.00`, never a float: 0.1 + 0.2 is not 0.3 in one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Checks and wraps fields.
    ///
    /// # Errors
    /// If one has a name that overdue uses itself or that is empty, over 64 bytes or holds a control character; a
    /// value with a control character other than tab and line breaks; an `amount` that is no decimal number; or if
    /// there are too many of them, or too much in them.
    pub fn new<N: Into<String>, V: Into<String>>(
        fields: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Invalid> {
        let mut checked = BTreeMap::new();
        let mut bytes = 0;
        for (name, value) in fields {
            let (name, value) = (name.into(), value.into());
            check_name(&name)?;
            check_value(&name, &value)?;
            bytes += name.len() + value.len();
            if checked.contains_key(&name) {
                return Err(Invalid::new("field", name, "is given twice"));
            }
            checked.insert(name, value);
        }
        if checked.len() > MAX_FIELDS {
            let why = format!("are too many; an order has at most {MAX_FIELDS}");
            return Err(Invalid::new("fields", checked.len(), why));
        }
        if bytes > MAX_FIELD_BYTES {
            let why =
                format!("bytes are too many in the fields of an order; it has at most {MAX_FIELD_BYTES}");
            return Err(Invalid::new("fields", bytes, why));
        }
        Ok(Self(checked))
    }

    /// What a script answered: nothing is refused that is there already.
    pub(super) fn known(fields: impl Iterator<Item = (String, String)>) -> Self {
        Self(fields.collect())
    }

    /// Names and values, sorted by name.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of one field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much they hold.
    pub(super) fn bytes(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

fn check_name(name: &str) -> Result<(), Invalid> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
        let why = format!("cannot be: a name has 1 to {MAX_NAME_BYTES} bytes and no control characters");
        return Err(Invalid::new("field", name, why));
    }
    if RESERVED.contains(&name) {
        return Err(Invalid::new("field", name, "is written by overdue itself: name yours otherwise"));
    }
    Ok(())
}

fn check_value(name: &str, value: &str) -> Result<(), Invalid> {
    if value.contains(|c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
        return Err(Invalid::new("field", name, "holds a control character; remove it"));
    }
    if name == AMOUNT && !is_decimal(value) {
        return Err(Invalid::new(AMOUNT, value, "is no decimal number: write digits, such as 100.00"));
    }
    Ok(())
}

fn is_decimal(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.').map_or_else(|| digits(text), |(whole, fraction)| digits(whole) && digits(fraction))
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> de::Visitor<'de> for Members {
            type Value = Fields;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of names with a text each")
            }
            /// Read one by one: a map would keep the last of those that are given twice, without a word.
            fn visit_map<A: de::MapAccess<'de>>(self, mut members: A) -> Result<Fields, A::Error> {
                let mut fields: Vec<(String, String)> = Vec::new();
                while let Some((name, Text(value))) = members.next_entry()? {
                    fields.push((name, value));
                }
                Fields::new(fields).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A string. The message for a number says why it is refused, since that is the usual mistake.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyText;
        impl de::Visitor<'_> for OnlyText {
            type Value = Text;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text in quotes, such as \"100.00\": numbers would lose digits")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(OnlyText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(fields: &[(&str, &str)]) -> String {
        Fields::new(fields.iter().copied()).expect_err("refused").to_string()
    }

    #[test]
    fn amounts_are_decimal_digits() {
        for good in ["0", "100", "100.00", "12345678901234567890.123456789"] {
            assert!(Fields::new([("amount", good)]).is_ok(), "{good}");
        }
        for bad in ["", "1e3", "-5", "+5", "1,00", ".5", "5.", "0x10", " 5", "NaN"] {
            assert!(refusal(&[("amount", bad)]).contains("decimal"), "{bad}");
        }
    }

    #[test]
    fn names_of_overdue_are_refused() {
        for name in RESERVED {
            assert!(refusal(&[(name, "x")]).contains("overdue itself"), "{name}");
        }
        assert!(refusal(&[("", "x")]).contains("1 to 64"));
        assert!(refusal(&[("a", "1"), ("a", "2")]).contains("twice"));
    }

    #[test]
    fn they_are_bounded() {
        let many = (0..=MAX_FIELDS).map(|n| (format!("f{n}"), "x"));
        assert!(Fields::new(many).unwrap_err().to_string().contains("too many"));
        assert!(refusal(&[("note", &"x".repeat(MAX_FIELD_BYTES))]).contains("at most 30720"));
        assert!(refusal(&[("note", "a\u{0}b")]).contains("control character"));
    }

    #[test]
    fn json_numbers_are_refused_with_a_hint() {
        let error = serde_json::from_str::<Fields>(r#"{"amount":100.00}"#).unwrap_err().to_string();
        assert!(error.contains("numbers would lose digits"), "{error}");
        let fields: Fields = serde_json::from_str(r#"{"amount":"100.00","sku":"a"}"#).unwrap();
        assert_eq!(fields.get("amount"), Some("100.00"));
    }

    #[test]
    fn a_field_of_json_is_given_once() {
        let error = serde_json::from_str::<Fields>(r#"{"sku":"a","sku":"b"}"#).unwrap_err().to_string();
        assert!(error.contains("field `sku` is given twice"), "{error}");
    }
}
