//! What Redis says when it refuses, and urls that lead to it.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    error::{CODES, kind_of_text, short},
    lying::{Liar, raw, refusal},
    *,
};
use crate::{
    error::{Error, TroubleKind},
    fuzz::{bytes, mutated_text, readable, run, text},
};

#[test]
fn an_error_is_known_by_its_code_at_the_front_or_among_the_words() {
    let code = || select(CODES.to_vec());
    // Letters beside the code would make it another word.
    run(500, (code(), "([ -~]{0,20}[ :@-])?", "([ :.][a-z ]{0,20})?"), |((code, kind), before, behind)| {
        let others = CODES.iter().any(|(other, _)| before.contains(other));
        prop_assume!(!others && !before.contains("The user executing") && !before.contains("ACL failure"));
        prop_assert_eq!(kind_of_text(code, ""), kind);
        prop_assert_eq!(kind_of_text("ERR", &format!("{before}{code}{behind}")), kind);
        let glued = format!("{before}x{code}");
        prop_assert_eq!(kind_of_text("ERR", &glued), TroubleKind::Other, "{}", glued);
        Ok(())
    });
}

#[test]
fn any_error_is_a_kind_with_a_short_clean_text() {
    run(150, (text(2), bytes(80)), |(code, text)| {
        let text = String::from_utf8_lossy(&text);
        let kind = kind_of_text(&code, &text);
        prop_assert!(!kind.name().is_empty() && !kind.meaning().is_empty());
        let shown = short(&text);
        prop_assert!(!shown.contains(char::is_control) && shown.chars().count() <= 401);
        Ok(())
    });
}

#[test]
fn errors_of_a_connection_are_short_and_clean() {
    let liar = Liar::start();
    let code = prop_oneof![Just("ERR"), select(CODES.to_vec()).prop_map(|(code, _)| code)];
    run(150, (code, vec(text(3), 0..60)), |(code, texts)| {
        let (answer, _) = liar.ask(&[refusal(&format!("{code} {}", texts.concat()))], liar.redis.ping());
        match answer {
            Err(error @ Error::Redis(_)) => readable(&error.to_string())?,
            other => prop_assert!(false, "{other:?}"),
        }
        Ok(())
    });
}

#[test]
fn bytes_that_are_no_protocol_break_a_connection_and_not_the_next_one() {
    let liar = Liar::start();
    let piece = prop_oneof![
        2 => "[*$:+%~#,_-](-?[0-9]{1,20})?\r\n".prop_map(String::into_bytes),
        1 => bytes(1),
        1 => Just(b"$3\r\nabc\r\n".to_vec()),
    ];
    run(150, vec(piece, 0..5), |pieces| {
        let bytes = pieces.concat();
        // A push is no answer, so the client would wait for one.
        prop_assume!(!bytes.contains(&b'>') && !bytes.is_empty());
        let (answer, _) = liar.ask(&[raw(bytes)], liar.redis.run(&redis::cmd("PING")));
        if let Err(error) = answer {
            readable(&error.to_string())?;
        }
        // It may have found out only now that the connection is gone.
        let sound = [redis::Value::Okay];
        let (first, _) = liar.ask(&sound, liar.redis.ping());
        prop_assert!(first.is_ok() || liar.ask(&sound, liar.redis.ping()).0.is_ok());
        Ok(())
    });
}

#[test]
fn what_a_server_tells_of_itself_is_read_line_by_line() {
    let pairs = vec(("[a-c]{1,2}", "[a-z0-9.,=-]{1,8}"), 0..8);
    run(200, (pairs, "# [A-Z]{1,5}\r?\n|\r?\n|[a-z]{1,5}\r?\n"), |(pairs, between)| {
        let lines = pairs.iter().map(|(name, value)| format!("{name}:{value}\r\n{between}"));
        let info = Info::parse(&lines.collect::<String>());
        for (name, _) in &pairs {
            let last = pairs.iter().rfind(|(other, _)| other == name).map(|(_, value)| value.as_str());
            prop_assert_eq!(info.text(name), last);
            prop_assert_eq!(info.number(name), last.and_then(|text| text.parse().ok()));
        }
        Ok(())
    });
}

/// Anything that a node can say of slots, mostly near to what it should be.
fn slots() -> impl Strategy<Value = redis::Value> {
    use redis::Value::{Array, BulkString, Int, Nil};
    let host = prop_oneof![
        Just(Nil),
        text(2).prop_map(|text| BulkString(text.into_bytes())),
        Just(BulkString(b"127.0.0.1".to_vec())),
    ];
    let number = || prop_oneof![4 => 0..16_384i64, 1 => any::<i64>()];
    let master =
        (host, number()).prop_map(|(host, port)| Array(vec![host, Int(port), BulkString(b"id".to_vec())]));
    let range =
        (number(), number(), master).prop_map(|(from, to, master)| Array(vec![Int(from), Int(to), master]));
    vec(prop_oneof![6 => range, 1 => Just(Nil), 1 => Just(Array(Vec::new()))], 0..6).prop_map(Array)
}

#[test]
fn whatever_a_node_says_of_slots_is_a_map_or_an_error() {
    run(500, slots(), |value| {
        match super::cluster::read(value, "10.0.0.1:7000") {
            Ok(ranges) => prop_assert!(ranges.is_sorted_by_key(|range| range.from)),
            Err(error) => readable(&error.to_string())?,
        }
        Ok(())
    });
}

/// Urls of all kinds that Redis clients know, with a password that stands nowhere else.
fn url() -> impl Strategy<Value = String> {
    let scheme = select(&["redis://", "rediss://", "unix://", "redis+unix://", "redis:", "http://", ""][..]);
    let user = select(&["", "app:", ":", "a%20b:", "a@b:", "app"][..]);
    let rest = select(
        &["@h", "@127.0.0.1:6379/0", "@h:0/x", "@[::1", "@h:99999", "/r.sock?pass=geheim", "@", ""][..],
    );
    (scheme, user, rest).prop_map(|(scheme, user, rest)| format!("{scheme}{user}geheim{rest}"))
}

#[test]
fn no_url_makes_a_panic_or_shows_its_password() {
    run(
        400,
        prop_oneof![url(), mutated_text("rediss?://[a-z]{0,3}:geheim@[a-z]{1,3}(:[0-9]{1,6})?/[0-9]?")],
        |url| {
            if let Err(error) = Redis::open(&url, Timeouts::default()) {
                readable(&error.to_string())?;
                prop_assert!(!error.to_string().contains("geheim"), "{error}");
            }
            Ok(())
        },
    );
}
