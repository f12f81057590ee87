//! What an answer means: from a status to an outcome, and what people read of a call that failed.

use std::{
    error::Error as _,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};

use crate::{config::WebhookConfig, duration, handler::Outcome, types::printable};

/// A receiver that asks for a longer pause gets this one.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// How much of an answer's body goes into the error.
const SHOWN_CHARS: usize = 200;

/// The outcome of a call that was answered. `body` is the beginning of the answer's body.
pub(super) fn outcome(
    config: &WebhookConfig,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Outcome {
    if status.is_success() {
        return Outcome::Done;
    }
    let mut error = format!("{} answered {status}", config.url);
    if status.is_redirection() {
        error.push_str(", a redirect, which is not followed: write the final address into `url`");
    }
    let shown: String = printable(body.trim_ascii()).chars().take(SHOWN_CHARS).collect();
    if !shown.is_empty() {
        error.push_str(": ");
        error.push_str(&shown);
    }
    match status {
        StatusCode::GONE => Outcome::Dead { error },
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            Outcome::Retry { error, after: after.and_then(|value| retry_after(value, SystemTime::now())) }
        }
        _ => Outcome::retry(error),
    }
}

/// The pause that `Retry-After` asks for, in seconds or as a date. None if it asks for none: then the backoff
/// holds, since a receiver that says 0 would else get all attempts at once.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let pause = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are just a very long time.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).ok()?
    };
    (!pause.is_zero()).then(|| pause.min(MAX_RETRY_AFTER))
}

/// What happened to a call without an answer, and what to check. The error of the client would show the url.
pub(super) fn no_answer(config: &WebhookConfig, error: &reqwest::Error) -> String {
    let url = &config.url;
    if error.is_timeout() {
        return if error.is_connect() {
            let limit = duration::format(config.connect_timeout.min(config.timeout));
            format!("no connection to {url} within {limit}: is the host up, or does a firewall swallow it?")
        } else {
            let limit = duration::format(config.timeout);
            format!("no answer from {url} within {limit}: is the receiver stuck, or `timeout` too short?")
        };
    }
    let cause = root_cause(error);
    if !error.is_connect() {
        return format!("the call of {url} broke off: {cause}");
    }
    let advice = if cause.contains("certificate") {
        "is it the right host? A private authority goes into `ca_file`"
    } else {
        "does the receiver listen there, and is `url` right?"
    };
    format!("cannot connect to {url}: {cause}; {advice}")
}

/// The innermost cause: what stands around it is how the client is built.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    cause.map_or_else(|| "for no known reason".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WebhookUrl;

    fn config() -> WebhookConfig {
        WebhookConfig::new(WebhookUrl::new("http://127.0.0.1:1/expired?key=geheim").unwrap())
    }

    fn answered(status: u16, after: Option<&'static str>, body: &str) -> Outcome {
        let mut headers = HeaderMap::new();
        if let Some(after) = after {
            headers.insert(RETRY_AFTER, after.parse().unwrap());
        }
        outcome(&config(), StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    fn pause(outcome: Outcome) -> Option<Duration> {
        match outcome {
            Outcome::Retry { after, .. } => after,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn statuses_become_outcomes() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(answered(status, None, "thanks"), Outcome::Done);
        }
        assert!(matches!(answered(410, None, ""), Outcome::Dead { .. }));
        for status in [300, 301, 302, 304, 307, 308, 400, 401, 404, 408, 409, 422, 500, 501] {
            assert_eq!(pause(answered(status, Some("7"), "")), None, "{status}");
        }
        for status in [429, 502, 503, 504] {
            assert_eq!(pause(answered(status, Some("7"), "")), Some(Duration::from_secs(7)), "{status}");
            assert_eq!(pause(answered(status, None, "")), None, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_at_most_an_hour() {
        let now = httpdate::parse_http_date("Thu, 01 Jan 2026 00:00:00 GMT").unwrap();
        for (value, seconds) in [
            ("1", Some(1)),
            (" 120 ", Some(120)),
            ("7200", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Thu, 01 Jan 2026 00:00:30 GMT", Some(30)),
            ("Fri, 01 Jan 2027 00:00:00 GMT", Some(3600)),
            ("Wed, 31 Dec 2025 00:00:00 GMT", None),
            ("0", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn errors_show_the_answer_in_one_line_and_no_query() {
        let Outcome::Retry { error, .. } = answered(500, None, "no\n\u{1b}[2J database\n") else { panic!() };
        let expected =
            "http://127.0.0.1:1/expired?*** answered 500 Internal Server Error: no\\n\\u{1b}[2J database";
        assert_eq!(error, expected);
        let Outcome::Retry { error, .. } = answered(500, None, &"x".repeat(4096)) else { panic!() };
        assert!(error.ends_with(&format!(": {}", "x".repeat(200))) && error.len() < 300, "{error}");
        let Outcome::Retry { error, .. } = answered(302, None, "") else { panic!() };
        assert!(error.contains("302 Found, a redirect, which is not followed"), "{error}");
    }
}
