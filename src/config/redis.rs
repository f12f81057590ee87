//! Section `[redis]`: where the queues are, and how to log in.

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Serialize, Serializer};

use super::{
    Config, ConfigError, RedisUrl,
    check::{Section, set},
    duration_as_text, path_as_text,
    raw::{RawList, RawRedis, RawRedisTls},
};

type Result<T> = std::result::Result<T, ConfigError>;

/// More than any group has; each is asked, and has a connection.
const MAX_SERVERS: usize = 64;

/// Where Redis is and how long to wait for it. Of `url`, `sentinels` and `cluster` at most one is set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RedisConfig {
    /// The one server; without it, sentinels and cluster: a private redis-server under `data_dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<RedisUrl>,
    /// The sentinels that know the master, with their own user and password if they have some. If the first begins with
    /// `rediss://`, the master is reached by TLS too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sentinels: Vec<RedisUrl>,
    /// The name that the sentinels know the master by; set if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// Some nodes of a cluster, from which the others are learned. All are reached as the first one is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cluster: Vec<RedisUrl>,
    /// The user, where a url names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password, where a url has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// A file that holds the password; read at the start. Never set along with `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// True if `serve` may work on a Redis that evicts keys, and so may lose deadlines.
    pub allow_eviction: bool,
    /// Directory of the private redis-server; a relative one is relative to the working directory.
    #[serde(serialize_with = "path_as_text")]
    pub data_dir: PathBuf,
    /// TCP port of the private redis-server on 127.0.0.1; `None` = no TCP. Never set along with another server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What every key begins with; not empty, without braces, whitespace and control characters.
    pub prefix: String,
    /// How long to wait for a connection, above 0.
    #[serde(serialize_with = "duration_as_text")]
    pub connect_timeout: Duration,
    /// How long to wait for the answer to one command, above 0.
    #[serde(serialize_with = "duration_as_text")]
    pub response_timeout: Duration,
    /// What `rediss://` needs beside the usual authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<RedisTlsConfig>,
}

/// The files of TLS towards Redis, all in PEM. They are read at the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RedisTlsConfig {
    /// Certificates of a private authority, in place of the usual ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The client certificate; set if its key is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

impl RedisConfig {
    /// True if it names servers; else overdue keeps a private one.
    #[must_use]
    pub fn names_servers(&self) -> bool {
        self.url.is_some() || self.master.is_some() || !self.cluster.is_empty()
    }

    /// Where Redis is, for people, without passwords.
    #[must_use]
    pub fn place(&self) -> String {
        let all = |urls: &[RedisUrl]| urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match (&self.url, &self.master) {
            (Some(url), _) => url.to_string(),
            (None, Some(master)) => format!("master {master} by sentinels {}", all(&self.sentinels)),
            (None, None) => all(&self.cluster),
        }
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        Config::default().redis
    }
}

/// A password. `Debug` and `Serialize` show `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The password, for logging in and nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Password {
    fn from(password: String) -> Self {
        Self(password)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Password {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

pub(super) fn redis(raw: RawRedis, section: &Section<'_>) -> Result<RedisConfig> {
    let url = text(raw.url).map(|text| url("url", &text, section)).transpose()?;
    // The flag is for once, and takes the place of all that the other layers say about where Redis is.
    let by_flag = section.origins.redis_url_flag;
    let (sentinels, cluster) = if by_flag {
        (Vec::new(), Vec::new())
    } else {
        (servers("sentinels", raw.sentinels, section)?, servers("cluster", raw.cluster, section)?)
    };
    let master = text(raw.master).filter(|_| !by_flag);
    let port = raw.port.map(|port| section.number("port", port, 1..=i64::from(u16::MAX))).transpose()?;
    let port = port.filter(|_| !by_flag);
    let named =
        [("url", url.is_some()), ("sentinels", !sentinels.is_empty()), ("cluster", !cluster.is_empty())];
    let mut named = named.into_iter().filter(|(_, is_named)| *is_named).map(|(key, _)| key);
    if let Some(first) = named.next() {
        if let Some(second) = named.next() {
            let why = format!("says where Redis is, and so does `redis.{second}`: remove one of them");
            return Err(section.clash(first, second, why));
        }
        if port.is_some() {
            let why = format!(
                "is the port of a private redis-server, but `redis.{first}` names a server: remove one of them"
            );
            return Err(section.clash("port", first, why));
        }
    }
    if master.is_some() == sentinels.is_empty() {
        let (key, other) =
            if sentinels.is_empty() { ("sentinels", "master") } else { ("master", "sentinels") };
        return Err(section.clash(key, other, format!("is missing: `redis.{other}` needs it")));
    }
    let (password, password_file) = (text(raw.password), text(raw.password_file));
    if password.is_some() && password_file.is_some() {
        return Err(section.clash(
            "password",
            "password_file",
            "is set, and so is `redis.password_file`: remove one of them",
        ));
    }
    let data_dir = set(raw.data_dir);
    if data_dir.is_empty() {
        return Err(section.bad("data_dir", "is empty; name a directory"));
    }
    Ok(RedisConfig {
        url,
        sentinels,
        master,
        cluster,
        username: text(raw.username),
        password: password.map(Password),
        password_file: password_file.map(PathBuf::from),
        allow_eviction: set(raw.allow_eviction),
        data_dir: PathBuf::from(data_dir),
        port,
        prefix: prefix(set(raw.prefix), section)?,
        connect_timeout: section.timeout("connect_timeout", raw.connect_timeout)?,
        response_timeout: section.timeout("response_timeout", raw.response_timeout)?,
        tls: tls(raw.tls, &section.below("tls"))?,
    })
}

/// Trimmed, because a secret that was mounted as a file ends in a newline; none if nothing is left.
fn text(raw: Option<String>) -> Option<String> {
    raw.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn url(key: &str, text: &str, section: &Section<'_>) -> Result<RedisUrl> {
    RedisUrl::new(text).map_err(|invalid| section.bad(key, format!("cannot be used: {invalid}")))
}

/// Several servers: a list, or a text with commas between them, as a variable has it. Without a scheme they are
/// `redis://`.
fn servers(key: &str, raw: Option<RawList>, section: &Section<'_>) -> Result<Vec<RedisUrl>> {
    let texts = raw.unwrap_or_default().0;
    let parts = texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|part| !part.is_empty());
    let urls = parts.map(|part| {
        let part = if part.contains("://") { part.to_owned() } else { format!("redis://{part}") };
        let url = url(key, &part, section)?;
        if !url.is_tcp() {
            return Err(section.bad(key, format!("names {url}; only host and port can be one of several")));
        }
        Ok(url)
    });
    let urls: Vec<RedisUrl> = urls.collect::<Result<_>>()?;
    if urls.len() > MAX_SERVERS {
        return Err(section.bad(key, format!("has {} entries; name at most {MAX_SERVERS}", urls.len())));
    }
    Ok(urls)
}

fn prefix(prefix: String, section: &Section<'_>) -> Result<String> {
    if prefix.is_empty() || prefix.contains(|c: char| "{}".contains(c) || c.is_control() || c.is_whitespace())
    {
        let why = "cannot be: a prefix is not empty and has no braces, spaces or control characters";
        return Err(section.bad("prefix", format!("`{}` {why}", prefix.escape_debug())));
    }
    Ok(prefix)
}

fn tls(raw: RawRedisTls, section: &Section<'_>) -> Result<Option<RedisTlsConfig>> {
    let file = |path: Option<String>| text(path).map(PathBuf::from);
    let (ca_file, cert_file, key_file) = (file(raw.ca_file), file(raw.cert_file), file(raw.key_file));
    match (&cert_file, &key_file) {
        (None, Some(_)) => {
            Err(section.clash("cert_file", "key_file", "is missing: a client certificate needs both"))
        }
        (Some(_), None) => {
            Err(section.clash("key_file", "cert_file", "is missing: a client certificate needs both"))
        }
        (None, None) if ca_file.is_none() => Ok(None),
        _ => Ok(Some(RedisTlsConfig { ca_file, cert_file, key_file })),
    }
}
