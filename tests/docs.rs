//! Rules for the pages: a link leads somewhere, and the table of the scripts names each script.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages for people: those at the root and those in `docs`.
fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [root().to_owned(), root().join("docs")] {
        for entry in fs::read_dir(folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// The lines of a page that are not code.
fn prose(page: &Path) -> String {
    let text = fs::read_to_string(page).expect("a page");
    let mut is_code = false;
    let mut lines = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    lines
}

/// The anchor that a heading gets where the pages are shown: small letters, spaces as hyphens, and no punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(page: &Path) -> BTreeSet<String> {
    let text = prose(page);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// The targets of `[text](target)`.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

#[test]
fn every_link_between_files_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = prose(&page);
        for target in targets(&text).filter(|target| !target.contains("://")) {
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let folder = page.parent().expect("a folder");
            let file = if file.is_empty() { page.clone() } else { folder.join(file) };
            let is_there = file.exists() && (fragment.is_empty() || anchors(&file).contains(fragment));
            if !is_there {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

/// An operator copies it from either page, and the tests run with the one of the second.
#[test]
fn the_rights_of_the_user_are_the_same_on_both_pages() {
    let rights = |page: &str| {
        let text = fs::read_to_string(root().join(page)).expect("a page");
        let line = text.lines().find(|line| line.starts_with("ACL SETUSER")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{page} has no ACL line"))
    };
    assert_eq!(rights("README.md"), rights("docs/servers.md"));
}

#[test]
fn the_contract_has_a_row_for_each_script_and_no_other() {
    let page = prose(&root().join("docs/contract.md"));
    let rows = page.lines().filter_map(|line| line.strip_prefix("| [`")?.split_once("`](../scripts/lua/"));
    let listed: BTreeSet<String> = rows.map(|(name, _)| name.to_owned()).collect();
    let folder = fs::read_dir(root().join("scripts/lua")).expect("the scripts");
    let there: BTreeSet<String> = folder
        .map(|entry| entry.expect("an entry").path())
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(listed, there);
}
