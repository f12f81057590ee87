//! Which layer set a key, so that a message can send the reader to the right place.

use std::path::PathBuf;

use toml::de::DeTable;

use super::{error::ConfigError, redis_url::hide_password};
use crate::types::shortened;

/// A line with one of these may hold a secret, and is not shown.
const SECRET_WORDS: [&str; 7] = ["@", "pass", "secret", "whsec_", "headers", "url", "token"];
/// Of the other lines only those of these keys are shown: one that is mistyped may have been meant for a secret.
const SHOWN_KEYS: [&str; 39] = [
    "allow_eviction",
    "backoff",
    "batch_size",
    "ca_file",
    "cert_file",
    "circuit_breaker",
    "client_ca_file",
    "concurrency",
    "connect_timeout",
    "data_dir",
    "dead_exit_codes",
    "dead_retention",
    "drain_timeout",
    "factor",
    "failures",
    "format",
    "idle_timeout",
    "initial",
    "insecure",
    "intake_limit",
    "jitter",
    "lease",
    "level",
    "listen",
    "max",
    "max_attempts",
    "max_connections",
    "max_crashes",
    "max_events",
    "max_handler_time",
    "max_len",
    "pause",
    "poll_interval",
    "port",
    "rate_limit",
    "read_only",
    "retain",
    "shards",
    "timeout",
];
/// Sections whose keys are names that the user has made up.
const SECRET_SECTIONS: [&str; 2] = ["headers", "tokens"];
/// The longest line that is shown, and the longest message, in characters.
const SHOWN_LINE_CHARS: usize = 160;
pub(super) const MESSAGE_CHARS: usize = 600;

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
            key: shortened(&key.join("."), MESSAGE_CHARS),
            why: shortened(why, MESSAGE_CHARS),
        }
    }

    /// Where a key (or one below it) was set last; `None` = nowhere, it has its default.
    fn of(&self, key: &[&str]) -> Option<String> {
        if self.redis_url_flag && key == ["redis", "url"] {
            return Some("--redis-url".to_owned());
        }
        if let Some(variable) = self.variables.iter().rfind(|variable| variable.sets(key)) {
            return Some(format!("environment variable {}", variable.shown_name()));
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
        let is_known = self.key.last().is_some_and(|key| SHOWN_KEYS.contains(&key.as_str()));
        let is_secret = self.key.iter().any(|key| SECRET_SECTIONS.contains(&key.as_str()));
        let message = if is_secret || !is_known { without_value(&message) } else { message };
        let why = match message.rsplit_once(" for key ") {
            Some((why, key)) => format!("{key}: {why}"),
            None => message,
        };
        ConfigError::Variable { variable: self.shown_name(), why: shortened(&why, MESSAGE_CHARS) }
    }

    /// Its name, which may hold anything but `=`.
    fn shown_name(&self) -> String {
        shortened(&self.name, MESSAGE_CHARS)
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

    /// True for a place whose line can be shown: it is about one key that holds no secret, and fit for a terminal.
    fn may_be_shown(&self, offset: usize) -> bool {
        let line_start =
            self.text.get(..offset).unwrap_or(&self.text).rfind('\n').map_or(0, |newline| newline + 1);
        let (before, rest) = self.text.split_at(line_start);
        let line = rest.lines().next().unwrap_or_default();
        let is_clean =
            line.chars().count() <= SHOWN_LINE_CHARS && !line.contains(|c: char| c.is_control() && c != '\t');
        let mut headings = before.lines().filter(|line| line.trim_start().starts_with('['));
        let in_secret = headings.any(|heading| SECRET_SECTIONS.iter().any(|word| heading.contains(word)));
        // Where there is more than one, a line break was forgotten.
        let key = line.split_once('=').filter(|(_, value)| !value.contains('='));
        let key = key.and_then(|(key, _)| key.rsplit('.').next());
        let is_known = key.is_some_and(|key| SHOWN_KEYS.contains(&key.trim()));
        let is_heading =
            line.starts_with('[') && line.chars().all(|c| c.is_ascii_alphanumeric() || "_-.[]\"".contains(c));
        is_clean
            && (is_known || is_heading)
            && !in_secret
            && !SECRET_WORDS.iter().any(|word| line.contains(word))
            // Else it is a part of a value that began on a line before.
            && DeTable::parse(before).is_ok()
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
        let why = readable(error.message());
        let (why, snippet) = match error.span() {
            Some(span) if self.may_be_shown(span.start) => {
                // The parser prints a heading, three lines that show the place, and its message.
                let rendered = error.to_string();
                let place: Vec<&str> = rendered.lines().skip(1).take(3).collect();
                (why, format!("\n{}", place.join("\n")))
            }
            _ => (without_value(&why), String::new()),
        };
        ConfigError::File {
            path: self.path.clone(),
            line,
            column,
            why: shortened(&why, MESSAGE_CHARS),
            snippet,
        }
    }
}

/// What serde says of a value of the wrong type, without the value, which it quotes.
pub(super) fn without_value(message: &str) -> String {
    for wrong in ["invalid type", "invalid value"] {
        let Some((before, rest)) = message.split_once(&format!("{wrong}: ")) else { continue };
        let kind = rest.split(['`', '"', ',']).next().unwrap_or_default().trim_end();
        // The value may have this word in it, too: what is expected comes last.
        let expected = rest.rsplit_once(", expected").map_or("", |(_, expected)| expected);
        return format!("{before}{wrong}: {kind}, expected{expected}");
    }
    message.to_owned()
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
