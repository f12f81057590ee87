//! The scripts as Redis gets them: each verb behind what its kind shares.

use std::{fs, path::PathBuf};

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lua"))
}

/// The names of all verbs.
pub(crate) fn verbs() -> Vec<String> {
    let files = fs::read_dir(folder()).expect("the scripts").map(|file| file.expect("a file").path());
    let names = files.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned());
    names.filter(|name| !name.ends_with("lib")).collect()
}

/// What stands in front of a verb.
fn libs_of(verb: &str) -> &'static [&'static str] {
    match verb.split('_').next() {
        Some("order") => &["lib", "order_lib"],
        Some("fire") => &["lib", "fire_lib"],
        Some("lock") => &[],
        _ => &["lib"],
    }
}

/// The whole script of a verb.
pub(crate) fn whole(verb: &str) -> String {
    whole_with(verb, |_, text| text)
}

/// The same with a change to its parts, which gets their names and texts.
pub(crate) fn whole_with(verb: &str, change: impl Fn(&str, String) -> String) -> String {
    let part = |name: &str| {
        let text = fs::read_to_string(folder().join(name).with_extension("lua")).expect("a script");
        change(name, text)
    };
    libs_of(verb).iter().copied().chain([verb]).map(part).collect()
}
