//! Which keys are meant, and the id that each gets.

use clap::ValueEnum;

use crate::{error::Invalid, types::Id};

/// Where the id of a key's deadline comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum IdFrom {
    /// The whole key is the id: order:42
    Key,
    /// What the * of the pattern stands for: 42 of order:42, if the pattern is order:*
    Match,
}

/// A glob as Redis understands it, and how to make ids of what it matches.
#[derive(Debug)]
pub(super) struct Pattern<'a> {
    pub(super) glob: &'a str,
    /// What stands before and behind the part that is the id.
    around: (String, String),
}

impl<'a> Pattern<'a> {
    pub(super) fn new(glob: &'a str, id_from: IdFrom) -> Result<Self, Invalid> {
        let around = match id_from {
            IdFrom::Key => (String::new(), String::new()),
            IdFrom::Match => around_star(glob).ok_or_else(|| {
                let why = "needs exactly one * and neither ? nor [ where the id is what * stands for; \
                           or pass --id-from key";
                Invalid::new("pattern", glob, why)
            })?,
        };
        Ok(Self { glob, around })
    }

    /// None if that cannot be an id.
    pub(super) fn id_of(&self, key: &str) -> Option<Id> {
        let (before, behind) = &self.around;
        Id::new(key.strip_prefix(before.as_str())?.strip_suffix(behind.as_str())?).ok()
    }
}

/// The text before and behind the only `*`, without the backslashes of what is meant literally.
fn around_star(glob: &str) -> Option<(String, String)> {
    let mut parts = vec![String::new()];
    let mut characters = glob.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' => parts.push(String::new()),
            '?' | '[' => return None,
            // Redis takes a backslash at the very end literally.
            '\\' => parts.last_mut()?.push(characters.next().unwrap_or('\\')),
            _ => parts.last_mut()?.push(character),
        }
    }
    let behind = parts.pop()?;
    let before = parts.pop()?;
    parts.is_empty().then_some((before, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(glob: &str, key: &str) -> Option<String> {
        let pattern = Pattern::new(glob, IdFrom::Match).expect("a pattern with one star");
        pattern.id_of(key).map(|id| id.as_str().to_owned())
    }

    #[test]
    fn the_id_is_what_the_star_stands_for() {
        assert_eq!(id_of("order:*", "order:42").as_deref(), Some("42"));
        assert_eq!(id_of("shop:*:hold", "shop:a:b:hold").as_deref(), Some("a:b"));
        assert_eq!(id_of(r"a\*:*", "a*:42").as_deref(), Some("42"));
        assert_eq!(id_of(r"order:*\", r"order:42\").as_deref(), Some("42"));
        assert_eq!(id_of("order:*", "order:"), None, "an id is not empty");
        assert_eq!(id_of("aa*aa", "aaa"), None, "before and behind do not overlap");
    }

    #[test]
    fn other_patterns_take_the_whole_key() {
        for glob in ["order:42", "*:*", "order:?", "order:[0-9]*", ""] {
            assert!(Pattern::new(glob, IdFrom::Match).is_err(), "{glob}");
            let id = Pattern::new(glob, IdFrom::Key).unwrap().id_of("order:42");
            assert_eq!(id.unwrap().as_str(), "order:42", "{glob}");
        }
    }
}
