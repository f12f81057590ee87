//! All that the keys of a queue hold, read in one step.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use overdue::queue::SinkKind;
use proptest::test_runner::TestCaseError;
use serde_json::Value;

use crate::support::{PARTS, Rig};

/// Everything by its documented place: the reference says what it has to be, Redis what it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Stored {
    pub(crate) scheduled: BTreeMap<String, f64>,
    pub(crate) payloads: BTreeMap<String, String>,
    pub(crate) leased: BTreeMap<String, Held>,
    /// When the lease of a token ends.
    pub(crate) ends: BTreeMap<u64, i64>,
    pub(crate) records: BTreeMap<String, Record>,
    /// When it was buried.
    pub(crate) dead: BTreeMap<String, i64>,
    pub(crate) last_token: u64,
    pub(crate) paused: bool,
    /// What the sink got, the oldest first.
    pub(crate) fired: Vec<Entry>,
}

/// A leased id, with what its batch says of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    pub(crate) token: u64,
    pub(crate) score: f64,
    pub(crate) payload: Option<String>,
}

/// What is remembered of an id that failed, lost a lease, is dead, or was registered in a trace.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) due: Option<i64>,
    pub(crate) first: Option<u64>,
    pub(crate) failures: u32,
    pub(crate) crashes: u32,
    pub(crate) kills: u32,
    pub(crate) begun: Option<u64>,
    pub(crate) retry: Option<f64>,
    pub(crate) reason: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) trace: Option<String>,
}

/// What a sink gets for one id.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) due_at: i64,
    pub(crate) fired_at: i64,
    pub(crate) payload: Option<Value>,
    pub(crate) trace: Option<String>,
}

/// A look at Redis, which also sees what no reference has to predict.
pub(crate) struct Snapshot {
    pub(crate) stored: Stored,
    /// The tokens that have a batch.
    pub(crate) batches: BTreeSet<u64>,
    /// The parts that have a TTL.
    pub(crate) with_ttl: Vec<&'static str>,
}

/// One script, so that it is one instant; and one round trip, since it runs after every step.
const LOOK: &str = r"
    local call = redis.call
    local batches, ttls, fired = {}, {}, {}
    local packed = call('HGETALL', KEYS[5])
    for i = 1, #packed, 2 do
      local entries, payloads = unpack(cmsgpack.unpack(packed[i + 1]))
      local texts = {}
      for id, text in pairs(payloads) do
        texts[#texts + 1], texts[#texts + 2] = id, text
      end
      batches[#batches + 1] = { packed[i], entries, texts }
    end
    for i, key in ipairs(KEYS) do
      ttls[i] = call('PTTL', key)
    end
    if ARGV[1] == 'stream' then
      for i, entry in ipairs(call('XRANGE', KEYS[9], '-', '+')) do
        fired[i] = entry[2]
      end
    else
      fired = call('LRANGE', KEYS[9], 0, -1)
    end
    local function zset(key) return call('ZRANGE', key, 0, -1, 'WITHSCORES') end
    local function hash(key) return call('HGETALL', key) end
    return { zset(KEYS[1]), hash(KEYS[2]), zset(KEYS[3]), zset(KEYS[4]), batches, hash(KEYS[6]), zset(KEYS[7]),
      hash(KEYS[8]), fired, ttls }
";

type Texts = BTreeMap<String, String>;
type Numbers = BTreeMap<String, f64>;
type Batch = (String, Vec<String>, Texts);
type Looked =
    (Numbers, Texts, Numbers, Numbers, Vec<Batch>, Texts, Numbers, Texts, Vec<redis::Value>, Vec<i64>);

impl Snapshot {
    /// Reads all keys of the queue.
    pub(crate) async fn take(rig: &Rig, sink: SinkKind) -> Result<Self, TestCaseError> {
        let mut look = redis::cmd("EVAL");
        look.arg(LOOK).arg(PARTS.len());
        for part in PARTS {
            look.arg(rig.key(part));
        }
        look.arg(if sink == SinkKind::Stream { "stream" } else { "list" });
        let looked: redis::RedisResult<Looked> = look.query_async(&mut rig.connection()).await;
        let (scheduled, payloads, leased, leases, batches, attempts, dead, meta, fired, ttls) =
            looked.map_err(|cause| TestCaseError::fail(format!("the keys cannot be read: {cause}")))?;

        let held = |(id, token): (String, f64)| {
            let token = token as u64;
            let batch = batches.iter().find(|batch| batch.0 == token.to_string());
            let score = batch.and_then(|batch| {
                batch.1.chunks_exact(2).find(|entry| entry[0] == id).and_then(|entry| entry[1].parse().ok())
            });
            let payload = batch.and_then(|batch| batch.2.get(&id).cloned());
            (id, Held { token, score: score.unwrap_or(f64::NAN), payload })
        };
        let fired = fired.into_iter().map(|entry| match sink {
            SinkKind::Stream => streamed(entry),
            SinkKind::List => listed(entry),
        });
        let mut fired: Vec<Entry> = fired.collect();
        if sink == SinkKind::List {
            fired.reverse(); // the newest is at the head
        }
        let stored = Stored {
            scheduled,
            payloads,
            leased: leased.into_iter().map(held).collect(),
            ends: leases.into_iter().map(|(token, end)| (whole(&token), end as i64)).collect(),
            records: attempts.into_iter().map(|(id, json)| (id, Record::read(&json))).collect(),
            dead: dead.into_iter().map(|(id, at)| (id, at as i64)).collect(),
            last_token: meta.get("token").map_or(0, |token| whole(token)),
            paused: meta.contains_key("paused"),
            fired,
        };
        let batches = batches.iter().map(|batch| whole(&batch.0)).collect();
        let with_ttl =
            PARTS.into_iter().zip(ttls).filter(|(_, ttl)| *ttl >= 0).map(|(part, _)| part).collect();
        Ok(Self { stored, batches, with_ttl })
    }
}

impl Stored {
    /// True if the id is in a state at all.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.scheduled.contains_key(id) || self.leased.contains_key(id) || self.dead.contains_key(id)
    }

    /// The ids that are in a state, some perhaps twice.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &String> {
        self.scheduled.keys().chain(self.leased.keys()).chain(self.dead.keys())
    }

    /// True if that token holds the id.
    pub(crate) fn holds(&self, id: &str, token: u64) -> bool {
        self.leased.get(id).is_some_and(|held| held.token == token)
    }
}

impl Record {
    /// Numbers of over 14 digits are strings in it. What cannot be read is left out, and so differs.
    fn read(json: &str) -> Self {
        let json: Value = serde_json::from_str(json).unwrap_or_default();
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        fn number<T: FromStr>(text: Option<String>) -> Option<T> {
            text?.parse().ok()
        }
        let count = |key: &str| json[key].as_u64().unwrap_or(0) as u32;
        Self {
            due: number(text("due")),
            first: number(text("first")),
            failures: count("failures"),
            crashes: count("crashes"),
            kills: count("kills"),
            begun: number(text("begun")),
            retry: number(text("retry")),
            reason: text("reason"),
            error: text("error"),
            trace: text("trace"),
        }
    }
}

/// A payload as a reader of the list gets it: JSON as it stands, anything else as a string.
pub(crate) fn as_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn whole(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

fn streamed(entry: redis::Value) -> Entry {
    let fields: Texts = redis::from_redis_value(entry).unwrap_or_default();
    let number = |key: &str| fields.get(key).and_then(|text| text.parse().ok()).unwrap_or(0);
    Entry {
        id: fields.get("id").cloned().unwrap_or_default(),
        due_at: number("due_at"),
        fired_at: number("fired_at"),
        payload: fields.get("payload").map(|text| as_json(text)),
        trace: fields.get("traceparent").cloned(),
    }
}

fn listed(element: redis::Value) -> Entry {
    let text: String = redis::from_redis_value(element).unwrap_or_default();
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    Entry {
        id: json["id"].as_str().unwrap_or_default().to_owned(),
        due_at: json["due_at"].as_i64().unwrap_or(0),
        fired_at: json["fired_at"].as_i64().unwrap_or(0),
        payload: json.get("payload").cloned(),
        trace: json["traceparent"].as_str().map(str::to_owned),
    }
}
