//! Entity tags: the deadline that holds, in milliseconds, in quotes.

use http::{HeaderMap, HeaderValue, header};

use super::problem::{Kind, Problem};
use crate::{queue::Expected, types::DueAt};

/// The tag of an id that is scheduled for this time.
pub(super) fn of(due_at: DueAt) -> HeaderValue {
    HeaderValue::try_from(format!("\"{}\"", due_at.as_ms())).expect("digits in quotes")
}

/// What a caller demands of the deadline that holds before it changes it. A tag that was never ours matches nothing.
pub(super) fn expected(headers: &HeaderMap) -> Result<Expected, Problem> {
    let unmet = |why| Err(Problem::new(Kind::PreconditionFailed, why));
    match (one(headers, &header::IF_MATCH)?, one(headers, &header::IF_NONE_MATCH)?) {
        (None, None) => Ok(Expected::Anything),
        (None, Some("*")) => Ok(Expected::Absent),
        (None, Some(_)) => unmet("If-None-Match takes only *"),
        (Some(_), Some(_)) => unmet("If-Match and If-None-Match cannot both hold"),
        (Some(tag), None) => match tag_value(tag) {
            Some(due_at) => Ok(Expected::At(due_at)),
            None => unmet("If-Match takes one entity tag as a GET answered it, such as \"1767225600000\""),
        },
    }
}

/// For calls that cannot be made to depend on the deadline that holds.
pub(super) fn refuse(headers: &HeaderMap) -> Result<(), Problem> {
    match [header::IF_MATCH, header::IF_NONE_MATCH].iter().find(|name| headers.contains_key(*name)) {
        Some(name) => Err(bad(name.as_str(), "is not possible with this method: leave it out")),
        None => Ok(()),
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(bad(name.as_str(), "is there twice"));
    }
    first.map(|value| value.to_str().map(str::trim).map_err(|_| bad(name.as_str(), "is no text"))).transpose()
}

fn tag_value(tag: &str) -> Option<DueAt> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    let due_at = digits.parse().ok().and_then(|ms| DueAt::from_ms(ms).ok())?;
    // Tags are compared as they stand: a sign or a zero in front makes another one.
    (of(due_at) == tag).then_some(due_at)
}

fn bad(name: &str, why: &str) -> Problem {
    Problem::new(Kind::MalformedRequest, format_args!("the header {name} {why}")).field(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_ours_only_as_we_write_it() {
        assert_eq!(tag_value("\"1767225600000\"").map(DueAt::as_ms), Some(1_767_225_600_000));
        for tag in
            ["1767225600000", "\"01767225600000\"", "\"+1767225600000\"", "W/\"1767225600000\"", "\"7\""]
        {
            assert_eq!(tag_value(tag), None, "{tag}");
        }
    }
}
