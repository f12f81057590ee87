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
        natural(self.script, self.int()?)
    }

    /// Milliseconds that have to be a deadline.
    pub(crate) fn deadline(&mut self) -> Result<DueAt> {
        deadline(self.script, self.int()?)
    }

    /// A bulk string that has to be there.
    pub(crate) fn string(&mut self) -> Result<Vec<u8>> {
        let script = self.script;
        self.bytes()?.ok_or_else(|| unexpected(script, &Value::Nil, "a string"))
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
            let mut text = || Ok::<_, Error>(lossy(&self.string()?));
            pairs.push((text()?, text()?));
        }
        Ok(pairs)
    }

    /// The rest as strings of bytes.
    pub(crate) fn strings(mut self) -> Result<Vec<Vec<u8>>> {
        let mut strings = Vec::with_capacity(self.len());
        while self.len() > 0 {
            strings.push(self.string()?);
        }
        Ok(strings)
    }

    /// The rest as verdicts, one for each of `count` items: 0 is stale, more is done.
    pub(crate) fn settled(self, count: usize) -> Result<Vec<Settled>> {
        let script = self.script;
        let settled = |[code]: [i64; 1]| match code {
            0 => Ok(Settled::Stale),
            1.. => Ok(Settled::Done),
            code => Err(unknown(script, code)),
        };
        self.groups(count)?.into_iter().map(settled).collect()
    }

    /// The rest as integers, `N` for each of `count` items.
    pub(crate) fn groups<const N: usize>(mut self, count: usize) -> Result<Vec<[i64; N]>> {
        if self.len() != count * N {
            let detail = format!("{} values for {count} items", self.len());
            return Err(Error::Reply { script: self.script, detail });
        }
        let mut groups = Vec::with_capacity(count);
        for _ in 0..count {
            let mut group = [0; N];
            for place in &mut group {
                *place = self.int()?;
            }
            groups.push(group);
        }
        Ok(groups)
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

/// Milliseconds that a script answers as a deadline.
pub(crate) fn deadline(script: &'static str, ms: i64) -> Result<DueAt> {
    DueAt::from_ms(ms).map_err(|cause| Error::Reply { script, detail: cause.to_string() })
}

/// A count or a token.
pub(crate) fn natural(script: &'static str, int: i64) -> Result<u64> {
    u64::try_from(int).map_err(|_| Error::Reply { script, detail: format!("{int}, which is below 0") })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(values: &[i64]) -> Reply {
        Reply::new("ack", Value::Array(values.iter().map(|int| Value::Int(*int)).collect())).unwrap()
    }

    #[test]
    fn there_is_a_verdict_for_each_item_or_none_at_all() {
        assert_eq!(ints(&[1, 0, 7]).settled(3).unwrap(), [Settled::Done, Settled::Stale, Settled::Done]);
        assert_eq!(ints(&[1, 2, 3, 4]).groups(2).unwrap(), [[1, 2], [3, 4]]);
        for (values, count) in [(&[1, 1][..], 3), (&[1, 1, 1, 1], 3), (&[], 1), (&[1, -1], 2)] {
            let error = ints(values).settled(count).unwrap_err();
            assert!(matches!(error, Error::Reply { script: "ack", .. }), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_is_the_fault_of_the_reply_and_not_of_the_caller() {
        assert!(matches!(ints(&[-1]).count(), Err(Error::Reply { .. })));
        assert!(matches!(ints(&[0]).deadline(), Err(Error::Reply { .. })));
        let nil = || Reply::new("list", Value::Array(vec![Value::Nil])).unwrap();
        assert!(matches!(nil().string(), Err(Error::Reply { .. })));
        assert_eq!(nil().bytes().unwrap(), None);
    }
}
