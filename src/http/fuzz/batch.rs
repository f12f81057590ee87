//! The lines of a batch: however the body is cut into pieces, each line is itself, and so is its verdict.

use std::convert::Infallible;

use futures_util::stream;

use super::{lines::Lines, *};
use crate::types::MAX_PAYLOAD_BYTES;

/// Number, and what became of it: the id, or what is wrong.
type Verdicts = Vec<(u64, Result<String, String>)>;

/// Reads a body that comes in pieces of these lengths, over and over.
fn read(place: &Place, body: &[u8], lens: &[usize]) -> Verdicts {
    let (mut rest, mut pieces) = (body, Vec::new());
    for len in lens.iter().cycle() {
        let (piece, later) = rest.split_at((*len).min(rest.len()));
        pieces.push(Ok::<_, Infallible>(Bytes::copy_from_slice(piece)));
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    let mut verdicts = Vec::new();
    let read = async {
        let body = Body::from_stream(stream::iter(pieces)).into_data_stream();
        let mut lines = Some(Lines::new(body, place.api.clone()));
        while let Some((group, rest)) = match lines.take() {
            Some(lines) => lines.group().await,
            None => None,
        } {
            assert!(group.broken.is_none() && group.lines.len() <= 1000);
            assert!(group.traces.is_empty() || group.traces.len() <= group.registrations.len());
            let mut registrations = group.registrations.iter();
            for (number, problem) in &group.lines {
                let verdict = match problem {
                    Some(problem) => Err(problem.body().detail().to_owned()),
                    None => {
                        Ok(registrations.next().expect("a registration for each good line").id.to_string())
                    }
                };
                verdicts.push((*number, verdict));
            }
            assert!(registrations.next().is_none());
            lines = Some(rest);
        }
    };
    place.liar.ask(&[], read);
    verdicts
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let good = (text(2), any::<bool>(), option::of(json())).prop_map(|(id, at, payload)| {
        let when = if at { "\"due_at\":1767225600000" } else { "\"delay\":\"30m\"" };
        let payload = payload.map(|payload| format!(",\"payload\":{payload}")).unwrap_or_default();
        format!("{{\"id\":{},{when}{payload}}}", serde_json::json!(id)).into_bytes()
    });
    prop_oneof![4 => good, 2 => select(&["", " ", "{}", "[]", "\r", "{\"id\":1}"][..]).prop_map(|text| text.as_bytes().to_vec()), 1 => bytes(3)]
}

#[test]
fn a_batch_is_its_lines_however_it_is_cut() {
    let place = Place::new();
    let body = vec(line(), 0..6).prop_map(|lines| lines.join(&b'\n'));
    run(250, (mutated(body), vec(1..40usize, 1..4)), |(body, lens)| {
        let whole = read(&place, &body, &[body.len().max(1)]);
        prop_assert_eq!(&read(&place, &body, &lens), &whole);
        // Each line by itself says the same.
        let numbered = (1..).zip(body.split(|byte| *byte == b'\n'));
        let alone: Verdicts = numbered
            .filter(|(_, line)| !line.trim_ascii().is_empty())
            .map(|(number, line)| (number, read(&place, line, &[line.len()]).remove(0).1))
            .collect();
        prop_assert_eq!(&whole, &alone);
        for (_, verdict) in &whole {
            match verdict {
                Ok(id) => prop_assert!(Id::new(id).is_ok()),
                Err(detail) => readable(detail)?,
            }
        }
        Ok(())
    });
}

#[test]
fn a_line_around_the_limit_is_taken_up_to_it_and_the_next_one_is_not_lost() {
    const MOST: usize = 8 * MAX_PAYLOAD_BYTES;
    let place = Place::new();
    run(12, (MOST - 3..=MOST + 3, 1000..200_000usize), |(len, piece)| {
        let good = "{\"id\":\"42\",\"delay\":\"1s\"}";
        let mut body = format!("{good}{}\n{good}", " ".repeat(len - good.len() - 1)).into_bytes();
        let verdicts = read(&place, &body, &[piece]);
        prop_assert_eq!(verdicts.len(), 2);
        prop_assert_eq!((verdicts[0].0, verdicts[0].1.is_ok()), (1, len <= MOST));
        prop_assert_eq!(&verdicts[1], &(2, Ok("42".to_owned())));
        body.retain(|byte| *byte != b'\n');
        prop_assert_eq!(read(&place, &body, &[piece]).len(), 1);
        Ok(())
    });
}
