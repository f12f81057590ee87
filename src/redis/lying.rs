//! A Redis that lies, for fuzz targets: it answers with whatever it was told to, and remembers what it was asked. So
//! every verb is tried against every reply, through the client that parses it.

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use proptest::{collection::vec, prelude::*, sample::Index};
use redis::{Value, VerbatimFormat};
use tokio::runtime::{Builder, Runtime};

use super::{Redis, Timeouts};
use crate::{
    error::{Error, Result},
    fuzz::{bytes, readable, run, text},
};

/// The end of all answers.
const NOTHING_MORE: &str = "nothing more";

/// A command as it came: its words.
pub(crate) type Command = Vec<Vec<u8>>;

/// A server on 127.0.0.1, a handle that leads to it, and a runtime to wait in.
pub(crate) struct Liar {
    pub(crate) redis: Redis,
    script: Arc<Mutex<Script>>,
    runtime: Runtime,
}

/// What is to be said, and what was heard.
#[derive(Default)]
struct Script {
    /// Bytes to be sent, and whether the connection ends with them.
    answers: VecDeque<(Vec<u8>, bool)>,
    heard: Vec<Command>,
}

impl Liar {
    /// Listens for as long as the test binary runs.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let script = Arc::<Mutex<Script>>::default();
        let shared = Arc::clone(&script);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let script = Arc::clone(&shared);
                thread::spawn(move || converse(stream, &script));
            }
        });
        // It always answers or hangs up, so the limits are never reached.
        let limit = Duration::from_secs(30);
        let timeouts = Timeouts { connect: limit, response: limit };
        let redis = Redis::open(&format!("redis://{address}"), timeouts).expect("a url");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { redis, script, runtime }
    }

    /// Waits for what asks it, which gets these answers in turn, and answers what it was asked. When they are used up it
    /// says [`NOTHING_MORE`].
    pub(crate) fn ask<T>(&self, answers: &[Value], question: impl Future<Output = T>) -> (T, Vec<Command>) {
        let bytes = answers.iter().map(|value| {
            let mut bytes = Vec::new();
            encode(value, &mut bytes);
            (bytes, matches!(value, Value::BigNumber(_)))
        });
        *lock(&self.script) = Script { answers: bytes.collect(), heard: Vec::new() };
        let answer = self.runtime.block_on(question);
        (answer, std::mem::take(&mut lock(&self.script).heard))
    }
}

impl Liar {
    /// Tries a verb against replies of these forms (one for each call that it makes), whole and distorted, and against
    /// any others. It must answer something that `check` does not panic at, or an error that names one of the scripts.
    pub(crate) fn tell<T>(
        &self,
        scripts: &[&str],
        forms: &[BoxedStrategy<Value>],
        verb: impl AsyncFn() -> Result<T>,
        check: impl Fn(T),
    ) {
        let reply = |form: &BoxedStrategy<Value>| {
            prop_oneof![2 => form.clone(), 5 => distorted(form.clone()), 1 => any_reply()].boxed()
        };
        let replies: Vec<_> = forms.iter().map(reply).collect();
        run(60, replies, |replies| {
            let (answer, _) = self.ask(&replies, verb());
            match answer {
                Ok(answer) => check(answer),
                Err(Error::Reply { script, detail }) => {
                    prop_assert!(scripts.contains(&script), "`{script}` is none of {scripts:?}: {detail}");
                    readable(&Error::Reply { script, detail }.to_string())?;
                }
                Err(Error::Redis(trouble)) => {
                    prop_assert!(trouble.detail.contains(NOTHING_MORE), "{trouble}");
                }
                Err(other) => return Err(TestCaseError::fail(format!("{scripts:?}: {other}"))),
            }
            Ok(())
        });
    }
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection, until the other side hangs up.
fn converse(stream: TcpStream, script: &Mutex<Script>) {
    let _ = stream.set_nodelay(true);
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Ok(command) = hear(&mut reader) {
        let (answer, ends) = match command.first().map(Vec::as_slice) {
            Some(b"CLIENT" | b"HELLO") => (b"+OK\r\n".to_vec(), false),
            _ => {
                let mut script = lock(script);
                script.heard.push(command);
                let answer = script.answers.pop_front();
                answer.unwrap_or_else(|| (format!("-ERR {NOTHING_MORE}\r\n").into_bytes(), false))
            }
        };
        if writer.write_all(&answer).is_err() || ends {
            return;
        }
    }
}

/// Reads `*N`, then N times `$LEN` and the bytes.
fn hear(reader: &mut BufReader<TcpStream>) -> io::Result<Command> {
    let count = number(reader)?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let mut word = vec![0; number(reader)? + 2];
        reader.read_exact(&mut word)?;
        word.truncate(word.len() - 2);
        words.push(word);
    }
    Ok(words)
}

fn number(reader: &mut BufReader<TcpStream>) -> io::Result<usize> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    line.get(1..)
        .and_then(|digits| digits.trim().parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// As it goes over the wire.
fn encode(value: &Value, bytes: &mut Vec<u8>) {
    let head = |bytes: &mut Vec<u8>, kind: char, number: &dyn std::fmt::Display| {
        bytes.extend_from_slice(format!("{kind}{number}\r\n").as_bytes());
    };
    match value {
        Value::Int(number) => head(bytes, ':', number),
        Value::BulkString(text) => {
            head(bytes, '$', &text.len());
            bytes.extend_from_slice(text);
            bytes.extend_from_slice(b"\r\n");
        }
        Value::SimpleString(text) => head(bytes, '+', text),
        Value::Okay => head(bytes, '+', &"OK"),
        Value::Double(number) => head(bytes, ',', number),
        Value::Boolean(yes) => head(bytes, '#', if *yes { &"t" } else { &"f" }),
        Value::Array(values) => {
            head(bytes, '*', &values.len());
            values.iter().for_each(|value| encode(value, bytes));
        }
        Value::Map(pairs) => {
            head(bytes, '%', &pairs.len());
            pairs.iter().for_each(|(key, value)| {
                encode(key, bytes);
                encode(value, bytes);
            });
        }
        Value::VerbatimString { text, .. } => head(bytes, '-', text),
        Value::BigNumber(raw) => bytes.extend_from_slice(raw),
        _ => bytes.extend_from_slice(b"$-1\r\n"),
    }
}

/// A string as scripts answer it.
pub(crate) fn bulk(text: impl AsRef<[u8]>) -> Value {
    Value::BulkString(text.as_ref().to_vec())
}

/// An error as Redis says it. The client does not let others make one, so something that it never gets stands for it.
pub(crate) fn refusal(text: &str) -> Value {
    Value::VerbatimString { format: VerbatimFormat::Text, text: text.replace(['\r', '\n'], " ") }
}

/// Bytes that are sent as they are, and then the connection is closed.
pub(crate) fn raw(bytes: Vec<u8>) -> Value {
    Value::BigNumber(bytes)
}

/// Integers as scripts answer them.
pub(crate) fn ints(numbers: impl IntoIterator<Item = i64>) -> Value {
    Value::Array(numbers.into_iter().map(Value::Int).collect())
}

fn leaf() -> impl Strategy<Value = Value> + Clone {
    prop_oneof![
        3 => (-3..12i64).prop_map(Value::Int),
        2 => any::<i64>().prop_map(Value::Int),
        2 => (0..2_000_000_000_000i64).prop_map(Value::Int),
        1 => Just(Value::Nil),
        2 => bytes(2).prop_map(Value::BulkString),
        2 => (0..2_000_000_000_000i64).prop_map(|score| bulk(score.to_string())),
        1 => prop_oneof!["inf", "-inf", "nan", "1e400", "1.5e+12"].prop_map(bulk),
        1 => text(2).prop_map(|text| Value::SimpleString(text.replace(['\r', '\n'], " "))),
        1 => Just(Value::Okay),
        1 => any::<f64>().prop_map(Value::Double),
        1 => any::<bool>().prop_map(Value::Boolean),
    ]
}

/// Any reply at all.
fn any_reply() -> impl Strategy<Value = Value> + Clone {
    leaf().prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            4 => vec(inner.clone(), 0..8).prop_map(Value::Array),
            1 => vec((inner.clone(), inner), 0..3).prop_map(Value::Map),
        ]
    })
}

/// What may happen to a reply: somewhere in it something else, something twice, or nothing.
#[derive(Debug, Clone)]
enum Edit {
    Put(Vec<Index>, Value),
    Insert(Vec<Index>, Value),
    Remove(Vec<Index>),
}

/// The reply of a script, with up to two things done to it.
fn distorted(reply: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let way = || vec(any::<Index>(), 1..4);
    let edit = prop_oneof![
        3 => (way(), any_reply()).prop_map(|(way, value)| Edit::Put(way, value)),
        1 => (way(), any_reply()).prop_map(|(way, value)| Edit::Insert(way, value)),
        2 => way().prop_map(Edit::Remove),
    ];
    (reply, vec(edit, 0..=2)).prop_map(|(mut reply, edits)| {
        edits.iter().for_each(|edit| distort(&mut reply, edit));
        reply
    })
}

fn distort(reply: &mut Value, edit: &Edit) {
    let (Edit::Put(way, _) | Edit::Insert(way, _) | Edit::Remove(way)) = edit;
    if let (Edit::Put(_, value), false) = (edit, matches!(reply, Value::Array(_))) {
        *reply = value.clone();
        return;
    }
    let (mut place, mut way) = (reply, way.iter());
    loop {
        let Value::Array(parts) = place else { return };
        let Some(step) = way.next().filter(|_| !parts.is_empty()) else { return };
        let at = step.index(parts.len());
        if way.len() == 0 || !matches!(parts[at], Value::Array(_)) {
            match edit {
                Edit::Put(_, value) => parts[at] = value.clone(),
                Edit::Insert(_, value) => parts.insert(at, value.clone()),
                Edit::Remove(_) => drop(parts.remove(at)),
            }
            return;
        }
        place = &mut parts[at];
    }
}
