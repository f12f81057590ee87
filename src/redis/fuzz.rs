//! What Redis says when it refuses, and urls that lead to it.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    error::{CODES, kind_of_text, short},
    lying::{Liar, refusal},
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
        prop_assume!(!others && !before.contains("The user executing"));
        prop_assert_eq!(kind_of_text(code, ""), kind);
        prop_assert_eq!(kind_of_text("ERR", &format!("{before}{code}{behind}")), kind);
        let glued = format!("{before}x{code}");
        prop_assert_eq!(kind_of_text("ERR", &glued), TroubleKind::Other, "{}", glued);
        Ok(())
    });
}

#[test]
fn any_error_is_a_kind_with_a_short_clean_text() {
    run(300, (text(2), bytes(200)), |(code, text)| {
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
