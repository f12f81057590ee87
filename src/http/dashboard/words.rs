//! How numbers, times and addresses are written.

use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};

use crate::types::{DueAt, ServerTime};

/// `12,345`.
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 id`, `2 ids`.
pub(super) fn ids(count: u64) -> String {
    format!("{} {}", number(count), if count == 1 { "id" } else { "ids" })
}

/// The two largest units: `850 ms`, `4.2 s`, `3m 10s`, `2h 5m`, `9d 3h`.
pub(super) fn span(time: Duration) -> String {
    let (ms, s) = (time.as_millis(), time.as_secs());
    match s {
        0 if ms < 10 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        0 => format!("{ms} ms"),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3600),
    }
}

pub(super) fn span_or_dash(time: Option<Duration>) -> String {
    time.map_or_else(|| "–".to_owned(), span)
}

/// `in 3m 10s`, or `4m 5s ago`.
pub(super) fn from_now(at: DueAt, now: ServerTime) -> String {
    let ahead = now.until(at);
    if ahead.is_zero() { format!("{} ago", span(now.since(at))) } else { format!("in {}", span(ahead)) }
}

/// Per second, with as many places as tell something.
pub(super) fn rate(per_second: f64) -> String {
    if per_second >= 100.0 { number(per_second.round() as u64) } else { format!("{per_second:.1}") }
}

/// A path with a query, whatever is in its values.
pub(super) fn url(path: &str, query: &[(&str, &str)]) -> String {
    if query.is_empty() {
        return path.to_owned();
    }
    let mut text = url::form_urlencoded::Serializer::for_suffix(format!("{path}?"), path.len() + 1);
    text.extend_pairs(query).finish()
}

/// After a form was taken: the page that shows what it did.
pub(super) fn see_other(location: &str) -> Response {
    let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_units_fit_their_size() {
        assert_eq!([0, 999, 1000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((ids(1), ids(2)), ("1 id".to_owned(), "2 ids".to_owned()));
        let spans =
            [250_000, 42_000_000, 4_250_000_000, 250_000_000_000, 7_500_000_000_000, 788_400_000_000_000];
        let spans = spans.map(|ns| span(Duration::from_nanos(ns)));
        assert_eq!(spans, ["0.2 ms", "42 ms", "4.2 s", "4m 10s", "2h 5m", "9d 3h"]);
        assert_eq!((rate(0.04), rate(99.94), rate(12_345.6)), ("0.0".into(), "99.9".into(), "12,346".into()));
    }

    #[test]
    fn what_is_ahead_and_what_has_passed_is_told_apart() {
        let now = ServerTime::from_ms(1_767_225_600_000);
        let at = |ms: i64| DueAt::from_ms(1_767_225_600_000 + ms).unwrap();
        assert_eq!(from_now(at(90_000), now), "in 1m 30s");
        assert_eq!(from_now(at(-90_000), now), "1m 30s ago");
    }

    #[test]
    fn values_of_a_query_cannot_leave_it() {
        assert_eq!(
            url("/queues/orders/id", &[("id", "a&b=c#ü /")]),
            "/queues/orders/id?id=a%26b%3Dc%23%C3%BC+%2F"
        );
        assert_eq!(url("/login", &[]), "/login");
    }
}
