//! The one place that turns replies of scripts into Rust values.

use redis::Value;
use serde::Deserialize;

use super::{Settled, TraceParent};
use crate::{
    error::{Error, Result},
    types::DueAt,
};

/// Reads the parts of one reply in order; an error names the script.
pub(crate) struct Reply {
    script: &'static str,
    values: std::vec::IntoIter<Value>,
}

impl Reply {
    pub(crate) fn new(script: &'static str, value: Value) -> Result<Self> {
        match value {
            Value::Array(values) => Ok(Self { script, values: values.into_iter() }),
            other => Err(unexpected(script, &other, "an array")),
        }
    }

    pub(crate) fn script(&self) -> &'static str {
        self.script
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    fn next(&mut self) -> Result<Value> {
        let missing = || Error::Reply { script: self.script, detail: "too short".to_owned() };
        self.values.next().ok_or_else(missing)
    }

    pub(crate) fn int(&mut self) -> Result<i64> {
        match self.next()? {
            Value::Int(int) => Ok(int),
            other => Err(unexpected(self.script, &other, "an integer")),
        }
    }

    pub(crate) fn count(&mut self) -> Result<u64> {
        Ok(u64::try_from(self.int()?).unwrap_or(0))
    }

    /// A bulk string, or none for nil.
    pub(crate) fn bytes(&mut self) -> Result<Option<Vec<u8>>> {
        match self.next()? {
            Value::BulkString(bytes) => Ok(Some(bytes)),
            Value::Nil => Ok(None),
            other => Err(unexpected(self.script, &other, "a string")),
        }
    }

    /// An integer, or none for nil.
    pub(crate) fn optional_int(&mut self) -> Result<Option<i64>> {
        match self.next()? {
            Value::Int(int) => Ok(Some(int)),
            Value::Nil => Ok(None),
            other => Err(unexpected(self.script, &other, "an integer")),
        }
    }

    /// A score as a deadline; none for nil and for an impossible score.
    pub(crate) fn due_at(&mut self) -> Result<Option<DueAt>> {
        Ok(self.bytes()?.and_then(|score| due_of(&score)))
    }

    /// The JSON record of an id, see `lib.lua`. Where there is none, or somebody damaged it, the default.
    pub(crate) fn record(&mut self) -> Result<Record> {
        let json = self.bytes()?;
        Ok(json.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default())
    }

    pub(crate) fn nested(&mut self) -> Result<Self> {
        let script = self.script;
        Self::new(script, self.next()?)
    }

    /// The rest as pairs of texts, such as a hash; bytes that are not UTF-8 become replacement characters.
    pub(crate) fn pairs(mut self) -> Result<Vec<(String, String)>> {
        let mut pairs = Vec::with_capacity(self.len() / 2);
        while self.len() > 0 {
            let mut text = || Ok::<_, Error>(lossy(&self.bytes()?.unwrap_or_default()));
            pairs.push((text()?, text()?));
        }
        Ok(pairs)
    }

    /// The rest as strings of bytes.
    pub(crate) fn strings(mut self) -> Result<Vec<Vec<u8>>> {
        let mut strings = Vec::with_capacity(self.len());
        while self.len() > 0 {
            strings.push(self.bytes()?.unwrap_or_default());
        }
        Ok(strings)
    }

    /// The rest as verdicts: 0 is stale, all else done.
    pub(crate) fn settled(self) -> Result<impl Iterator<Item = Settled>> {
        let codes = self.ints()?.into_iter();
        Ok(codes.map(|code| if code == 0 { Settled::Stale } else { Settled::Done }))
    }

    /// The rest as integers.
    pub(crate) fn ints(self) -> Result<Vec<i64>> {
        let script = self.script;
        let int = |value| match value {
            Value::Int(int) => Ok(int),
            other => Err(unexpected(script, &other, "an integer")),
        };
        self.values.map(int).collect()
    }
}

/// What is known of an id that failed, lost a lease, is dead, or was registered in a trace. Numbers of over 14 digits are strings in it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    due: Option<String>,
    first: Option<String>,
    retry: Option<String>,
    pub(crate) failures: u32,
    pub(crate) crashes: u32,
    pub(crate) kills: u32,
    pub(crate) reason: Option<String>,
    pub(crate) error: Option<String>,
    trace: Option<String>,
}

impl Record {
    pub(crate) fn due_at(&self) -> Option<DueAt> {
        due_of(self.due.as_ref()?.as_bytes())
    }

    /// How many attempts were begun before.
    pub(crate) fn attempts(&self) -> u32 {
        self.failures.saturating_add(self.crashes)
    }

    /// True if the id waits in `scheduled` for the retry that this record speaks of.
    pub(crate) fn retries_at(&self, at: Option<DueAt>) -> bool {
        self.retry.as_ref().is_some_and(|retry| due_of(retry.as_bytes()) == at)
    }

    pub(crate) fn traceparent(&self) -> Option<TraceParent> {
        TraceParent::parse(self.trace.as_ref()?)
    }

    pub(crate) fn first_token(&self) -> Option<u64> {
        self.first.as_ref()?.parse().ok()
    }
}

/// A score as Redis prints it. A fraction, which only a foreign client writes, is rounded up: never early.
pub(crate) fn due_of(score: &[u8]) -> Option<DueAt> {
    let text = std::str::from_utf8(score).ok()?;
    let ms = text.parse::<i64>().ok().or_else(|| text.parse::<f64>().ok().map(|ms| ms.ceil() as i64))?;
    DueAt::from_ms(ms).ok()
}

/// A code that this version does not know.
pub(crate) fn unknown(script: &'static str, code: i64) -> Error {
    Error::Reply { script, detail: format!("code {code}") }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Names the shape of what came, not its content: that may be a payload.
fn unexpected(script: &'static str, value: &Value, wanted: &str) -> Error {
    let found = match value {
        Value::Nil => "nil",
        Value::Int(_) => "an integer",
        Value::BulkString(_) | Value::SimpleString(_) => "a string",
        Value::Array(_) => "an array",
        _ => "something else",
    };
    Error::Reply { script, detail: format!("{found} instead of {wanted}") }
}
