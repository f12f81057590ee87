//! What the fuzz targets share: how many cases, from which seed, and what breaks parsers. A target is a test in the
//! module `fuzz` beside its parser; `docs/reliability.md` lists all of them.
//!
//! `OVERDUE_PROVE_SCALE=100` runs a hundred times as many cases, `OVERDUE_PROVE_SEED=…` repeats a run. Nothing is
//! written to disk: a failure prints its seed and the smallest input, which becomes a plain test.

use std::{env, fmt::Debug, sync::LazyLock, thread};

use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{Config, RngSeed, TestCaseResult, TestError, TestRunner},
};

const SCALE: &str = "OVERDUE_PROVE_SCALE";
const SEED: &str = "OVERDUE_PROVE_SEED";

/// The same for all targets of a run.
static RUN: LazyLock<(u32, u64)> =
    LazyLock::new(|| (number(SCALE).unwrap_or(1), number(SEED).unwrap_or_else(rand::random)));

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    let number = text.parse().ok();
    assert!(number.is_some(), "{name} is no number: {text}");
    number
}

/// Runs a target over `cases` inputs, times the scale.
pub(crate) fn run<S: Strategy>(cases: u32, inputs: S, target: impl Fn(S::Value) -> TestCaseResult)
where
    S::Value: Debug,
{
    let (scale, seed) = *RUN;
    let cases = cases.saturating_mul(scale);
    let config = Config {
        cases,
        max_global_rejects: cases.saturating_mul(10),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let again = || {
        let name = thread::current().name().unwrap_or("fuzz::").to_owned();
        format!("repeat it with {SCALE}={scale} {SEED}={seed} cargo test --all-features --lib {name}")
    };
    match TestRunner::new(config).run(&inputs, target) {
        Ok(()) => {}
        Err(TestError::Abort(why)) => panic!("{why}; {}", again()),
        Err(TestError::Fail(why, input)) => {
            panic!("{why}\nsmallest input: {}\n{}", legible(&format!("{input:?}")), again());
        }
    }
}

/// What `Debug` says, with lists of bytes as literals that can be pasted into a test.
fn legible(debug: &str) -> String {
    let mut parts = debug.split('[');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let list = part.split_once(']').and_then(|(list, rest)| {
            let bytes: Option<Vec<u8>> = list.split(", ").map(|byte| byte.parse().ok()).collect();
            Some((bytes?, rest))
        });
        match list {
            Some((bytes, rest)) => text.push_str(&format!("b\"{}\"{rest}", bytes.escape_ascii())),
            None => text.push_str(&format!("[{part}")),
        }
    }
    text
}

#[test]
fn lists_of_bytes_are_shown_as_text() {
    assert_eq!(
        legible(r#"([97, 10, 255], [], ["x"], Some([300]))"#),
        r#"(b"a\n\xff", [], ["x"], Some([300]))"#
    );
}

/// Pieces that parsers of text trip over.
const PIECES: [&str; 40] = [
    "\0",
    "\n",
    "\r\n",
    "\r",
    "\t",
    "\u{1b}[31m",
    "\u{7f}",
    "\u{85}",
    "\u{9b}",
    "\u{feff}",
    "\u{2028}",
    "\u{202e}",
    "\u{a0}",
    "ß",
    "é",
    "e\u{301}",
    "日",
    "😀",
    "\u{10ffff}",
    "\"",
    "'",
    "\\",
    "`",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "=",
    "%",
    "%00",
    "+",
    "-",
    ".",
    "/",
    "0",
    "9223372036854775808",
    "1e400",
    "NaN",
];

/// Bytes that are no UTF-8.
const BAD_UTF8: [&[u8]; 4] = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xe2\x82"];

/// Text of up to so many pieces: letters, any characters, and what parsers trip over.
pub(crate) fn text(pieces: usize) -> impl Strategy<Value = String> + Clone {
    let piece = prop_oneof![
        4 => "[ -~]{1,6}",
        1 => any::<char>().prop_map(String::from),
        3 => proptest::sample::select(&PIECES[..]).prop_map(str::to_owned),
    ];
    vec(piece, 0..=pieces).prop_map(|pieces| pieces.concat())
}

/// The same as bytes, not all of it UTF-8.
pub(crate) fn bytes(pieces: usize) -> impl Strategy<Value = Vec<u8>> + Clone {
    let piece = prop_oneof![
        6 => text(1).prop_map(String::into_bytes),
        1 => proptest::sample::select(&BAD_UTF8[..]).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 1..4),
    ];
    vec(piece, 0..=pieces).prop_map(|pieces| pieces.concat())
}

/// What may happen to bytes on their way.
#[derive(Debug, Clone)]
enum Edit {
    Insert(Index, Vec<u8>),
    Replace(Index, u8),
    Flip(Index, u8),
    Remove(Index, usize),
    Repeat(Index, usize),
    Truncate(Index),
}

impl Edit {
    fn make(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match self {
            Self::Insert(at, piece) => {
                let at = at.index(len + 1);
                bytes.splice(at..at, piece.iter().copied());
            }
            _ if len == 0 => {}
            Self::Replace(at, byte) => bytes[at.index(len)] = *byte,
            Self::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Self::Remove(at, count) => {
                let at = at.index(len);
                bytes.drain(at..len.min(at + count));
            }
            Self::Repeat(at, count) => {
                let at = at.index(len);
                let piece = bytes[at..len.min(at + count)].to_vec();
                bytes.splice(at..at, piece);
            }
            Self::Truncate(at) => bytes.truncate(at.index(len)),
        }
    }
}

/// What a grammar gave, with up to three things done to it.
pub(crate) fn mutated(grown: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let at = any::<Index>;
    let edit = prop_oneof![
        3 => (at(), bytes(2)).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        2 => (at(), 0..8u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        2 => (at(), 1..20usize).prop_map(|(at, count)| Edit::Remove(at, count)),
        2 => (at(), 1..20usize).prop_map(|(at, count)| Edit::Repeat(at, count)),
        1 => at().prop_map(Edit::Truncate),
    ];
    (grown, vec(edit, 0..=3)).prop_map(|(mut bytes, edits)| {
        edits.iter().for_each(|edit| edit.make(&mut bytes));
        bytes
    })
}

/// The same for text; what is no UTF-8 becomes a replacement character.
pub(crate) fn mutated_text(grown: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    mutated(grown.prop_map(String::into_bytes)).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Holds what every message for people promises: it is short, and has no control character for a terminal to obey.
pub(crate) fn readable(message: &str) -> TestCaseResult {
    /// The longest are those that list keys of the configuration.
    const MOST_CHARS: usize = 1200;
    prop_assert!(!message.trim().is_empty(), "an empty message");
    prop_assert!(!message.contains(char::is_control), "a control character in {message:?}");
    prop_assert!(message.chars().count() <= MOST_CHARS, "too long: {message}");
    Ok(())
}

/// Any JSON, a few levels deep.
pub(crate) fn json() -> impl Strategy<Value = serde_json::Value> + Clone {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        text(3).prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Into::into),
            vec((text(2), inner), 0..4)
                .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
        ]
    })
}
