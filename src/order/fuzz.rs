//! What orders read: fields, entries of the intake, notices, and in `replies` whatever Redis may answer.

mod replies;

use proptest::{collection::vec, prelude::*, sample::select};

use super::{fields::RESERVED, *};
use crate::{
    fuzz::{bytes, json, mutated_text, readable, run, text},
    queue::{Delivery, fuzz},
    types::{DueAt, Payload},
};

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z_]{1,8}",
        1 => Just("amount".to_owned()),
        1 => select(&RESERVED[..]).prop_map(str::to_owned),
        1 => text(2),
        1 => "[a-z]{62,66}",
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![4 => text(3), 2 => "[0-9]{0,4}\\.?[0-9]{0,3}", 1 => (text(1), 100..9000usize).prop_map(|(text, times)| text.repeat(times))]
}

/// What the contract says of a field.
fn sound(name: &str, value: &str) -> bool {
    let decimal = || {
        let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
        [whole, fraction].iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()))
    };
    (1..=64).contains(&name.len())
        && !name.contains(char::is_control)
        && !RESERVED.contains(&name)
        && !value.replace(['\t', '\n', '\r'], "").contains(char::is_control)
        && (name != "amount" || decimal())
}

#[test]
fn fields_are_those_of_the_contract() {
    let pairs = prop_oneof![6 => vec((name(), value()), 0..6), 1 => vec(("[a-z]{6}", text(1)), 95..105)];
    run(300, pairs, |pairs| {
        let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let all_sound = pairs.iter().all(|(name, value)| sound(name, value))
            && names.len() == pairs.len()
            && pairs.len() <= 100
            && bytes <= 30 * 1024;
        match Fields::new(pairs.clone()) {
            Ok(fields) => {
                prop_assert!(all_sound);
                prop_assert_eq!(fields.len(), pairs.len());
                prop_assert!(pairs.iter().all(|(name, value)| fields.get(name) == Some(value)));
                let json = serde_json::to_string(&fields).unwrap();
                prop_assert_eq!(serde_json::from_str::<Fields>(&json).unwrap(), fields);
            }
            Err(error) => {
                prop_assert!(!all_sound, "{error}");
                readable(&error.to_string())?;
            }
        }
        Ok(())
    });
}

#[test]
fn fields_in_json_are_texts_each_given_once() {
    run(500, vec((name(), value()), 0..4), |pairs| {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let members: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{}:{}", quoted(name), quoted(value))).collect();
        let read = serde_json::from_str::<Fields>(&format!("{{{}}}", members.join(","))).ok();
        prop_assert_eq!(read, Fields::new(pairs).ok());
        Ok(())
    });
}

#[test]
fn any_json_is_fields_or_an_error() {
    let object = || {
        vec((name(), json()), 0..4)
            .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect()).to_string())
    };
    run(500, prop_oneof![object(), mutated_text(object())], |text| {
        match serde_json::from_str::<Fields>(&text) {
            Ok(fields) => prop_assert!(fields.iter().all(|(name, value)| sound(name, value))),
            Err(error) => prop_assert!(!error.to_string().contains(char::is_control), "{error}"),
        }
        Ok(())
    });
}

#[test]
fn a_foreign_hash_becomes_fields_as_it_is_or_none() {
    let text_or_bytes = || prop_oneof![3 => value().prop_map(String::into_bytes), 1 => bytes(2)];
    let flat = vec((name().prop_map(String::into_bytes), text_or_bytes()), 0..4);
    run(400, flat, |pairs| {
        let flat: Vec<Vec<u8>> =
            pairs.iter().flat_map(|(name, value)| [name.clone(), value.clone()]).collect();
        let renames = Renames::default().with("status", Some("shop_status".into())).with("digest", None);
        match renames.fields(&flat) {
            Ok(fields) => {
                let kept = pairs.iter().filter(|(name, _)| name != b"digest");
                prop_assert_eq!(fields.len(), kept.clone().count());
                for (name, value) in kept {
                    let name =
                        if name == b"status" { "shop_status" } else { std::str::from_utf8(name).unwrap() };
                    prop_assert_eq!(fields.get(name).map(str::as_bytes), Some(value.as_slice()));
                }
            }
            Err(error) => readable(&error.to_string())?,
        }
        Ok(())
    });
}

/// A delivery as the companions of a queue of orders get it.
fn delivery(payload: Option<String>) -> Delivery {
    fuzz::delivery("orders.intake", "42", payload.and_then(|text| Payload::new(text).ok()))
}

#[test]
fn an_entry_of_the_intake_is_the_order_that_was_submitted_or_is_set_aside() {
    let entry = (0..300_000_000_000_000i64, vec((name(), value()), 0..3)).prop_map(|(due_ms, pairs)| {
        let fields: Vec<String> = pairs.into_iter().flat_map(|(name, value)| [name, value]).collect();
        (due_ms, fields)
    });
    run(200, entry, |(due_ms, flat)| {
        let payload = serde_json::json!({ "due_at": due_ms.to_string(), "fields": flat }).to_string();
        let pairs = flat.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str()));
        match (intake::read(&delivery(Some(payload))), Fields::new(pairs), DueAt::from_ms(due_ms)) {
            (Ok(order), Ok(fields), Ok(due_at)) => {
                prop_assert_eq!((order.due, order.fields), (Due::At(due_at), fields));
            }
            (Err(error), _, _) => readable(&error)?,
            (Ok(order), fields, due_at) => prop_assert!(false, "{order:?} of {fields:?} and {due_at:?}"),
        }
        Ok(())
    });
    let entry = "\\{\"due_at\":\"[0-9]{13}\",\"fields\":\\[\"a\",\"b\"(,\"c\")?\\]\\}";
    run(400, prop_oneof![mutated_text(entry), json().prop_map(|json| json.to_string())], |payload| {
        if let Err(error) = intake::read(&delivery(Some(payload))) {
            readable(&error)?;
        }
        Ok(())
    });
}

#[test]
fn a_notice_hands_on_the_order_or_is_set_aside() {
    let hash = "\\{\"status\":\"expired\",\"created_at\":\"[0-9]{13}\",\"amount\":\"[0-9]{3}\",\"note\":\"[a-z]{0,9}\"\\}";
    run(400, prop_oneof![mutated_text(hash), json().prop_map(|json| json.to_string())], |payload| {
        match notify::with_order(&delivery(Some(payload))) {
            Ok(delivery) => {
                let json: serde_json::Value =
                    serde_json::from_str(delivery.payload.unwrap().as_str()).unwrap();
                prop_assert_eq!(&json["id"], delivery.id.as_str());
                prop_assert_eq!(&json["queue"], "orders");
                prop_assert!(Status::ALL.iter().any(|status| json["status"] == status.word()));
            }
            Err(error) => readable(&error)?,
        }
        Ok(())
    });
}

#[test]
fn an_id_of_an_event_is_one_or_two_numbers_of_64_bits() {
    let part = || prop_oneof!["[0-9]{1,21}", any::<u64>().prop_map(|n| n.to_string()), "[+-]?[0-9]{0,3}"];
    run(600, (part(), select(&["", "-", "--", " "][..]), part()), |(ms, dash, count)| {
        let number = |part: &str| {
            let digits = part.trim_start_matches('0');
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_digit())
                && (digits.len() < 20 || (digits.len() == 20 && digits <= "18446744073709551615"))
        };
        let text = if dash.is_empty() { ms.clone() } else { format!("{ms}{dash}{count}") };
        let expected = match dash {
            "" => number(&ms),
            "-" => number(&ms) && number(&count),
            _ => false,
        };
        prop_assert_eq!(is_event_id(&text), expected, "{}", text);
        Ok(())
    });
}
