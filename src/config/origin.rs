//! Which layer set a key, so that a message can send the reader to the right place.

use std::path::PathBuf;

use toml::de::DeTable;

use super::{error::ConfigError, redis_url::hide_password};

/// A line with one of these may hold a secret, and is not shown.
const SECRET_WORDS: [&str; 7] = ["@", "pass", "secret", "whsec_", "headers", "url", "token"];

/// The layers that the user wrote, least important first.
pub(super) struct Origins {
    /// The configuration file, if there is one.
    pub(super) file: Option<SourceFile>,
    /// The environment variables that count.
    pub(super) variables: Vec<Variable>,
    /// True if the flag `--redis-url` was given.
    pub(super) redis_url_flag: bool,
}

/// A configuration file that was read.
pub(super) struct SourceFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// An environment variable, and the key that it sets.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) key: Vec<String>,
}

impl Origins {
    /// An error about `key`, whose value stands in one of the layers or, with `others` that are at odds with
    /// it, was left at its default while one of them was set.
    pub(super) fn error(&self, key: &[&str], others: &[&[&str]], why: &str) -> ConfigError {
        let origin = std::iter::once(key).chain(others.iter().copied()).find_map(|key| self.of(key));
        ConfigError::Value {
            origin: origin.unwrap_or_else(|| "the defaults".to_owned()),
            key: key.join("."),
            why: why.to_owned(),
        }
    }

    /// Where a key (or one below it) was set last; `None` = nowhere, it has its default.
    fn of(&self, key: &[&str]) -> Option<String> {
        if self.redis_url_flag && key == ["redis", "url"] {
            return Some("--redis-url".to_owned());
        }
        if let Some(variable) = self.variables.iter().rfind(|variable| variable.sets(key)) {
            return Some(format!("environment variable {}", variable.name));
        }
        let file = self.file.as_ref()?;
        Some(format!("{}:{}", file.path.display(), file.line_of(key)?))
    }
}

impl Variable {
    fn sets(&self, key: &[&str]) -> bool {
        self.key.len() >= key.len() && self.key.iter().zip(key).all(|(mine, other)| mine == other)
    }

    /// An error of the layer that is this variable alone. The config crate ends its messages with the key and
    /// the source; here the key comes first, as it does in all others.
    pub(super) fn error(&self, message: &str) -> ConfigError {
        let message = readable(message.trim_end_matches(" in the environment"));
        let is_secret = self.key.get(1).is_some_and(|key| key == "tokens");
        let message = if is_secret { without_value(&message) } else { message };
        let why = match message.rsplit_once(" for key ") {
            Some((why, key)) => format!("{key}: {why}"),
            None => message,
        };
        ConfigError::Variable { variable: self.name.clone(), why }
    }
}

impl SourceFile {
    /// The line, from 1, on which a key stands.
    fn line_of(&self, key: &[&str]) -> Option<usize> {
        let document = DeTable::parse(&self.text).ok()?;
        let mut table = document.get_ref();
        let (last, parents) = key.split_last()?;
        for parent in parents {
            table = table.get(*parent)?.get_ref().as_table()?;
        }
        let (name, _) = table.get_key_value(*last)?;
        Some(self.position(name.span().start).0)
    }

    /// The heading of the section that a byte of the text is in, which need not be TOML.
    fn section_at(&self, offset: usize) -> &str {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        before.lines().rfind(|line| line.trim_start().starts_with('[')).unwrap_or_default()
    }

    /// Line and column, both from 1, of a byte of the text.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// An error of the TOML parser, with this file's name and the line that it is about.
    pub(super) fn error(&self, error: &toml::de::Error) -> ConfigError {
        let (line, column) = self.position(error.span().map_or(0, |span| span.start));
        // The parser prints a heading, three lines that show the place, and its message.
        let rendered = error.to_string();
        let place: Vec<&str> = rendered.lines().skip(1).take(3).collect();
        let secret = SECRET_WORDS.iter().any(|word| place.concat().contains(word))
            || ["headers", "tokens"]
                .iter()
                .any(|word| self.section_at(error.span().map_or(0, |span| span.start)).contains(word));
        let shown = error.span().is_some() && !secret;
        let snippet = if shown { format!("\n{}", place.join("\n")) } else { String::new() };
        let why = readable(error.message());
        let why = if secret { without_value(&why) } else { why };
        ConfigError::File { path: self.path.clone(), line, column, why, snippet }
    }
}

/// What serde says of a value of the wrong type, without the value, which it quotes.
fn without_value(message: &str) -> String {
    let Some((before, rest)) = message.split_once("invalid type: ") else { return message.to_owned() };
    match rest.split_once(", expected") {
        Some((_, expected)) => format!("{before}invalid type, expected{expected}"),
        None => format!("{before}invalid type"),
    }
}

/// What serde says of a layer, in words of the file, and without the password of a url that got into it.
pub(super) fn readable(message: &str) -> String {
    let mut message = message.to_owned();
    for (jargon, word) in [
        ("unknown field", "unknown key"),
        (" as i128", ""),
        ("expected i64", "expected a whole number"),
        ("expected an integer", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected a floating point", "expected a number"),
    ] {
        message = message.replace(jargon, word);
    }
    if message.contains("://") { hide_password(&message) } else { message }
}
