//! Lua scripts and calls of them.

use std::borrow::Cow;

use redis::Cmd;

/// A Lua script with the name it goes by and the digest that Redis knows it under.
#[derive(Debug)]
pub struct Script {
    name: &'static str,
    source: String,
    sha: String,
}

impl Script {
    /// Takes the source as it will be loaded.
    #[must_use]
    pub fn new(name: &'static str, source: String) -> Self {
        let sha = sha1_smol::Sha1::from(&source).digest().to_string();
        Self { name, source, sha }
    }

    /// Scripts that come by SCRIPT LOAD are not evicted; from Redis 7.4 those that come by EVAL are.
    pub(super) fn load_command(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(&self.source);
        command
    }
}

/// One call of a script: its keys and arguments, written down as they will be sent.
#[derive(Debug)]
pub struct Call<'a> {
    pub(super) script: &'a Script,
    command: Cmd,
}

impl<'a> Call<'a> {
    /// A call without arguments yet.
    #[must_use]
    pub fn new(script: &'a Script, keys: &[String]) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.sha).arg(keys.len()).arg(keys);
        Self { script, command }
    }

    /// The name of the script.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.script.name
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl redis::ToRedisArgs) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds all arguments that an iterator gives.
    #[must_use]
    pub fn args<A: redis::ToRedisArgs>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// The call, of its own script or of one that takes its place.
    pub(super) fn command(&self, script: &Script) -> Cow<'_, Cmd> {
        if script.sha == self.script.sha {
            return Cow::Borrowed(&self.command);
        }
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.sha);
        for argument in self.command.args_iter().skip(2) {
            if let redis::Arg::Simple(argument) = argument {
                command.arg(argument);
            }
        }
        Cow::Owned(command)
    }
}
/// Scripts that take the place of others of the same name: bugs that tests plant. Always none but with the
/// feature `faults`.
#[derive(Debug, Default, Clone)]
pub(super) struct Planted {
    #[cfg(feature = "faults")]
    scripts: std::collections::HashMap<String, std::sync::Arc<Script>>,
}

impl Planted {
    /// The script to run in place of this one, if any; else this one.
    pub(super) fn in_place_of<'a>(&'a self, script: &'a Script) -> &'a Script {
        #[cfg(feature = "faults")]
        if let Some(planted) = self.scripts.get(script.name) {
            return planted;
        }
        script
    }

    /// What the environment plants.
    #[cfg(not(feature = "faults"))]
    pub(super) fn from_env() -> Self {
        Self {}
    }

    /// What the environment plants.
    #[cfg(feature = "faults")]
    pub(super) fn from_env() -> Self {
        crate::fault::scripts_dir().map_or_else(Self::default, |dir| Self::from_dir(&dir))
    }

    /// A script for each Lua file of a directory.
    #[cfg(feature = "faults")]
    pub(super) fn from_dir(dir: &std::path::Path) -> Self {
        let files = std::fs::read_dir(dir).expect("the directory of planted scripts");
        let scripts = files.map(|file| {
            let path = file.expect("a readable directory").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let source = std::fs::read_to_string(&path).expect("a readable script");
            (name, std::sync::Arc::new(Script::new("planted", source)))
        });
        Self { scripts: scripts.collect() }
    }
}
