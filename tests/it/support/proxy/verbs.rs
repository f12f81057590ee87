//! What a request is called: the verb of a script, else the command.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use super::resp::words;
use crate::support::scripts::{verbs, whole};

/// The verbs of the repository, by the digest that Redis knows their scripts under.
static KNOWN: LazyLock<Known> = LazyLock::new(Known::read);

struct Known {
    names: Vec<String>,
    by_sha: HashMap<String, String>,
}

impl Known {
    fn read() -> Self {
        let names = verbs();
        let by_sha = names.iter().map(|name| (sha(&whole(name)), name.clone())).collect();
        Self { names, by_sha }
    }
}

/// Names requests. The scripts of the repository are known, whoever loads them.
#[derive(Debug, Default)]
pub(super) struct Verbs {
    /// Scripts that tests have planted: learned when they pass by.
    learned: Mutex<HashMap<String, String>>,
}

impl Verbs {
    /// The name of a request, in lower case.
    pub(super) fn name(&self, request: &[u8]) -> String {
        let words = words(request, 3);
        let word = |at: usize| words.get(at).map(|word| String::from_utf8_lossy(word).to_lowercase());
        let command = word(0).unwrap_or_default();
        match (command.as_str(), word(1)) {
            ("evalsha", Some(sha)) => {
                let known = KNOWN.by_sha.get(&sha).cloned();
                known.or_else(|| self.learned().get(&sha).cloned()).unwrap_or(command)
            }
            ("script", Some(load)) if load == "load" => {
                self.learn(words.get(2).copied().unwrap_or_default());
                command
            }
            _ => command,
        }
    }

    /// A script that is planted is a whole one: the header of the verb is the last.
    fn learn(&self, source: &[u8]) {
        let Ok(source) = std::str::from_utf8(source) else { return };
        let header = |line: &str| {
            let (name, _) = line.strip_prefix("-- ")?.split_once(": ")?;
            KNOWN.names.iter().find(|known| *known == name).cloned()
        };
        if let Some(name) = source.lines().rev().find_map(header) {
            self.learned().insert(sha(source), name);
        }
    }

    fn learned(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sha(source: &str) -> String {
    sha1_smol::Sha1::from(source).digest().to_string()
}
