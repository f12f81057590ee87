//! What the engine reads: cursors, traces, scores, error texts, and in `replies` whatever Redis may answer.

mod replies;

use proptest::{prelude::*, sample::select, string::string_regex};

use super::*;
use crate::{
    fuzz::{bytes, mutated_text, readable, run, text},
    types::{DueAt, Id, Payload, Token},
};

/// A delivery for those who read one.
pub(crate) fn delivery(queue: &str, id: &str, payload: Option<Payload>) -> Delivery {
    let token = Token::new(1_767_225_600_012_345);
    Delivery {
        queue: QueueName::new(queue).expect("a name"),
        id: Id::new(id).expect("an id"),
        due_at: DueAt::from_ms(1_767_225_600_000).expect("a deadline"),
        attempt: 1,
        failures: 0,
        kills: 0,
        token,
        first_token: token,
        claimed_at: ServerTime::from_ms(1_767_225_600_012),
        payload,
        traceparent: None,
        received: std::time::Instant::now(),
    }
}

fn score() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|score| score.to_string()),
        any::<f64>().prop_filter("no score", |score| !score.is_nan()).prop_map(|score| score.to_string()),
        Just("inf".to_owned()),
        Just("-inf".to_owned()),
    ]
}

#[test]
fn a_cursor_returns_as_it_went() {
    run(400, (score(), bytes(6)), |(score, id)| {
        let cursor = Cursor::new(score.as_bytes(), id.clone());
        let text = cursor.to_string();
        prop_assert!(text.is_ascii() && !text.contains(char::is_control));
        let again: Cursor = text.parse().unwrap();
        prop_assert_eq!((again.score(), again.id()), (score.as_str(), id.as_slice()));
        prop_assert_eq!(again, cursor);
        Ok(())
    });
}

#[test]
fn what_is_known_of_shards_is_read_as_it_was_written_or_not_at_all() {
    let numbers = "[0-9]{1,17}( [0-9]{1,3}){0,3}( [0-9]{1,17})?";
    let texts = prop_oneof![mutated_text(string_regex(numbers).unwrap()), text(6), numbers];
    run(800, texts, |text| {
        if let Some(shards) = Shards::read(text.as_bytes()) {
            prop_assert!((1..=shards.all()).contains(&shards.homes()) && shards.all() <= Shards::MAX);
            prop_assert_eq!(Shards::read(shards.written().as_bytes()), Some(shards));
            prop_assert!(shards.home_of(text.as_bytes()) < shards.homes());
        }
        if let Some(shards::Batch { number, to, token }) = shards::Batch::read(text.as_bytes()) {
            prop_assert!(to < Shards::MAX);
            let words: Vec<&str> = text.split(' ').collect();
            prop_assert_eq!((number.as_str(), token.as_str()), (words[0], words[2]));
        }
        Ok(())
    });
}

#[test]
fn any_text_is_a_cursor_or_an_error() {
    let written = (score(), bytes(3)).prop_map(|(score, id)| Cursor::new(score.as_bytes(), id).to_string());
    run(800, prop_oneof![mutated_text(written), text(4), "[0-9]{1,13}_[0-9a-fA-F+]{0,8}"], |text| {
        match text.parse::<Cursor>() {
            Ok(cursor) => {
                let (score, id) = text.split_once('_').unwrap();
                prop_assert_eq!(cursor.to_string(), format!("{score}_{}", id.to_lowercase()));
            }
            Err(error) => readable(&error.to_string())?,
        }
        Ok(())
    });
}

#[test]
fn a_trace_is_what_the_specification_says() {
    let part = |len: usize| {
        prop_oneof![
            4 => string_regex(&format!("[0-9a-f]{{{len}}}")).unwrap(),
            1 => Just("0".repeat(len)),
            1 => string_regex(&format!("[0-9a-fA-Fg]{{{len}}}")).unwrap(),
            1 => string_regex(&format!("[0-9a-f]{{{},{}}}", len - 1, len + 1)).unwrap(),
        ]
    };
    let version = prop_oneof![3 => Just("00".to_owned()), 1 => Just("ff".to_owned()), 1 => "[0-9a-f]{2}"];
    let more = select(&["", "", "", "-", "-more", "x", " "][..]);
    run(1000, (version, part(32), part(16), part(2), more), |(version, trace, parent, flags, more)| {
        let hex = |part: &str, len| {
            part.len() == len && part.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
        };
        let zero = |part: &str| part.trim_matches('0').is_empty();
        let more = more.trim_end();
        let sound = hex(&trace, 32)
            && !zero(&trace)
            && hex(&parent, 16)
            && !zero(&parent)
            && hex(&flags, 2)
            && version != "ff"
            && (more.is_empty() || (version != "00" && more.starts_with('-')));
        let parsed = TraceParent::parse(&format!(" {version}-{trace}-{parent}-{flags}{more}"));
        let expected = sound.then(|| format!("00-{trace}-{parent}-{flags}"));
        prop_assert_eq!(parsed.as_ref().map(TraceParent::as_str), expected.as_deref());
        Ok(())
    });
}

#[test]
fn any_text_is_a_trace_that_reads_itself_or_none() {
    let written = "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}";
    run(600, prop_oneof![mutated_text(written), text(6)], |text| {
        if let Some(trace) = TraceParent::parse(&text) {
            prop_assert_eq!(trace.as_str().len(), 55);
            prop_assert_eq!(TraceParent::parse(trace.as_str()), Some(trace));
        }
        Ok(())
    });
}

#[test]
fn a_score_is_a_deadline_rounded_up_or_none() {
    let digits = (0..=3_000_000_000_000i64, "(\\.[0-9]{1,3})?")
        .prop_map(|(ms, part)| format!("{ms}{part}").into_bytes());
    run(600, prop_oneof![digits, score().prop_map(String::into_bytes), bytes(2)], |score| {
        let number = std::str::from_utf8(&score).ok().and_then(|text| text.parse::<f64>().ok());
        let expected = number.map(f64::ceil).filter(|ms| (1e11..253_402_300_800_000.0).contains(ms));
        let due_at = reply::due_of(&score);
        prop_assert_eq!(due_at.map(|at| at.as_ms() as f64), expected);
        Ok(())
    });
}

#[test]
fn a_long_error_keeps_its_beginning_and_its_end() {
    run(200, (text(60), 1..40usize), |(text, times)| {
        let error = text.repeat(times);
        let cut = deliver::cut(&error);
        prop_assert!(cut.chars().count() <= 500);
        if error.chars().count() <= 500 {
            prop_assert_eq!(cut, error);
        } else {
            let (head, tail) = cut.split_at(cut.char_indices().nth(99).unwrap().0);
            prop_assert!(error.starts_with(head) && error.ends_with(tail.trim_start_matches('…')));
        }
        Ok(())
    });
}
