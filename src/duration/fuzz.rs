//! Durations: what is read is what was written, to the millisecond, and what is not a duration is said to be none.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::fuzz::{mutated_text, readable, run, text};

/// Picoseconds in a unit.
const UNITS: [(&str, u128); 5] = [
    ("d", 86_400_000_000_000_000),
    ("h", 3_600_000_000_000_000),
    ("m", 60_000_000_000_000),
    ("s", 1_000_000_000_000),
    ("ms", 1_000_000_000),
];
const PS_PER_MS: u128 = 1_000_000_000;

/// What people write: numbers with units, sometimes with a point, spaces between.
fn written() -> impl Strategy<Value = Vec<(u64, String, usize, &'static str)>> {
    let whole = prop_oneof![0..100u64, 0..1_000_000u64];
    let part = (whole, "(\\.[0-9]{1,9})?", 0..UNITS.len(), select(&["", " ", "  "][..]));
    vec(part, 1..5)
}

fn spell(parts: &[(u64, String, usize, &str)]) -> String {
    parts
        .iter()
        .map(|(whole, fraction, unit, gap)| format!("{whole}{fraction}{}{gap}", UNITS[*unit].0))
        .collect()
}

#[test]
fn what_is_written_is_what_is_read_and_never_less() {
    run(500, written(), |parts| {
        let exact_ps: u128 = parts
            .iter()
            .map(|(whole, fraction, unit, _)| {
                let digits = fraction.trim_start_matches('.');
                let billionths: u128 = format!("{digits:0<9}").parse().unwrap();
                let unit_ps = UNITS[*unit].1;
                u128::from(*whole) * unit_ps + billionths * unit_ps / 1_000_000_000
            })
            .sum();
        let exact_ms = exact_ps.div_ceil(PS_PER_MS);
        match parse(&spell(&parts)) {
            Ok(duration) => prop_assert_eq!(duration.as_millis(), exact_ms),
            Err(_) => prop_assert!(exact_ms > MAX.as_millis()),
        }
        Ok(())
    });
}

#[test]
fn any_text_is_a_duration_or_an_error_that_shows_it() {
    run(
        1000,
        prop_oneof![text(6), "[0-9.dhms ]{0,12}", mutated_text(written().prop_map(|parts| spell(&parts)))],
        |text| {
            match parse(&text) {
                Ok(duration) => {
                    prop_assert!(duration <= MAX);
                    prop_assert_eq!(duration.subsec_nanos() % 1_000_000, 0);
                    prop_assert!(text.bytes().any(|byte| byte.is_ascii_digit()));
                    prop_assert!(text.trim_end().ends_with(['d', 'h', 'm', 's']));
                }
                Err(error) => readable(&error.to_string())?,
            }
            Ok(())
        },
    );
}

#[test]
fn format_is_the_inverse_of_parse_for_every_duration() {
    run(500, prop_oneof![0..=MAX.as_millis() as u64, 0..100_000u64], |ms| {
        let duration = Duration::from_millis(ms);
        prop_assert_eq!(parse(&format(duration)), Ok(duration));
        Ok(())
    });
    run(200, any::<Duration>(), |duration| {
        prop_assert!(format(duration).len() < 40);
        Ok(())
    });
}
