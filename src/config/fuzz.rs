//! The configuration: what is set is what holds, wherever it is set; what is wrong is named; and no text of a file or
//! of a variable, however broken, makes a panic, a message that a terminal obeys, or one that shows a secret.

mod secrets;
mod settings;

use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::fuzz::{bytes, run, text};

/// A file that is written anew for each case.
struct Place {
    _directory: TempDir,
    file: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        Self { file: directory.path().join("overdue.toml"), _directory: directory }
    }

    /// Loads a file and variables, and nothing from the machine that the tests run on.
    fn load(&self, file: &[u8], env: &[(String, String)]) -> Result<Config, ConfigError> {
        std::fs::write(&self.file, file).unwrap();
        let sources = Sources {
            file: Some(self.file.clone()),
            env: env.iter().cloned().collect(),
            ..Sources::default()
        };
        load::load(&sources, &[])
    }

    /// Holds what every error promises: it names where it is from, is short, and shows no secret.
    fn check(&self, error: &ConfigError) -> Result<(), TestCaseError> {
        let message = error.to_string();
        let (first, _) = message.split_once('\n').unwrap_or((&message, ""));
        let file = self.file.display().to_string();
        let source = [
            file.as_str(),
            "environment variable OVERDUE_",
            "--redis-url: ",
            "the defaults: ",
            "cannot read",
        ];
        prop_assert!(source.iter().any(|source| first.starts_with(source)), "no source in {message}");
        prop_assert!(!message.replace(['\n', '\t'], "").contains(char::is_control), "{message:?}");
        prop_assert!(message.chars().count() < 1200, "too long: {message}");
        prop_assert!(!format!("{message} {error:?}").contains(SECRET), "{message}");
        Ok(())
    }
}

/// What stands in every secret of these tests, and nowhere else.
const SECRET: &str = "geheim";

/// What holds of every configuration that is accepted, whatever it was made from.
fn check(config: &Config) -> Result<(), TestCaseError> {
    prop_assert!(!config.queues.is_empty());
    prop_assert!(config.redis.url.is_none() || config.redis.port.is_none());
    let bad_prefix = config.redis.prefix.is_empty() || config.redis.prefix.contains(['{', '}', ' ']);
    prop_assert!(!bad_prefix, "{config:?}");
    for (name, queue) in &config.queues {
        prop_assert!(name.as_companion().is_none());
        prop_assert!((1..=1000).contains(&queue.batch_size) && (1..=10_000).contains(&queue.concurrency));
        prop_assert!(queue.lease >= 3 * queue.poll_interval && queue.lease <= Duration::from_secs(86_400));
        prop_assert!(!queue.poll_interval.is_zero() && queue.max_attempts > 0 && queue.max_crashes > 0);
        prop_assert!(queue.backoff.initial <= queue.backoff.max && queue.backoff.factor >= 1.0);
        prop_assert!((0.0..=1.0).contains(&queue.backoff.jitter) && !queue.max_handler_time.is_zero());
        prop_assert!(queue.order.retain.is_none_or(|retain| retain >= 10 * queue.lease));
        for failures in [0, 1, 7, u32::MAX] {
            prop_assert!(queue.backoff.delay(failures, 0.5) <= queue.backoff.max);
        }
    }
    let shown = format!("{config:?} {} {}", config.to_toml(), serde_json::to_string(config).unwrap());
    prop_assert!(!shown.contains(SECRET), "{shown}");
    Ok(())
}

#[test]
fn any_file_is_a_configuration_or_an_error_that_names_it() {
    let place = Place::new();
    let lines = proptest::collection::vec(
        prop_oneof!["\\[[a-z.\"]{0,12}\\]?", "[a-z.]{1,9} ?= ?[a-z0-9'\"\\[{}.]{0,9}", text(3)],
        0..6,
    );
    run(
        150,
        prop_oneof![bytes(12), lines.prop_map(|lines| lines.join("\n").into_bytes())],
        |file| match place.load(&file, &[]) {
            Ok(config) => check(&config),
            Err(error) => place.check(&error),
        },
    );
}

#[test]
fn any_variable_is_a_setting_or_is_ignored_or_is_named() {
    let place = Place::new();
    let key = "(REDIS|HTTP|LOG|QUEUE|redis|Q)?(__|_)(URL|TOKENS|ORDERS|eu|é|)((__|_|\\.)[A-Za-z0-9\\[\\]-]{0,9}){0,3}";
    let name = prop_oneof![key.prop_map(|key: String| format!("OVERDUE_{key}")), text(3)];
    run(150, (name, text(3)), |(name, value)| {
        prop_assume!(!name.contains('\0'));
        match place.load(b"", &[(name.clone(), value)]) {
            Ok(config) => check(&config),
            Err(error) => {
                prop_assert!(error.to_string().starts_with("environment variable OVERDUE_"), "{error}");
                place.check(&error)
            }
        }
    });
}
