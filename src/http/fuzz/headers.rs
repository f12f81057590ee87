//! Headers and parameters: each against the rule that it goes by.

use axum::extract::FromRequestParts as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use url::form_urlencoded;

use super::{extract::Params, *};
use crate::{config::TokenConfig, queue::Expected, types::DueAt};

fn map(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
    let pairs = pairs.iter().filter_map(|(name, value)| {
        Some((HeaderName::from_static(name), HeaderValue::from_bytes(value).ok()?))
    });
    let mut headers = HeaderMap::new();
    pairs.for_each(|(name, value)| {
        headers.append(name, value);
    });
    headers
}

#[test]
fn if_match_takes_a_tag_as_a_get_answered_it() {
    run(500, prop_oneof!["\"[0-9]{11,16}\"", "\"?[0-9+-]{0,13}\"?", text(2)], |tag| {
        let headers = map(&[("if-match", tag.as_bytes())]);
        prop_assume!(!headers.is_empty());
        let digits = tag.trim().strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        let digits = digits.filter(|digits| !digits.starts_with(['+', '0']));
        let due_at = digits.and_then(|digits| DueAt::from_ms(digits.parse().ok()?).ok());
        match (etag::expected(&headers), due_at) {
            (Ok(Expected::At(found)), Some(due_at)) => {
                prop_assert_eq!(found, due_at);
                prop_assert_eq!(etag::of(found), tag.trim());
            }
            (Err(problem), None) => readable(problem.body().detail())?,
            (found, expected) => prop_assert!(false, "{found:?} for {expected:?}"),
        }
        Ok(())
    });
}

#[test]
fn if_none_match_takes_a_star_and_never_both() {
    run(300, (option::of("[*\"0-9]{0,3}"), option::of("[*\"0-9]{0,3}")), |(one, other)| {
        let pairs = [("if-none-match", one.as_deref()), ("if-match", other.as_deref())];
        let pairs: Vec<_> =
            pairs.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?.as_bytes()))).collect();
        let expected = etag::expected(&map(&pairs));
        match (one.as_deref(), other) {
            (None, None) => prop_assert_eq!(expected.ok(), Some(Expected::Anything)),
            (Some("*"), None) => prop_assert_eq!(expected.ok(), Some(Expected::Absent)),
            (None, Some(_)) => {}
            (Some(_), _) => prop_assert!(expected.is_err()),
        }
        Ok(())
    });
}

#[test]
fn an_idempotency_key_is_1_to_255_visible_characters() {
    run(
        400,
        prop_oneof![vec(any::<u8>(), 0..6), vec(b'!'..=b'~', 0..6), vec(b'!'..=b'~', 250..260)],
        |key| {
            let headers = map(&[("idempotency-key", &key)]);
            prop_assume!(!headers.is_empty());
            let sound = (1..=255).contains(&key.len()) && key.iter().all(|byte| (b'!'..=b'~').contains(byte));
            match create::key(&headers) {
                Ok(Some(found)) => {
                    prop_assert!(sound);
                    prop_assert_eq!(found, key.as_slice());
                    prop_assert_eq!(create::derived_id(found), create::derived_id(&key));
                }
                Ok(None) => prop_assert!(false, "no key"),
                Err(problem) => {
                    prop_assert!(!sound);
                    readable(problem.body().detail())?;
                }
            }
            Ok(())
        },
    );
}

#[test]
fn a_preference_is_known_by_its_name_whatever_stands_around_it() {
    let other = || {
        prop_oneof![
            "[a-z]{1,5}(=[a-z0-9]{1,3})?",
            Just("foo=\"a, respond-async\"".to_owned()),
            "wait=[0-9]{1,2}"
        ]
    };
    let wanted =
        select(&["respond-async", "Respond-Async", "respond-async; x=1", "respond-async;x=\"a,b\""][..]);
    run(
        300,
        (vec(other(), 0..3), option::of(wanted), vec(other(), 0..3), any::<bool>()),
        |(before, wanted, behind, lines)| {
            let is_wanted = wanted.is_some();
            let all: Vec<String> =
                before.into_iter().chain(wanted.map(str::to_owned)).chain(behind).collect();
            let values = if lines { all } else { vec![all.join(" , ")] };
            let pairs: Vec<(&str, &[u8])> = values.iter().map(|value| ("prefer", value.as_bytes())).collect();
            prop_assert_eq!(orders::create::prefers_async(&map(&pairs)), is_wanted, "{:?}", values);
            Ok(())
        },
    );
    run(300, vec(any::<u8>(), 0..20), |value| {
        let _ = orders::create::prefers_async(&map(&[("prefer", &value)]));
        Ok(())
    });
}

#[test]
fn only_a_token_that_is_known_opens_what_its_scopes_say() {
    let token = "geheim-geheim-geheim";
    let digest = crate::config::TokenDigest::of_new(token).unwrap();
    let caller = TokenConfig { scopes: [Scope::Write].into(), token: vec![digest], token_file: Vec::new() };
    let config = HttpConfig { tokens: [("shop".to_owned(), caller)].into(), ..HttpConfig::default() };
    let access = auth::Access::new(&config).unwrap();
    let value = mutated(
        select(&["Bearer ", "bearer ", "Bearer  ", "Basic "][..])
            .prop_map(move |scheme| format!("{scheme}{token}").into_bytes()),
    );
    run(
        500,
        (value, select(&[Scope::Read, Scope::Write, Scope::Work, Scope::Admin][..])),
        |(value, scope)| {
            let headers = map(&[("authorization", &value)]);
            prop_assume!(!headers.is_empty());
            let is_known = value.len() > 7
                && value[..7].eq_ignore_ascii_case(b"bearer ")
                && value[7..].trim_ascii() == token.as_bytes();
            match access.check(&headers, scope) {
                Ok(()) => prop_assert!(is_known && scope == Scope::Write),
                Err(problem) => {
                    prop_assert!(!is_known || scope != Scope::Write);
                    prop_assert_eq!(problem.kind == Kind::Forbidden, is_known);
                    prop_assert!(!problem.body().detail().contains("geheim"));
                }
            }
            Ok(())
        },
    );
}

#[test]
fn a_page_of_another_site_is_refused_whatever_it_is_called() {
    let access = auth::Access::new(&HttpConfig::default()).unwrap();
    let uri = http::Uri::from_static("/v1/queues");
    let host = prop_oneof![
        "(localhost|127\\.0\\.0\\.1|\\[::1\\]|a\\.localhost)(:[0-9]{1,5})?",
        "[a-z]{1,4}(\\.localhost)?\\.[a-z]{2,3}(:[0-9]{0,5})?",
        "[0-9.:\\[\\]a-z]{0,12}",
    ];
    run(500, (host, option::of("https?://[a-z0-9.:]{0,9}")), |(host, origin)| {
        let pairs = [("host", Some(host.as_str())), ("origin", origin.as_deref())];
        let pairs: Vec<_> =
            pairs.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?.as_bytes()))).collect();
        let accepted = access.check_origin(&http::Method::GET, &uri, &map(&pairs)).is_ok();
        let same = origin.is_none_or(|origin| {
            origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(&host))
        });
        prop_assert!(!accepted || same);
        // What a browser would look up by a name service is never a name of this machine.
        let name = host.split(':').next().unwrap_or_default();
        let is_elsewhere = name.ends_with(|c: char| c.is_ascii_alphabetic())
            && name != "localhost"
            && !name.ends_with(".localhost")
            && host.matches(':').count() < 2;
        prop_assert!(!accepted || !is_elsewhere, "{host}");
        Ok(())
    });
}

/// The parameters of a query, as the extractor reads them.
fn params(place: &Place, query: &str) -> Params {
    let (mut parts, ()) = Request::get(format!("/x?{query}")).body(()).unwrap().into_parts();
    let (params, _) = place.liar.ask(&[], Params::from_request_parts(&mut parts, &place.api));
    params.unwrap_or_else(|problem| panic!("{problem:?}"))
}

#[test]
fn a_query_gives_what_was_put_into_it_and_each_name_once() {
    let (place, name) = (Place::new(), select(&["a", "b", "c"][..]));
    run(100, vec((name, text(2)), 0..4), |pairs| {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
        let mut read = params(&place, &query);
        for name in ["a", "b"] {
            let values: Vec<_> =
                pairs.iter().filter(|(known, _)| *known == name).map(|(_, value)| value).collect();
            match (read.words(name, 1000), &values[..]) {
                (Ok(None), []) => {}
                (Ok(Some(found)), [value]) => prop_assert_eq!(&found, *value),
                (Err(problem), [_, _, ..]) => return readable(problem.body().detail()),
                (found, values) => prop_assert!(false, "{found:?} for {values:?}"),
            }
        }
        prop_assert_eq!(read.no_more().is_ok(), pairs.iter().all(|(name, _)| *name != "c"));
        Ok(())
    });
}

#[test]
fn a_count_is_a_number_within_its_bounds() {
    let place = Place::new();
    run(100, prop_oneof!["[0-9]{0,22}", "[+-]?[0-9]{1,4}", text(2)], |text| {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("limit", &text).finish();
        let digits = text.strip_prefix('+').unwrap_or(&text);
        let number =
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u128>().ok()).flatten();
        match params(&place, &query).count("limit", 100, 1000) {
            Ok(count) => prop_assert_eq!(number, Some(count as u128)),
            Err(problem) => {
                prop_assert!(number.is_none_or(|number| !(1..=1000).contains(&number)), "{text}");
                readable(problem.body().detail())?;
            }
        }
        Ok(())
    });
}
