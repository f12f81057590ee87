//! What a request is called: the verb of a script, else the command.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use super::resp::words;

/// The verbs of the repository, by the digest that Redis knows their scripts under.
static KNOWN: LazyLock<Known> = LazyLock::new(Known::read);

struct Known {
    names: Vec<String>,
    by_sha: HashMap<String, String>,
}

impl Known {
    fn read() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lua");
        let text = |name: &str| fs::read_to_string(dir.join(format!("{name}.lua"))).expect("a script");
        let files = fs::read_dir(&dir).expect("the scripts").map(|file| file.expect("a file").path());
        let names = files.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned());
        let names: Vec<String> = names.collect();
        let (lib, order_lib) = (text("lib"), text("order_lib"));
        let mut by_sha = HashMap::new();
        for name in &names {
            // With what is prepended to verbs of queues, of orders and of locks.
            for libs in [&lib, &format!("{lib}{order_lib}"), ""] {
                by_sha.insert(sha(&format!("{libs}{}", text(name))), name.clone());
            }
        }
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
