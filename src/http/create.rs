//! `POST /v1/queues/{queue}/deadlines`: registers without an id of the caller's.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest as _, Sha256};

use super::{
    Served,
    deadlines::{NewDeadline, Registered},
    etag,
    extract::{Json, OnQueue},
    problem::{Kind, Problem},
    schema::{Durable, OneQueue, Trace},
};
use crate::{
    queue::{Due, Expected},
    types::Id,
};

const KEY: &str = "idempotency-key";
const MAX_KEY_BYTES: usize = 255;

/// Register a deadline under an id that the server makes.
///
/// With an `Idempotency-Key` the id is derived from the key, so a repetition finds what the first call has registered
/// and changes nothing, as long as the deadline has not fired.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/deadlines", operation_id = "createDeadline", tag = "deadlines",
    params(OneQueue, ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$"), Trace, Durable),
    request_body(content = NewDeadline, example = json!({"due_at": "2026-01-01T00:30:00.000Z"})),
    responses(
        (status = 201, description = "It is scheduled.", body = Registered,
            headers(("etag" = String, description = "The deadline in ms, in quotes"),
                ("location" = String, description = "Where it can be looked up")),
            example = json!({"queue": "orders", "id": "019b76da-a800-7c3e-8d2f-0a1b2c3d4e5f", "result": "created",
                "state": "scheduled", "due_at": "2026-01-01T00:30:00.000Z"})),
        (status = 200, description = "A call with the same Idempotency-Key has registered it before.",
            body = Registered,
            headers(("etag" = String, description = "The deadline in ms, in quotes; none if it is not scheduled"),
                ("location" = String, description = "Where it can be looked up")),
            example = json!({"queue": "orders", "id": "key-0b5e…", "result": "kept", "state": "scheduled",
                "due_at": "2026-01-01T00:30:00.000Z"})),
    ),
    security(("bearer" = ["write"])),
)]
pub(super) async fn post(
    OnQueue(served): OnQueue,
    headers: HeaderMap,
    Json(deadline): Json<NewDeadline>,
) -> Result<Response, Problem> {
    served.check_writable()?;
    let served = served.durable_at(deadline.durability);
    etag::refuse(&headers)?;
    let key = key(&headers)?;
    let id = key.map_or_else(random_id, derived_id);
    // Absent to a GET, that is, so that a repetition finds a leased or dead one too.
    let registered = match deadline.register(&served, &id, &headers, Expected::Absent).await {
        Err(problem) if problem.kind == Kind::PreconditionFailed && key.is_some() => {
            repeated(&served, &id, &headers, &deadline).await?
        }
        answer => answer?,
    };
    let location = format!("/v1/queues/{}/deadlines/{id}", served.name());
    let mut response = registered.into_response();
    let location = HeaderValue::try_from(location).expect("letters, digits, - and /");
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// What the first call with the key has registered, if it was the same.
async fn repeated(
    served: &Served,
    id: &Id,
    headers: &HeaderMap,
    deadline: &NewDeadline,
) -> Result<Registered, Problem> {
    let Some(shown) = served.queue.show(id).await? else {
        // Done or cancelled just now: the id is free again.
        return deadline.register(served, id, headers, Expected::Anything).await;
    };
    // A delay leads to another deadline each time, so only a time can be compared.
    let other_time = matches!(deadline.due()?, Due::At(at) if Some(at) != shown.due_at);
    if other_time || deadline.payload()? != shown.payload {
        return Err(Problem::new(Kind::IdempotencyKeyReused, Kind::IdempotencyKeyReused.parts().3).field(KEY));
    }
    Ok(Registered::kept(served, id, &shown))
}

pub(super) fn key(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let Some(key) = headers.get(KEY) else { return Ok(None) };
    let key = key.as_bytes();
    if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.iter().all(u8::is_ascii_graphic) {
        let why = format!("an Idempotency-Key is 1 to {MAX_KEY_BYTES} ASCII characters without spaces");
        return Err(Problem::new(Kind::InvalidValue, why).field(KEY));
    }
    Ok(Some(key))
}

/// The same for the same key.
pub(super) fn derived_id(key: &[u8]) -> Id {
    let digest = Sha256::digest(key);
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Id::new(format!("key-{hex}")).expect("letters and digits")
}

/// A UUID of version 7: random, and in the order of making to those who list.
pub(super) fn random_id() -> Id {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let random: u128 = rand::random();
    let version_and_variant = 0x7 << 76 | 0b10 << 62;
    let random = random & ((1 << 76) - 1) & !(0b11 << 62);
    let hex = format!("{:032x}", (now_ms & 0xffff_ffff_ffff) << 80 | random | version_and_variant);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    Id::new(parts.join("-")).expect("letters and digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_ids_are_uuids_of_version_7() {
        let (one, two) = (random_id(), random_id());
        assert_ne!(one, two);
        for id in [one, two] {
            let parts: Vec<&str> = id.as_str().split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
            assert!(parts[2].starts_with('7') && "89ab".contains(&parts[3][..1]), "{id}");
        }
    }

    #[test]
    fn one_key_makes_one_id() {
        assert_eq!(derived_id(b"a"), derived_id(b"a"));
        assert_ne!(derived_id(b"a"), derived_id(b"b"));
    }
}
