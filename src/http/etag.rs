//! Entity tags: the deadline that holds, in milliseconds, in quotes.

use http::{HeaderMap, HeaderValue, header};

use super::problem::{Kind, Problem};
use crate::{queue::Expected, types::DueAt};

/// The tag of an id that is scheduled for this time.
pub(super) fn of(due_at: DueAt) -> HeaderValue {
    HeaderValue::try_from(format!("\"{}\"", due_at.as_ms())).expect("digits in quotes")
}

/// What a caller demands of the deadline that holds before it changes it.
pub(super) fn expected(headers: &HeaderMap) -> Result<Expected, Problem> {
    let if_match = one(headers, &header::IF_MATCH)?;
    let is_new = match one(headers, &header::IF_NONE_MATCH)? {
        // Of no tags none matches.
        None | Some("") => false,
        Some("*") => true,
        Some(_) => return Err(bad("If-None-Match", "takes only *")),
    };
    let unmet = |why| Err(Problem::new(Kind::PreconditionFailed, why));
    let Some(tag) = if_match else {
        return Ok(if is_new { Expected::Absent } else { Expected::Anything });
    };
    if tag.is_empty() {
        return unmet("If-Match names no entity tag, and so none can match");
    }
    let why = "takes one entity tag as a GET answered it, such as \"1767225600000\"";
    let held = tag_value(tag).ok_or_else(|| bad("If-Match", why))?;
    if is_new { unmet("If-Match and If-None-Match cannot both hold") } else { Ok(Expected::At(held)) }
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
    digits.parse().ok().and_then(|ms| DueAt::from_ms(ms).ok())
}

fn bad(name: &str, why: &str) -> Problem {
    Problem::new(Kind::MalformedRequest, format_args!("the header {name} {why}")).field(name)
}
