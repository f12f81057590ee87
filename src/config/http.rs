//! Section `[http]`: where to listen, who may do what, and TLS.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::{
    Config, ConfigError,
    check::{Section, set},
    duration_as_text,
    raw::{RawHttp, RawList, RawTls, RawToken},
};
use crate::{error::Invalid, types::unhex};

type Result<T> = std::result::Result<T, ConfigError>;

const MAX_CONNECTIONS: i64 = 100_000;

/// The HTTP interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HttpConfig {
    /// Address and port to listen on; `None` = there is no HTTP interface.
    #[serde(serialize_with = "listen_as_text")]
    pub listen: Option<SocketAddr>,
    /// True if a public address may be served without tokens.
    pub insecure: bool,
    /// True if the dashboard only shows. It is no limit for the calls under `/v1`: scopes of tokens are.
    pub read_only: bool,
    /// How many connections are open at once, at least 1.
    pub max_connections: usize,
    /// How long a connection may idle or stall, above 0.
    #[serde(serialize_with = "duration_as_text")]
    pub idle_timeout: Duration,
    /// Certificate and key, if it speaks TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// Who may do what, by name; if empty, everybody may do everything.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<String, TokenConfig>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Config::default().http
    }
}

/// The files of TLS, all in PEM. They are read when `serve` starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TlsConfig {
    /// The certificate and its chain.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// The authorities of client certificates; with it, every client needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
}

/// What a caller may do. Each is granted by itself, but `admin` implies all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look.
    Read,
    /// Register, move, cancel and fire deadlines.
    Write,
    /// Claim what is due, and say what became of it.
    Work,
    /// Pause queues, retry and delete what is dead.
    Admin,
}

impl Scope {
    /// All of them, with their words.
    pub const ALL: [(&str, Self); 4] =
        [("read", Self::Read), ("write", Self::Write), ("work", Self::Work), ("admin", Self::Admin)];
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::ALL.iter().find(|(_, scope)| scope == self).map_or("", |(word, _)| word);
        f.write_str(word)
    }
}

/// One caller: what it may do, and the tokens it may show. Several at once allow for a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenConfig {
    /// What it may do, at least one.
    pub scopes: BTreeSet<Scope>,
    /// Its tokens, as digests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token: Vec<TokenDigest>,
    /// Files that hold a token each; they are read when `serve` starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token_file: Vec<PathBuf>,
}

/// The SHA-256 of a bearer token: the token itself is kept nowhere. `Debug` and `Serialize` show `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// A shorter one could be guessed.
    const MIN_CHARS: usize = 16;
    const HOW: &str = "make one with: openssl rand -hex 32";

    /// Checks a token of the configuration, and hashes it.
    ///
    /// # Errors
    /// If it is shorter than 16 characters or has one that a bearer token cannot have. The message does not show it.
    pub fn of_new(token: &str) -> std::result::Result<Self, Invalid> {
        let bad = |why: String| Err(Invalid::new("token", "***", format!("{why}; {}", Self::HOW)));
        let token = token.trim();
        if token.len() < Self::MIN_CHARS {
            return bad(format!("has {} characters; it needs {} or more", token.len(), Self::MIN_CHARS));
        }
        if !token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b)) {
            return bad("holds a character other than A-Z a-z 0-9 - . _ ~ + / =".to_owned());
        }
        Ok(Self::of(token.as_bytes()))
    }

    /// Hashes what a caller shows.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Reads 64 hexadecimal digits.
    fn from_hex(text: &str) -> std::result::Result<Self, Invalid> {
        let bytes = unhex(text).and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(Self)
            .ok_or_else(|| Invalid::new("digest", "***", "is no SHA-256: write its 64 hexadecimal digits"))
    }

    /// The bytes, for comparing and nothing else.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for TokenDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

pub(super) fn http(raw: RawHttp, section: &Section<'_>) -> Result<HttpConfig> {
    let listen = listen(&set(raw.listen), section)?;
    let tokens = raw.tokens.into_iter().map(|(name, raw)| {
        let token = token(raw, &section.below("tokens").below(&name))?;
        Ok((name, token))
    });
    let config = HttpConfig {
        listen,
        insecure: set(raw.insecure),
        read_only: set(raw.read_only),
        max_connections: section.number("max_connections", set(raw.max_connections), 1..=MAX_CONNECTIONS)?,
        idle_timeout: section.timeout("idle_timeout", raw.idle_timeout)?,
        tokens: tokens.collect::<Result<_>>()?,
        tls: tls(raw.tls, &section.below("tls"))?,
    };
    let is_public = listen.is_some_and(|listen| !listen.ip().is_loopback());
    if is_public && config.tokens.is_empty() && !config.insecure {
        let why = "is a public address, and without `http.tokens` anybody could cancel your deadlines: name \
                   tokens, listen on 127.0.0.1, or set `http.insecure = true`";
        return Err(section.clash("listen", "insecure", why));
    }
    Ok(config)
}

fn listen(text: &str, section: &Section<'_>) -> Result<Option<SocketAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let bad = |_| {
        let listen = text.escape_debug();
        section
            .bad("listen", format!("is `{listen}`; write address and port like 127.0.0.1:7700 or [::]:7700"))
    };
    text.parse().map(Some).map_err(bad)
}

fn tls(raw: RawTls, section: &Section<'_>) -> Result<Option<TlsConfig>> {
    let file = |path: Option<String>| path.filter(|path| !path.is_empty()).map(PathBuf::from);
    match (file(raw.cert_file), file(raw.key_file), file(raw.client_ca_file)) {
        (Some(cert_file), Some(key_file), client_ca_file) => {
            Ok(Some(TlsConfig { cert_file, key_file, client_ca_file }))
        }
        (None, None, None) => Ok(None),
        (None, ..) => Err(section.clash("cert_file", "key_file", "is missing: TLS needs both")),
        (_, None, _) => Err(section.clash("key_file", "cert_file", "is missing: TLS needs both")),
    }
}

fn token(raw: RawToken, section: &Section<'_>) -> Result<TokenConfig> {
    let words = |list: Option<RawList>| -> Vec<String> {
        let texts = list.unwrap_or_default().0;
        texts.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect()
    };
    let scopes = words(raw.scopes);
    let scopes = scopes.iter().map(|word| section.one_of("scopes", word, &Scope::ALL));
    let scopes: BTreeSet<Scope> = scopes.collect::<Result<_>>()?;
    if scopes.is_empty() {
        return Err(section.clash("scopes", "token", "is missing: read, write, work or admin"));
    }
    let digest = |key: &'static str, read: fn(&str) -> std::result::Result<TokenDigest, Invalid>| {
        move |word: String| read(&word).map_err(|invalid| section.bad(key, invalid))
    };
    let texts = words(raw.token).into_iter().map(digest("token", TokenDigest::of_new));
    let digests = words(raw.sha256).into_iter().map(digest("sha256", TokenDigest::from_hex));
    let token: Vec<TokenDigest> = texts.chain(digests).collect::<Result<_>>()?;
    let token_file: Vec<PathBuf> =
        raw.token_file.unwrap_or_default().0.into_iter().map(PathBuf::from).collect();
    if token.is_empty() && token_file.is_empty() {
        return Err(section.clash("token", "scopes", "is missing: set `token`, `token_file` or `sha256`"));
    }
    Ok(TokenConfig { scopes, token, token_file })
}

fn listen_as_text<S: Serializer>(
    listen: &Option<SocketAddr>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&listen.map_or_else(String::new, |listen| listen.to_string()))
}
