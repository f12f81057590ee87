//! Orders in files and on the command line.

use proptest::{collection::btree_map, option, prelude::*};

use super::*;
use crate::{
    fuzz::{json, mutated_text, readable, run, text},
    queue::Due,
    types::DueAt,
};

const TIMEOUT: Due = Due::In(std::time::Duration::from_secs(1800));

#[test]
fn a_line_is_the_order_that_was_written() {
    let id = text(2).prop_filter("an id", |text| Id::new(text).is_ok());
    let ms = DueAt::MIN_MS..DueAt::MAX_MS;
    let when = prop_oneof![
        ms.clone().prop_map(|ms| (format!(",\"due_at\":{ms}"), Due::At(DueAt::from_ms(ms).unwrap()))),
        ms.clone().prop_map(|ms| (format!(",\"due_at\":{ms}.0"), Due::At(DueAt::from_ms(ms).unwrap()))),
        ms.prop_map(|ms| DueAt::from_ms(ms).unwrap())
            .prop_map(|at| (format!(",\"due_at\":\"{at}\""), Due::At(at))),
        (0..9000u64)
            .prop_map(|s| { (format!(",\"delay\":\"{s}s\""), Due::In(std::time::Duration::from_secs(s))) }),
        Just((String::new(), TIMEOUT)),
    ];
    let fields = option::of(btree_map("[a-z]{1,4}", "[ -~]{0,9}", 0..4));
    run(300, (id, when, fields), |(id, (when, due), fields)| {
        let members = fields.as_ref().map(|fields| format!(",\"fields\":{}", serde_json::json!(fields)));
        let line = format!("{{\"id\":{}{when}{}}}", serde_json::json!(id), members.unwrap_or_default());
        match (create::parse(line.as_bytes(), TIMEOUT), Fields::new(fields.unwrap_or_default())) {
            (Ok(order), Ok(fields)) => {
                prop_assert_eq!((order.id.as_str(), order.due, order.fields), (id.as_str(), due, fields));
            }
            (read, fields) => prop_assert!(read.is_err() && fields.is_err(), "{read:?} {fields:?} {line}"),
        }
        Ok(())
    });
}

#[test]
fn any_line_is_an_order_or_an_error() {
    let line = "\\{\"id\":\"[a-z]{1,3}\",\"(due_at|delay|x)\":(\"[0-9]{1,13}s?\"|[0-9]{1,14}|null|\\[\\]),\"fields\":\\{\\}\\}";
    run(400, prop_oneof![mutated_text(line), json().prop_map(|json| json.to_string()), text(5)], |line| {
        match create::parse(line.as_bytes(), TIMEOUT) {
            Ok(order) => prop_assert!(Id::new(order.id.as_str()).is_ok()),
            Err(error) => readable(&format!("{error:#}"))?,
        }
        Ok(())
    });
}

#[test]
fn a_field_argument_is_a_name_and_all_that_follows_the_first_equals_sign() {
    run(300, text(4), |argument| {
        match field(&argument) {
            Ok((name, value)) => {
                prop_assert!(!name.contains('='));
                prop_assert_eq!(format!("{name}={value}"), argument);
            }
            Err(error) => {
                prop_assert!(!argument.contains('='));
                readable(&error.to_string())?;
            }
        }
        Ok(())
    });
}
