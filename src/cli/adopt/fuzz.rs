//! Patterns of keys, and the ids that they make of them.

use proptest::prelude::*;

use super::*;
use crate::fuzz::{mutated_text, readable, run, text};

/// The glob that matches exactly this text.
fn literally(text: &str) -> String {
    text.chars().flat_map(|c| ['\\', c].into_iter().skip(usize::from(!"*?[]\\".contains(c)))).collect()
}

#[test]
fn the_id_is_what_the_star_stands_for() {
    run(400, (text(2), text(2), text(2)), |(before, id, behind)| {
        let glob = format!("{}*{}", literally(&before), literally(&behind));
        let pattern =
            Pattern::new(&glob, IdFrom::Match).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let found = pattern.id_of(&format!("{before}{id}{behind}"));
        prop_assert_eq!(found, crate::Id::new(&id).ok());
        Ok(())
    });
}

#[test]
fn any_pattern_makes_ids_that_lead_back_to_the_key_or_is_refused() {
    run(400, (prop_oneof![text(4), mutated_text("[a-z]{1,4}:\\*(:[a-z]{1,2})?")], text(4)), |(glob, key)| {
        for id_from in [IdFrom::Match, IdFrom::Key] {
            match Pattern::new(&glob, id_from) {
                Ok(pattern) => {
                    let id = pattern.id_of(&key);
                    prop_assert!(id.is_none_or(|id| key.contains(id.as_str())));
                }
                Err(error) => readable(&error.to_string())?,
            }
        }
        Ok(())
    });
}

#[test]
fn a_rename_is_two_names() {
    run(300, text(4), |argument| {
        match rename(&argument) {
            Ok((from, to)) => prop_assert_eq!(format!("{from}={to}"), argument),
            Err(error) => readable(&error)?,
        }
        Ok(())
    });
}
