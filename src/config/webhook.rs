//! What a queue with the handler `webhook` needs to know, and the two values in it that must not be shown.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Serialize, Serializer};
use url::Url;

use super::{
    ConfigError, HANDLER_TIMEOUT,
    check::Section,
    duration_as_text,
    raw::{RawDuration, RawHandler},
    redis_url::hide_password,
};
use crate::error::Invalid;

/// Where a webhook goes, how it is signed, and how long it may take. SIGHUP does not reload it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WebhookConfig {
    /// The receiver.
    pub url: WebhookUrl,
    /// How long one call may take in all, above 0.
    #[serde(serialize_with = "duration_as_text")]
    pub timeout: Duration,
    /// How long its connection may take, above 0. Only a new connection counts, and `timeout` goes on meanwhile.
    #[serde(serialize_with = "duration_as_text")]
    pub connect_timeout: Duration,
    /// Every call is signed with all of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secret: Vec<Secret>,
    /// Files that hold a secret each, for the same; they are read when the handler is made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secret_file: Vec<PathBuf>,
    /// Certificate authorities in PEM that are trusted beside the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Sent with every call. Values are marked as sensitive.
    #[serde(serialize_with = "headers_without_values", skip_serializing_if = "HeaderMap::is_empty")]
    pub headers: HeaderMap,
}

impl WebhookConfig {
    /// The default of `connect_timeout`. As with [`HANDLER_TIMEOUT`], a test holds it to the reference.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// Calls to `url`, unsigned, with the defaults.
    #[must_use]
    pub fn new(url: WebhookUrl) -> Self {
        Self {
            url,
            timeout: HANDLER_TIMEOUT,
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
            secret: Vec::new(),
            secret_file: Vec::new(),
            ca_file: None,
            headers: HeaderMap::new(),
        }
    }

    /// Takes its keys out of `raw`, and leaves those of other types.
    pub(super) fn check(raw: &mut RawHandler, section: &Section<'_>) -> Result<Self, ConfigError> {
        let Some(url) = raw.url.take().filter(|url| !url.trim().is_empty()) else {
            let why = "is missing: name the address that the webhooks go to";
            return Err(section.clash("url", "type", why));
        };
        let url =
            WebhookUrl::new(&url).map_err(|invalid| section.bad("url", format!("cannot be: {invalid}")))?;
        let timeout = raw.timeout.take().unwrap_or(RawDuration(HANDLER_TIMEOUT));
        let connect_timeout =
            raw.connect_timeout.take().unwrap_or(RawDuration(Self::DEFAULT_CONNECT_TIMEOUT));
        Ok(Self {
            url,
            timeout: section.timeout("timeout", Some(timeout))?,
            connect_timeout: section.timeout("connect_timeout", Some(connect_timeout))?,
            secret: secrets(raw.secret.take().unwrap_or_default().0, section)?,
            secret_file: paths("secret_file", raw.secret_file.take().unwrap_or_default().0, section)?,
            ca_file: paths("ca_file", raw.ca_file.take().into_iter().collect(), section)?.pop(),
            headers: headers(raw.headers.take().unwrap_or_default(), section)?,
        })
    }
}

/// Several may stand in one text, so that an environment variable can hold a list.
fn secrets(texts: Vec<String>, section: &Section<'_>) -> Result<Vec<Secret>, ConfigError> {
    let words = texts.iter().flat_map(|text| text.split_whitespace());
    words.map(|word| Secret::new(word).map_err(|invalid| section.bad("secret", invalid))).collect()
}

fn paths(key: &str, texts: Vec<String>, section: &Section<'_>) -> Result<Vec<PathBuf>, ConfigError> {
    if texts.iter().any(String::is_empty) {
        return Err(section.bad(key, "is empty; name a file"));
    }
    Ok(texts.into_iter().map(PathBuf::from).collect())
}

fn headers(raw: BTreeMap<String, String>, section: &Section<'_>) -> Result<HeaderMap, ConfigError> {
    let mut headers = HeaderMap::new();
    for (name, value) in raw {
        let bad = |why: &str| section.bad("headers", format!("has `{}`, {why}", name.escape_debug()));
        let known = HeaderName::try_from(&name).map_err(|_| bad("which is no name of a header"))?;
        if is_reserved(&known) {
            return Err(bad("which overdue sets itself: remove it"));
        }
        let mut value = HeaderValue::try_from(value.trim())
            .map_err(|_| bad("whose value has a character that a header cannot have"))?;
        value.set_sensitive(true);
        if headers.insert(known, value).is_some() {
            return Err(bad("which is there twice: capital and small letters are the same in a header"));
        }
    }
    Ok(headers)
}

/// Those of the signature, and those that frame the request.
fn is_reserved(name: &HeaderName) -> bool {
    name.as_str().starts_with("webhook-")
        || [
            header::CONNECTION,
            header::CONTENT_LENGTH,
            header::CONTENT_TYPE,
            header::HOST,
            header::TRANSFER_ENCODING,
        ]
        .contains(name)
}

fn headers_without_values<S: Serializer>(headers: &HeaderMap, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.keys().map(|name| (name.as_str(), "***")))
}

/// The address of a receiver. `Display`, `Debug` and `Serialize` show `***` in place of its query, which may
/// hold a key.
///
/// ```
/// use overdue::config::WebhookUrl;
/// let url = WebhookUrl::new("https://shop.example/expired?key=geheim").unwrap();
/// assert_eq!(url.to_string(), "https://shop.example/expired?***");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

impl WebhookUrl {
    /// Checks and wraps a url.
    ///
    /// # Errors
    /// If it is no url, has another scheme than `http` or `https`, or holds a user or a password.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        let hidden = hide_password(text.split(['?', '#']).next().unwrap_or_default());
        let bad = |why: &str| Err(Invalid::new("url", &hidden, why));
        let Ok(url) = Url::parse(text) else {
            return bad("is no url; write it like https://shop.example/expired");
        };
        if !["http", "https"].contains(&url.scheme()) {
            return bad("does not begin with http:// or https://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return bad("holds a user or password; send them as a header instead, in `headers`");
        }
        Ok(Self(url))
    }

    /// The url with its query, for calling and nothing else.
    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.as_str().split(['?', '#']).next().unwrap_or_default();
        let query = if self.0.query().is_some() { "?***" } else { "" };
        write!(f, "{shown}{query}")
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({self})")
    }
}

impl Serialize for WebhookUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A key that webhooks are signed with, in the form of the Standard Webhooks specification: `whsec_`, then 24
/// to 64 bytes in base64. `Display`, `Debug` and `Serialize` show `whsec_***`.
///
/// ```
/// use overdue::config::Secret;
/// let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
/// assert_eq!(secret.to_string(), "whsec_***");
/// assert_eq!(secret.key().len(), 24);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    const PREFIX: &str = "whsec_";
    const HIDDEN: &str = "whsec_***";
    /// Fewest and most bytes, by the specification.
    const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

    /// Checks and wraps a secret.
    ///
    /// # Errors
    /// If it does not begin with `whsec_`, is not base64 after it, or not 24 to 64 bytes. The message does not
    /// show it.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        const HOW: &str = "make one with: echo whsec_$(openssl rand -base64 32)";
        let bad = |why: String| Err(Invalid::new("secret", Self::HIDDEN, format!("{why}; {HOW}")));
        let Some(encoded) = text.trim().strip_prefix(Self::PREFIX) else {
            return Err(Invalid::new("secret", "***", format!("does not begin with whsec_; {HOW}")));
        };
        let Ok(key) = STANDARD.decode(encoded) else {
            return bad("is not base64 (A-Z a-z 0-9 + / and = at the end) after whsec_".to_owned());
        };
        if !Self::BYTES.contains(&key.len()) {
            let (fewest, most) = (Self::BYTES.start(), Self::BYTES.end());
            return bad(format!("holds {} bytes; it must be {fewest} to {most}", key.len()));
        }
        Ok(Self(key))
    }

    /// The bytes, for signing and nothing else.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::HIDDEN)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
