//! Where the layers come from and how they are merged. Each layer is read on its own first, so that an
//! error names the file and line, or the variable, and not just the merged whole.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
};

use config::{Environment, File, FileFormat};

use super::{
    Config, ConfigError, REFERENCE,
    check::{self, Section},
    http,
    origin::{MESSAGE_CHARS, Origins, SourceFile, Variable, readable, without_value},
    raw::RawConfig,
};
use crate::types::shortened;

/// Where a file is looked for when none is named; the first that exists is taken.
const SEARCH_PATHS: [&str; 2] = ["./overdue.toml", "/etc/overdue/overdue.toml"];
const VARIABLE_PREFIX: &str = "OVERDUE_";
/// The queue of the reference: the template of every queue, and the one that is served if none is named.
const TEMPLATE_QUEUE: &str = "orders";

/// What a configuration is made from, beside the reference. It has no `Debug`, since it may hold passwords.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file named with `--config`; it must exist. `None` = look in the usual places.
    pub file: Option<PathBuf>,
    /// Environment variables. Those that are not overdue's are ignored.
    pub env: BTreeMap<String, String>,
    /// The flag `--redis-url`.
    pub redis_url: Option<String>,
    /// The flag `--read-only` of `serve`.
    pub read_only: bool,
}

impl Sources {
    /// The environment of this process, and the values of the two flags.
    #[must_use]
    pub fn from_env(file: Option<PathBuf>, redis_url: Option<String>) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let name = name.into_string().ok().filter(|name| name.starts_with(VARIABLE_PREFIX))?;
            Some((name, value.to_string_lossy().into_owned()))
        };
        Self { file, env: env::vars_os().filter_map(text).collect(), redis_url, read_only: false }
    }
}

impl Config {
    /// Reads, merges and checks all layers.
    ///
    /// # Errors
    /// If a named file is missing, or a layer has a syntax error, an unknown key, a bad value or a
    /// contradiction; the message names the source and the key.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        load(sources, &SEARCH_PATHS)
    }
}

/// [`Config::load`] with the usual places as an argument, so that tests need not change directory.
pub(super) fn load(sources: &Sources, search_paths: &[&str]) -> Result<Config, ConfigError> {
    let origins = Origins {
        file: read_file(sources.file.as_deref(), search_paths)?,
        variables: read_variables(&sources.env)?,
        redis_url_flag: sources.redis_url.is_some(),
    };
    let user = merge_user_layers(&origins, sources.redis_url.as_deref()).map_err(merge_error)?;
    let named: RawConfig = user.clone().try_deserialize().map_err(merge_error)?;
    let queues_configured = !named.queue.is_empty();
    // Checked before the merge, since the names become paths there.
    for name in named.queue.keys() {
        check::queue_name(name, &origins)?;
    }
    let merged = merge_defaults(user, named.queue.keys()).map_err(merge_error)?;
    let mut config = checked(merged, origins, queues_configured)?;
    config.http.read_only |= sources.read_only;
    Ok(config)
}

fn checked(raw: RawConfig, origins: Origins, queues_configured: bool) -> Result<Config, ConfigError> {
    let mut queues = BTreeMap::new();
    for (name, queue) in raw.queue {
        let checked = check::queue(queue, &Section::new(&origins, ["queue", name.as_str()]))?;
        queues.insert(check::queue_name(&name, &origins)?, checked);
    }
    Ok(Config {
        redis: super::redis::redis(raw.redis, &Section::new(&origins, ["redis"]))?,
        http: http::http(raw.http, &Section::new(&origins, ["http"]))?,
        log: check::log(raw.log, &Section::new(&origins, ["log"]))?,
        serve: check::serve(raw.serve, &Section::new(&origins, ["serve"]))?,
        queues,
        file: origins.file.map(|file| file.path),
        queues_configured,
    })
}

fn read_file(named: Option<&Path>, search_paths: &[&str]) -> Result<Option<SourceFile>, ConfigError> {
    let searched = search_paths.iter().map(Path::new);
    let paths: Vec<&Path> = named.map_or_else(|| searched.collect(), |path| vec![path]);
    for path in paths {
        match fs::read_to_string(path) {
            Ok(text) => {
                let file = SourceFile { path: path.to_owned(), text };
                toml::from_str::<RawConfig>(&file.text).map_err(|error| file.error(&error))?;
                return Ok(Some(file));
            }
            Err(cause) if named.is_none() && cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(ConfigError::Read { path: path.to_owned(), cause }),
        }
    }
    Ok(None)
}

/// What follows the prefix in the name of a variable that counts: every key lives in a section, so it has a
/// `__`. Without this rule OVERDUE_SERVICE_HOST and OVERDUE_PORT_7700_TCP, which Kubernetes sets beside a service
/// named overdue, would be unknown keys.
fn setting(name: &str) -> Option<&str> {
    name.strip_prefix(VARIABLE_PREFIX).filter(|rest| rest.contains("__"))
}

/// True for the name of an environment variable that is read as a part of the configuration.
pub(crate) fn is_setting(name: &str) -> bool {
    setting(name).is_some()
}

fn read_variables(env: &BTreeMap<String, String>) -> Result<Vec<Variable>, ConfigError> {
    let mut variables = Vec::new();
    for (name, value) in env {
        let Some(rest) = setting(name) else { continue };
        let key = rest.to_lowercase().split("__").map(str::to_owned).collect();
        let variable = Variable { name: name.clone(), value: value.clone(), key };
        let alone = config::Config::builder().add_source(environment(&variable)).build();
        alone
            .and_then(config::Config::try_deserialize::<RawConfig>)
            .map_err(|error| variable.error(&error.to_string()))?;
        variables.push(variable);
    }
    Ok(variables)
}

/// One variable as a layer. Values stay text until a key asks for a number: guessing would turn a password
/// `007` into 7.
fn environment(variable: &Variable) -> Environment {
    let only = [(variable.name.clone(), variable.value.clone())].into_iter().collect();
    Environment::with_prefix("OVERDUE").prefix_separator("_").separator("__").source(Some(only))
}

fn merge_user_layers(
    origins: &Origins,
    redis_url: Option<&str>,
) -> Result<config::Config, config::ConfigError> {
    let mut layers = config::Config::builder().set_override_option("redis.url", redis_url)?;
    if let Some(file) = &origins.file {
        layers = layers.add_source(File::from_str(&file.text, FileFormat::Toml));
    }
    for variable in &origins.variables {
        layers = layers.add_source(environment(variable));
    }
    layers.build()
}

/// Puts the reference below the user's layers, with its queue in as many copies as queues are served.
fn merge_defaults<'a>(
    user: config::Config,
    named: impl ExactSizeIterator<Item = &'a String>,
) -> Result<RawConfig, config::ConfigError> {
    let mut defaults: toml::Table = REFERENCE.parse().expect("the reference is TOML");
    let template = defaults["queue"][TEMPLATE_QUEUE].clone();
    if named.len() > 0 {
        let queues: toml::Table = named.map(|name| (name.clone(), template.clone())).collect();
        defaults.insert("queue".to_owned(), queues.into());
    }
    config::Config::builder()
        .add_source(File::from_str(&defaults.to_string(), FileFormat::Toml))
        .add_source(user)
        .build()?
        .try_deserialize()
}

fn merge_error(error: config::ConfigError) -> ConfigError {
    ConfigError::Merge(shortened(&without_value(&readable(&error.to_string())), MESSAGE_CHARS))
}
