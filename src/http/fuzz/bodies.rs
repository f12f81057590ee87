//! Bodies: what is wrong in one is named by its field, and numbers are what they are.

use super::*;

/// Routes that read a body, and bodies that are right.
const ROUTES: [(&str, &str, &str); 13] = [
    (
        "PUT",
        "/v1/queues/orders/deadlines/42",
        r#"{"due_at":"2026-01-01T00:00:00Z","payload":{"a":1},"mode":"keep"}"#,
    ),
    ("PUT", "/v1/queues/orders/deadlines/42", r#"{"delay":"30m"}"#),
    ("POST", "/v1/queues/orders/deadlines", r#"{"due_at":1767225600000}"#),
    ("PATCH", "/v1/queues/orders/deadlines/42", r#"{"extend_by":"15m"}"#),
    ("POST", "/v1/queues/work/claim", r#"{"limit":10,"lease":"30s","wait":"0s"}"#),
    ("POST", "/v1/queues/work/ack", r#"{"deliveries":[{"id":"42","token":1767225600012345}]}"#),
    ("POST", "/v1/queues/work/retry", r#"{"deliveries":[{"id":"42","token":7,"error":"no","delay":"1s"}]}"#),
    ("POST", "/v1/queues/work/extend", r#"{"lease":"30s","deliveries":[{"id":"42","token":7}]}"#),
    ("POST", "/v1/queues/work/bury", r#"{"deliveries":[{"id":"42","token":7,"error":"no"}]}"#),
    ("POST", "/v1/queues/orders/dead/retry", r#"{"ids":["42","43"]}"#),
    ("POST", "/v1/orders?queue=shop", r#"{"id":"42","delay":"30m","fields":{"amount":"100.00"}}"#),
    ("PUT", "/v1/orders/42?queue=shop", r#"{"due_at":"2026-01-01T00:00:00Z","fields":{"amount":"100.00"}}"#),
    ("POST", "/v1/orders/42/pay?queue=shop", r#"{"fields":{"payment":"x"}}"#),
];

fn send(place: &Place, method: &str, uri: &str, body: impl Into<Body>) -> Answer {
    let request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
    place.send(request.body(body.into()).unwrap(), &loading())
}

/// Places in a body: the names and positions that lead to each value.
fn places(value: &serde_json::Value, here: String, all: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => {
            members.iter().for_each(|(name, value)| places(value, format!("{here}/{name}"), all));
        }
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| places(item, format!("{here}/{at}"), all));
        }
        _ => {}
    }
    if !here.is_empty() {
        all.push(here);
    }
}

#[test]
fn what_is_wrong_in_a_body_is_named_by_its_field() {
    let place = Place::new();
    let what = prop_oneof![2 => json().prop_map(Some), 1 => Just(None)];
    run(300, (select(&ROUTES[..]), any::<prop::sample::Index>(), what), |((method, uri, text), at, what)| {
        let mut body: serde_json::Value = serde_json::from_str(text).unwrap();
        prop_assert_eq!(send(&place, method, uri, text).status.as_u16(), 503, "{}", text);
        let mut all = Vec::new();
        places(&body, String::new(), &mut all);
        let pointer = at.get(&all).clone();
        let mut top = pointer.split('/').nth(1).unwrap().to_owned();
        match what {
            Some(value) => *body.pointer_mut(&pointer).unwrap() = value,
            None => {
                top = "unheard_of".to_owned();
                body[&top] = 1.into();
            }
        }
        let answer = send(&place, method, uri, body.to_string());
        answer.check()?;
        // A value may happen to be right as well: then Redis is asked.
        if answer.status.as_u16() != 503 {
            prop_assert_eq!(answer.status.as_u16(), 422, "{} {}", body, answer.json());
            let field = answer.json()["field"].as_str().unwrap_or_default().to_owned();
            // Without either of both the first one is asked for.
            let either = ["due_at", "delay", "extend_by"].contains(&&*top)
                && ["due_at", "extend_by"].contains(&&*field);
            prop_assert!(field.starts_with(&top) || either, "`{field}` for {body}");
        }
        Ok(())
    });
}

#[test]
fn a_body_is_one_object_that_is_whole() {
    let place = Place::new();
    run(
        300,
        (select(&ROUTES[..]), mutated(Just(Vec::new())), any::<prop::sample::Index>()),
        |((method, uri, text), more, at)| {
            let cut = &text[..at.index(text.len())];
            let answer = send(&place, method, uri, cut.to_owned());
            answer.check()?;
            prop_assert_eq!(answer.status.as_u16(), 400, "{}", cut);
            // White space may follow, and nothing else.
            let expected = if more.iter().all(|byte| b" \t\r\n".contains(byte)) { 503 } else { 400 };
            let answer = send(&place, method, uri, [text.as_bytes(), &more].concat());
            answer.check()?;
            prop_assert_eq!(answer.status.as_u16(), expected, "{:?}", more);
            Ok(())
        },
    );
}

#[test]
fn a_token_is_a_whole_number_that_javascript_can_tell() {
    const MAX: u64 = 9_007_199_254_740_991;
    let number = prop_oneof![
        any::<u64>().prop_map(|n| (n.to_string(), Some(n))),
        (MAX - 2..=MAX + 2).prop_map(|n| (n.to_string(), Some(n))),
        (0..1u64 << 52).prop_map(|n| (format!("{n}.0"), Some(n))),
        (0..1u64 << 50).prop_map(|n| (format!("{n}.5"), None)),
        (1..99u64).prop_map(|n| (format!("-{n}"), None)),
        (1..9u64, 0..30u32).prop_map(|(n, power)| (
            format!("{n}e{power}"),
            10u64.checked_pow(power).and_then(|ten| ten.checked_mul(n))
        )),
    ];
    run(400, number, |(text, expected)| {
        let read = serde_json::from_str::<extract::Whole>(&text).ok().map(|extract::Whole(number)| number);
        prop_assert_eq!(read, expected.filter(|number| *number <= MAX), "{}", text);
        Ok(())
    });
}

#[test]
fn what_the_description_calls_a_duration_is_one() {
    use proptest::string::string_regex;
    let document: serde_json::Value = {
        let place = Place::new();
        let answer = place.send(Request::get("/v1/openapi.json").body(Body::empty()).unwrap(), &[]);
        answer.json()
    };
    for (name, least_ms, most_ms) in
        [("Duration", 0, u64::MAX), ("LeaseTime", 100, 86_400_000), ("WaitTime", 0, 30_000)]
    {
        let pattern = document["components"]["schemas"][name]["pattern"].as_str().expect(name).to_owned();
        run(200, string_regex(pattern.trim_matches(['^', '$'])).unwrap(), |text| {
            let duration =
                crate::duration::parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let ms = duration.as_millis() as u64;
            prop_assert!((least_ms..=most_ms).contains(&ms), "{text}");
            Ok(())
        });
    }
}
