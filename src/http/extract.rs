//! What is read of a request. Every rejection is a [`Problem`].

use std::{fmt, str::FromStr, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
};
use clap::ValueEnum;
use http::{HeaderMap, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};

use super::{
    Api, Served,
    problem::{Kind, Problem},
};
use crate::{
    duration,
    error::Invalid,
    types::{DurabilityLevel, Id, Token},
};

/// The header field that says what a write has to reach.
const DURABILITY: &str = "overdue-durability";
/// The largest body that is read into memory as a whole.
const MAX_BODY_BYTES: usize = 1 << 20;

/// The queue that the path names. No parameters are taken.
pub(super) struct OnQueue(pub(super) Arc<Served>);

impl FromRequestParts<Api> for OnQueue {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let OnQueueWith { served, params } = OnQueueWith::from_request_parts(parts, api).await?;
        params.no_more()?;
        Ok(Self(served))
    }
}

/// The same with the parameters that the query gives it.
pub(super) struct OnQueueWith {
    pub(super) served: Arc<Served>,
    pub(super) params: Params,
}

impl FromRequestParts<Api> for OnQueueWith {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let served = api.served(param(&path(parts, api).await?, "queue"))?.durable_at(durability(parts)?);
        Ok(Self { served, params: Params::from_request_parts(parts, api).await? })
    }
}

/// The queue and the id that the path names. No parameters are taken.
pub(super) struct OnId {
    pub(super) served: Arc<Served>,
    pub(super) id: Id,
}

impl FromRequestParts<Api> for OnId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let params = path(parts, api).await?;
        let served = api.served(param(&params, "queue"))?.durable_at(durability(parts)?);
        Params::from_request_parts(parts, api).await?.no_more()?;
        Ok(Self { served, id: id_of(&params)? })
    }
}

/// What a write has to reach, if the call says so.
pub(super) fn durability(parts: &Parts) -> Result<Option<DurabilityLevel>, Problem> {
    let Some(value) = parts.headers.get(DURABILITY) else { return Ok(None) };
    let word = value.to_str().unwrap_or_default();
    let level = DurabilityLevel::ALL.iter().find(|(known, _)| *known == word).map(|(_, level)| *level);
    level.map(Some).ok_or_else(|| {
        let words: Vec<&str> = DurabilityLevel::ALL.iter().map(|(word, _)| *word).collect();
        let why = format_args!("{DURABILITY} is one of {}", words.join(", ")).to_string();
        Problem::new(Kind::InvalidValue, why).field(DURABILITY)
    })
}

/// The id that the path names.
pub(super) async fn path_id(parts: &mut Parts, api: &Api) -> Result<Id, Problem> {
    id_of(&path(parts, api).await?)
}

fn id_of(params: &RawPathParams) -> Result<Id, Problem> {
    Id::new(param(params, "id")).map_err(|invalid| Problem::from(invalid).field("id"))
}

async fn path(parts: &mut Parts, api: &Api) -> Result<RawPathParams, Problem> {
    RawPathParams::from_request_parts(parts, api)
        .await
        .map_err(|_| Problem::new(Kind::MalformedRequest, "the path is not UTF-8 once its %XX are decoded"))
}

fn param<'a>(params: &'a RawPathParams, name: &str) -> &'a str {
    params.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
}

/// A JSON object as the body.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        check_type(request.headers(), "application/json")?;
        let bytes = whole(request.into_body(), api).await?;
        if bytes.trim_ascii_start().first().is_some_and(|first| *first != b'{') && is_json(&bytes) {
            return Err(Problem::new(Kind::InvalidValue, "the body must be a JSON object").field("body"));
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|_| explain::<T>(&bytes))
    }
}

/// The media type must be this one; a page of another site cannot send JSON without asking first.
pub(super) fn check_type(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.and_then(|value| value.split(';').next()).unwrap_or_default();
    if essence.trim().eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let why = format!("the body must come with `Content-Type: {wanted}`");
    Err(Problem::new(Kind::UnsupportedMediaType, why).field("content-type"))
}

/// All of a body, if it is not too long and does not stall.
pub(super) async fn whole(body: Body, api: &Api) -> Result<Bytes, Problem> {
    let reading = tokio::time::timeout(api.idle_timeout, Limited::new(body, MAX_BODY_BYTES).collect());
    let read = tokio::select! {
        read = reading => read,
        () = api.stop.cancelled() => return Err(stopping()),
    };
    match read {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(cause)) if cause.is::<LengthLimitError>() => {
            Err(Problem::new(Kind::BodyTooLarge, Kind::BodyTooLarge.parts().3))
        }
        Ok(Err(_)) => Err(Problem::new(Kind::MalformedRequest, "the body broke off")),
        Err(_) => Err(too_slow(api)),
    }
}

/// The server does not wait for what has not come by its stop.
pub(super) fn stopping() -> Problem {
    Problem::new(Kind::NotReady, "the server stops")
}

pub(super) fn too_slow(api: &Api) -> Problem {
    let limit = duration::format(api.idle_timeout);
    Problem::new(Kind::RequestTimeout, format_args!("the body did not come within {limit}"))
}

pub(super) fn is_json(bytes: &[u8]) -> bool {
    json_error(bytes).is_ok()
}

/// What keeps bytes from being JSON, whatever it says.
fn json_error(bytes: &[u8]) -> serde_json::Result<()> {
    let text = std::str::from_utf8(bytes).map_err(|_| de::Error::custom("it is not UTF-8"))?;
    serde_json::from_str::<de::IgnoredAny>(text).map(drop)
}

/// Reads once more what could not be read, to find out where. Text that is no JSON is malformed, even if it had a wrong
/// value before it broke off; JSON that is not what was asked for has a field at fault.
pub(super) fn explain<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Problem {
    if let Err(cause) = json_error(bytes) {
        return Problem::new(Kind::MalformedRequest, format_args!("body: {cause}"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut reader) else {
        return Problem::new(Kind::MalformedRequest, "the body goes on behind its JSON");
    };
    let path = error.path().to_string();
    let message = error.into_inner().to_string();
    // An unknown or missing field is named in the message, and the path leads to where it is or should be.
    let named = message.split('`').nth(1).filter(|_| message.contains(" field `"));
    let field = match (path.as_str(), named) {
        (".", named) => named.unwrap_or("body").to_owned(),
        (path, Some(named)) if !path.ends_with(named) => format!("{path}.{named}"),
        (path, _) => path.to_owned(),
    };
    Problem::new(Kind::InvalidValue, message).field(if field.is_empty() { "body" } else { &field })
}

/// For fields that may be left out, but not be null: one that was forgotten is no field that was left out.
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A whole number from 0 to the largest that JavaScript can tell from its neighbours. To JSON, 1e3 and 1000.0 are
/// whole numbers as well.
pub(super) struct Whole(pub(super) u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const MAX: f64 = 9_007_199_254_740_991.0;
        struct Number;
        impl de::Visitor<'_> for Number {
            type Value = Whole;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0 to 9007199254740991")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Whole, E> {
                if number <= MAX as u64 {
                    return Ok(Whole(number));
                }
                Err(E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Whole, E> {
                if number.fract() == 0.0 && (0.0..=MAX).contains(&number) {
                    return Ok(Whole(number as u64));
                }
                Err(E::invalid_value(de::Unexpected::Float(number), &self))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// A token as a claim answered it.
pub(super) fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Token, D::Error> {
    Whole::deserialize(deserializer).map(|Whole(token)| Token::new(token))
}

/// The query of the url, or a form. What is left when all known parameters are taken is unknown.
pub(super) struct Params(Vec<(String, String)>);

impl FromRequestParts<Api> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        Ok(Self::of(parts.uri.query().unwrap_or_default().as_bytes()))
    }
}

impl Params {
    /// From `application/x-www-form-urlencoded`, as a query has it and as a form sends it.
    pub(super) fn of(text: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(text).into_owned().collect())
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let Some(at) = self.0.iter().position(|(known, _)| known == name) else { return Ok(None) };
        let (_, value) = self.0.swap_remove(at);
        if self.0.iter().any(|(known, _)| known == name) {
            return Err(Problem::new(Kind::InvalidValue, format_args!("`{name}` is there twice")).field(name));
        }
        Ok(Some(value))
    }

    /// A parameter in the form of its type.
    pub(super) fn take<T: FromStr<Err = Invalid>>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        let parse = |text: String| text.parse().map_err(|invalid| Problem::from(invalid).field(name));
        self.text(name)?.map(parse).transpose()
    }

    /// A parameter as it stands, of at most so many characters.
    pub(super) fn words(&mut self, name: &str, most: usize) -> Result<Option<String>, Problem> {
        let text = self.text(name)?;
        if text.as_ref().is_some_and(|text| text.chars().count() > most) {
            let why = format!("`{name}` has more than {most} characters");
            return Err(Problem::new(Kind::InvalidValue, why).field(name));
        }
        Ok(text)
    }

    /// One of a few words.
    pub(super) fn choice<T: ValueEnum>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        T::from_str(&text, false).map(Some).map_err(|_| {
            let variants = T::value_variants().iter().filter_map(T::to_possible_value);
            let words: Vec<String> = variants.map(|word| word.get_name().to_owned()).collect();
            let why = format!("`{}` is none of {}", text.escape_debug(), words.join(", "));
            Problem::new(Kind::InvalidValue, why).field(name)
        })
    }

    /// How many, 1 to `most`.
    pub(super) fn count(&mut self, name: &str, default: usize, most: usize) -> Result<usize, Problem> {
        let Some(text) = self.text(name)? else { return Ok(default) };
        text.parse().ok().filter(|count| (1..=most).contains(count)).ok_or_else(|| {
            let why = format!("`{}` is no number of 1 to {most}", text.escape_debug());
            Problem::new(Kind::InvalidValue, why).field(name)
        })
    }

    /// To be called when all known ones are taken.
    pub(super) fn no_more(self) -> Result<(), Problem> {
        let Some((name, _)) = self.0.into_iter().next() else { return Ok(()) };
        let why = format!("there is no parameter `{}` here", name.escape_debug());
        Err(Problem::new(Kind::InvalidValue, why).field(if name.is_empty() { "query" } else { &name }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[expect(dead_code, reason = "only read")]
        mode: crate::queue::Mode,
    }

    fn explained(bytes: &[u8]) -> (Kind, serde_json::Value) {
        let problem = explain::<Body>(bytes);
        (problem.kind, serde_json::to_value(problem.body()).unwrap())
    }

    #[test]
    fn what_is_no_json_is_malformed_and_what_is_json_has_a_field_at_fault() {
        for text in [&b"{\"mode\":1"[..], b"{\"mode\":\"\xff\"}", b"{\"mode\":\"keep\"} x", b""] {
            assert_eq!(explained(text).0, Kind::MalformedRequest, "{}", text.escape_ascii());
        }
        for (text, field) in
            [("{\"mode\":[]}", "mode"), ("{\"mode\":1e400}", "mode"), ("{}", "mode"), ("{\"\":1}", "body")]
        {
            let (kind, body) = explained(text.as_bytes());
            assert_eq!((kind, body["field"].as_str()), (Kind::InvalidValue, Some(field)), "{text}");
        }
    }

    #[test]
    fn what_a_caller_has_sent_comes_back_short_and_clean() {
        let (_, body) = explained(format!("{{\"\\u001b[2J{}\":1}}", "x".repeat(9999)).as_bytes());
        assert!(
            body.to_string().len() < 2500 && !body["field"].as_str().unwrap().contains('\u{1b}'),
            "{body}"
        );
        let query = Params(vec![(String::new(), "1".to_owned())]).no_more().unwrap_err();
        assert_eq!(serde_json::to_value(query.body()).unwrap()["field"], "query");
    }
}
