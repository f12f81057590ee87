//! The values of the contract: what is accepted is within it, what is refused is not, and what is printed is read again.

use proptest::{option, prelude::*, sample::select};
use serde_json::value::RawValue;

use super::*;
use crate::fuzz::{bytes, json, mutated_text, readable, run, text};

/// Texts around the limits of an id.
fn id_text() -> impl Strategy<Value = String> {
    prop_oneof![text(4), "[a-z0-9:-]{250,262}", "ß{120,130}", Just(String::new())]
}

#[test]
fn an_id_is_1_to_256_bytes_without_control_characters() {
    run(600, id_text(), |text| {
        let sound = (1..=256).contains(&text.len())
            && !text.chars().any(|c| c < ' ' || ('\u{7f}'..='\u{9f}').contains(&c));
        match Id::new(&text) {
            Ok(id) => {
                prop_assert!(sound);
                prop_assert_eq!(id.as_str(), text.as_str());
                let json = serde_json::to_string(&id).unwrap();
                prop_assert_eq!(serde_json::from_str::<Id>(&json).unwrap(), id);
            }
            Err(error) => {
                prop_assert!(!sound);
                readable(&error.to_string())?;
                prop_assert!(serde_json::from_value::<Id>(text.into()).is_err());
            }
        }
        Ok(())
    });
}

#[test]
fn a_queue_name_is_of_a_z_0_9_and_its_companions_know_it() {
    let name = prop_oneof!["[a-z0-9_-]{1,66}(\\.(intake|notify|other|))?", "[a-zA-Z0-9_.{} -]{0,8}", text(3)];
    run(600, name, |text| {
        let sound = |base: &str| {
            (1..=64).contains(&base.len())
                && base.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-'))
        };
        let base = text.strip_suffix(".intake").or_else(|| text.strip_suffix(".notify")).unwrap_or(&text);
        match QueueName::new(&text) {
            Ok(name) => {
                prop_assert!(sound(base));
                prop_assert_eq!(name.base(), base);
                prop_assert_eq!(name.as_companion().is_some(), base != text);
                let companion = name.companion(Companion::Notify);
                prop_assert_eq!(QueueName::new(companion.as_str()), Ok(companion));
            }
            Err(error) => {
                prop_assert!(!sound(base));
                readable(&error.to_string())?;
            }
        }
        Ok(())
    });
}

/// Text, JSON, and JSON as people lay it out.
fn payload_text() -> impl Strategy<Value = String> {
    prop_oneof![
        text(6),
        json().prop_map(|json| json.to_string()),
        json().prop_map(|json| serde_json::to_string_pretty(&json).unwrap()),
        (text(4), " {0,2}", "[\r\n ]{0,3}").prop_map(|(text, before, behind)| {
            format!("{before}{}{behind}", serde_json::Value::from(text))
        }),
        mutated_text(json().prop_map(|json| json.to_string())),
    ]
}

#[test]
fn a_payload_survives_its_json_form() {
    run(800, payload_text(), |text| {
        let Ok(payload) = Payload::new(&text) else {
            prop_assert!(text.is_empty());
            return Ok(());
        };
        prop_assert_eq!(payload.as_str(), text.as_str());
        let json = payload.to_json();
        prop_assert!(!json.get().contains(['\n', '\r']));
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(json.get()).unwrap(), value);
        } else if serde_json::from_str::<&RawValue>(&text).is_ok() {
            // Such as 1e400: JSON, but no number that a machine has.
            prop_assert_eq!(json.get(), text.trim().replace(['\n', '\r'], " "));
        } else {
            prop_assert_eq!(serde_json::from_str::<String>(json.get()).unwrap(), text.clone());
        }
        // Two payloads may have one JSON form (`"a"` and `a`), so what returns is one that means the same.
        let meaning =
            |json: &RawValue| serde_json::from_str(json.get()).unwrap_or_else(|_| json.to_string().into());
        match Payload::from_json(&json) {
            Ok(Some(again)) => {
                let (again, first): (serde_json::Value, _) = (meaning(&again.to_json()), meaning(&json));
                prop_assert_eq!(again, first);
            }
            Ok(None) => prop_assert_eq!(text.trim(), "null"),
            Err(error) => return Err(TestCaseError::fail(format!("{error} of {text:?}"))),
        }
        Ok(())
    });
}

#[test]
fn json_becomes_the_payload_that_has_it_as_its_form() {
    run(600, json(), |value| {
        let raw = RawValue::from_string(value.to_string()).unwrap();
        match Payload::from_json(&raw).unwrap() {
            Some(payload) => {
                let form: serde_json::Value = serde_json::from_str(payload.to_json().get()).unwrap();
                prop_assert_eq!(form, value);
            }
            None => prop_assert!(value.is_null()),
        }
        Ok(())
    });
}

#[test]
fn payloads_around_the_limit_are_taken_up_to_it() {
    run(
        40,
        (select(&["x", "\"", "\\", "ß"][..]), MAX_PAYLOAD_BYTES - 4..=MAX_PAYLOAD_BYTES + 4),
        |(unit, bytes)| {
            let text = unit.repeat(bytes / unit.len());
            let taken = Payload::new(&text);
            prop_assert_eq!(taken.is_ok(), text.len() <= MAX_PAYLOAD_BYTES);
            match taken {
                Ok(payload) => {
                    let again = Payload::from_json(&payload.to_json()).unwrap();
                    prop_assert_eq!(again, Some(payload));
                }
                Err(error) => readable(&error.to_string())?,
            }
            Ok(())
        },
    );
}

/// The parts of a time, each a little beyond what it can be.
#[derive(Debug, Clone)]
struct Civil {
    date: (i64, u32, u32),
    time: (i64, i64, i64),
    fraction: String,
    offset: Option<(char, i64, i64)>,
}

fn civil() -> impl Strategy<Value = Civil> {
    let date = (prop_oneof![1960..2100i64, 9990..9999i64], 1..=13u32, 1..=32u32);
    let time = (0..=24i64, 0..=60i64, 0..60i64);
    let offset = prop_oneof![
        3 => Just(None),
        2 => (select(&['+', '-'][..]), 0..=14i64, 0..=60i64).prop_map(Some),
    ];
    (date, time, "([0-9]{1,3}|[0-9]{0,12}|0{0,15}1?)", offset)
        .prop_map(|(date, time, fraction, offset)| Civil { date, time, fraction, offset })
}

impl Civil {
    fn spell(&self, separator: char, zulu: char) -> String {
        let ((year, month, day), (hour, minute, second)) = (self.date, self.time);
        let fraction = if self.fraction.is_empty() { String::new() } else { format!(".{}", self.fraction) };
        let zone = match self.offset {
            None => zulu.to_string(),
            Some((sign, hours, minutes)) => format!("{sign}{hours:02}:{minutes:02}"),
        };
        format!("{year:04}-{month:02}-{day:02}{separator}{hour:02}:{minute:02}:{second:02}{fraction}{zone}")
    }

    /// Milliseconds since the epoch, rounded up; none if there is no such time.
    fn ms(&self) -> Option<i64> {
        let ((year, month, day), (hour, minute, second)) = (self.date, self.time);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let lens = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let month = (month as usize).checked_sub(1).filter(|month| *month < 12)?;
        let offset_minutes = match self.offset {
            Some((_, _, 60..)) => return None,
            Some((sign, hours, minutes)) => (hours * 60 + minutes) * if sign == '-' { -1 } else { 1 },
            None => 0,
        };
        if day > lens[month] || hour > 23 || minute > 59 {
            return None;
        }
        let leap_days = |year: i64| year / 4 - year / 100 + year / 400;
        let days = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969)
            + lens[..month].iter().map(|len| i64::from(*len)).sum::<i64>()
            + i64::from(day)
            - 1;
        let seconds = days * 86_400 + (hour * 60 + minute - offset_minutes) * 60 + second;
        let digits = format!("{:0<15}", self.fraction);
        let up = digits[3..].bytes().any(|digit| digit != b'0');
        Some(seconds * 1000 + digits[..3].parse::<i64>().unwrap() + i64::from(up))
    }
}

#[test]
fn a_time_is_the_one_that_the_calendar_says_rounded_up() {
    let spelling = (civil(), select(&['T', 't', ' '][..]), select(&['Z', 'z'][..]));
    run(1000, spelling, |(civil, separator, zulu)| {
        let text = civil.spell(separator, zulu);
        let expected = civil.ms().filter(|ms| (DueAt::MIN_MS..=DueAt::MAX_MS).contains(ms));
        let read: Result<DueAt, Invalid> = text.parse();
        prop_assert_eq!(read.as_ref().ok().map(|at| at.as_ms()), expected, "{} {:?}", text, read);
        match read {
            Ok(at) => prop_assert_eq!(at.to_string().parse(), Ok(at)),
            Err(error) => readable(&error.to_string())?,
        }
        Ok(())
    });
}

#[test]
fn any_text_is_a_deadline_of_the_contract_or_an_error() {
    let written = civil().prop_map(|civil| civil.spell('T', 'Z'));
    run(700, prop_oneof![text(4), "[0-9+.e -]{0,20}", mutated_text(written)], |text| {
        let quoted: Result<DueAt, _> = serde_json::from_value(text.clone().into());
        match text.parse::<DueAt>() {
            Ok(at) => {
                prop_assert!((DueAt::MIN_MS..=DueAt::MAX_MS).contains(&at.as_ms()));
                prop_assert_eq!(at.to_string().parse(), Ok(at));
                prop_assert_eq!(at.as_ms().to_string().parse(), Ok(at));
                prop_assert_eq!(quoted.unwrap(), at);
            }
            Err(error) => {
                prop_assert!(quoted.is_err());
                readable(&error.to_string())?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_number_in_json_is_a_deadline_in_ms_if_it_is_whole_and_in_range() {
    let number = prop_oneof![
        any::<i64>().prop_map(|ms| (ms.to_string(), Some(ms))),
        (DueAt::MIN_MS - 3..=DueAt::MIN_MS + 3).prop_map(|ms| (ms.to_string(), Some(ms))),
        (DueAt::MAX_MS - 3..=DueAt::MAX_MS + 3).prop_map(|ms| (ms.to_string(), Some(ms))),
        (0..DueAt::MAX_MS).prop_map(|ms| (format!("{ms}.0"), Some(ms))),
        (0..DueAt::MAX_MS).prop_map(|ms| (format!("{ms}.5"), None)),
        (1..9i64, 0..400u32).prop_map(|(digit, power)| {
            (format!("{digit}e{power}"), 10i64.checked_pow(power).and_then(|ten| ten.checked_mul(digit)))
        }),
    ];
    run(600, number, |(text, ms)| {
        let expected = ms.filter(|ms| (DueAt::MIN_MS..=DueAt::MAX_MS).contains(ms));
        let read = serde_json::from_str::<DueAt>(&text);
        prop_assert_eq!(read.as_ref().ok().map(|at| at.as_ms()), expected, "{} {:?}", text, read);
        Ok(())
    });
}

#[test]
fn clocks_and_deadlines_at_the_ends_of_their_range_do_not_overflow() {
    run(600, (any::<i64>(), DueAt::MIN_MS..=DueAt::MAX_MS, any::<Duration>()), |(us, ms, delay)| {
        let due_at = DueAt::from_ms(ms).unwrap();
        for now in [ServerTime::from_us(us), ServerTime::from_ms(us)] {
            prop_assert!(now.until(due_at).is_zero() || now.since(due_at).is_zero());
            prop_assert!(!rfc3339_ms(now.as_ms()).is_empty());
        }
        let later = due_at.saturating_add(delay);
        prop_assert!(due_at <= later && later.as_ms() <= DueAt::MAX_MS);
        Ok(())
    });
}

#[test]
fn what_is_printable_is_fit_for_a_terminal_and_leaves_clean_text_alone() {
    run(600, bytes(8), |bytes| {
        let shown = printable(&bytes);
        prop_assert!(!shown.contains(char::is_control));
        prop_assert!(shown.len() <= 8 * bytes.len(), "{} of {}", shown.len(), bytes.len());
        prop_assert_eq!(printable(shown.as_bytes()), shown.clone());
        if let Ok(text) = std::str::from_utf8(&bytes)
            && !text.contains(char::is_control)
        {
            prop_assert_eq!(shown.as_str(), text);
        }
        Ok(())
    });
}

#[test]
fn errors_are_short_whatever_the_value() {
    run(30, (text(40), option::of(1..5000usize)), |(text, times)| {
        let value = text.repeat(times.unwrap_or(1).min(200_000 / text.len().max(1)).max(1));
        readable(&Invalid::new("value", value, "is bad").to_string())
    });
}
