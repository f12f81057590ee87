//! The one place that turns replies of scripts into Rust values.

use redis::Value;
use serde::Deserialize;

use super::{Settled, TraceParent};
use crate::{
    error::{Error, Result},
    types::DueAt,
};

/// Reads the parts of one reply in order; an error names the script.
pub(super) struct Reply {
    script: &'static str,
    values: std::vec::IntoIter<Value>,
}

impl Reply {
    pub(super) fn new(script: &'static str, value: Value) -> Result<Self> {
        match value {
            Value::Array(values) => Ok(Self { script, values: values.into_iter() }),
            other => Err(unexpected(script, &other, "an array")),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    fn next(&mut self) -> Result<Value> {
        let missing = || Error::Reply { script: self.script, detail: "too short".to_owned() };
        self.values.next().ok_or_else(missing)
    }

    pub(super) fn int(&mut self) -> Result<i64> {
        match self.next()? {
            Value::Int(int) => Ok(int),
            other => Err(unexpected(self.script, &other, "an integer")),
        }
    }

    pub(super) fn count(&mut self) -> Result<u64> {
        Ok(u64::try_from(self.int()?).unwrap_or(0))
    }

    /// A bulk string, or none for nil.
    pub(super) fn bytes(&mut self) -> Result<Option<Vec<u8>>> {
        match self.next()? {
            Value::BulkString(bytes) => Ok(Some(bytes)),
            Value::Nil => Ok(None),
            other => Err(unexpected(self.script, &other, "a string")),
        }
    }

    /// An integer, or none for nil.
    pub(super) fn optional_int(&mut self) -> Result<Option<i64>> {
        match self.next()? {
            Value::Int(int) => Ok(Some(int)),
            Value::Nil => Ok(None),
            other => Err(unexpected(self.script, &other, "an integer")),
        }
    }

    /// A score as a deadline; none for nil and for an impossible score.
    pub(super) fn due_at(&mut self) -> Result<Option<DueAt>> {
        Ok(self.bytes()?.and_then(|score| due_of(&score)))
    }

    /// The JSON record of an id, see `lib.lua`. Where there is none, or somebody damaged it, the default.
    pub(super) fn record(&mut self) -> Result<Record> {
        let json = self.bytes()?;
        Ok(json.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default())
    }

    pub(super) fn nested(&mut self) -> Result<Self> {
        let script = self.script;
        Self::new(script, self.next()?)
    }

    /// The rest as verdicts: 0 is stale, all else done.
    pub(super) fn settled(self) -> Result<impl Iterator<Item = Settled>> {
        let codes = self.ints()?.into_iter();
        Ok(codes.map(|code| if code == 0 { Settled::Stale } else { Settled::Done }))
    }

    /// The rest as integers.
    pub(super) fn ints(self) -> Result<Vec<i64>> {
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
pub(super) struct Record {
    due: Option<String>,
    first: Option<String>,
    retry: Option<String>,
    pub(super) failures: u32,
    pub(super) crashes: u32,
    pub(super) kills: u32,
    pub(super) reason: Option<String>,
    pub(super) error: Option<String>,
    trace: Option<String>,
}

impl Record {
    pub(super) fn due_at(&self) -> Option<DueAt> {
        due_of(self.due.as_ref()?.as_bytes())
    }

    /// How many attempts were begun before.
    pub(super) fn attempts(&self) -> u32 {
        self.failures.saturating_add(self.crashes)
    }

    /// True if the id waits in `scheduled` for the retry that this record speaks of.
    pub(super) fn retries_at(&self, at: Option<DueAt>) -> bool {
        self.retry.as_ref().is_some_and(|retry| due_of(retry.as_bytes()) == at)
    }

    pub(super) fn traceparent(&self) -> Option<TraceParent> {
        TraceParent::parse(self.trace.as_ref()?)
    }

    pub(super) fn first_token(&self) -> Option<u64> {
        self.first.as_ref()?.parse().ok()
    }
}

/// A score as Redis prints it. A fraction, which only a foreign client writes, is rounded up: never early.
pub(super) fn due_of(score: &[u8]) -> Option<DueAt> {
    let text = std::str::from_utf8(score).ok()?;
    let ms = text.parse::<i64>().ok().or_else(|| text.parse::<f64>().ok().map(|ms| ms.ceil() as i64))?;
    DueAt::from_ms(ms).ok()
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
