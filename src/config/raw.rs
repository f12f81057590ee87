//! What a layer may say: every key optional, none unknown. Each layer alone is read into this, and so is the
//! merged whole, in which the reference has left no key with a default unset.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, de};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a section with keys")]
pub(super) struct RawConfig {
    pub(super) redis: RawRedis,
    pub(super) http: RawHttp,
    pub(super) log: RawLog,
    pub(super) serve: RawServe,
    pub(super) queue: BTreeMap<String, RawQueue>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a section with keys")]
pub(super) struct RawRedis {
    pub(super) url: Option<String>,
    pub(super) sentinels: Option<RawList>,
    pub(super) master: Option<String>,
    pub(super) cluster: Option<RawList>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) allow_eviction: Option<bool>,
    pub(super) tls: RawRedisTls,
    pub(super) data_dir: Option<String>,
    pub(super) port: Option<i64>,
    pub(super) prefix: Option<String>,
    pub(super) connect_timeout: Option<RawDuration>,
    pub(super) response_timeout: Option<RawDuration>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a section with keys")]
pub(super) struct RawRedisTls {
    pub(super) ca_file: Option<String>,
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a section with keys")]
pub(super) struct RawHttp {
    pub(super) listen: Option<String>,
    pub(super) insecure: Option<bool>,
    pub(super) read_only: Option<bool>,
    pub(super) max_connections: Option<i64>,
    pub(super) idle_timeout: Option<RawDuration>,
    pub(super) tls: RawTls,
    pub(super) tokens: BTreeMap<String, RawToken>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a section with keys")]
pub(super) struct RawTls {
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) client_ca_file: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a section with keys")]
pub(super) struct RawToken {
    pub(super) scopes: Option<RawList>,
    pub(super) token: Option<RawList>,
    pub(super) token_file: Option<RawList>,
    pub(super) sha256: Option<RawList>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a section with keys")]
pub(super) struct RawLog {
    pub(super) level: Option<String>,
    pub(super) format: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a section with keys")]
pub(super) struct RawServe {
    pub(super) drain_timeout: Option<RawDuration>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a section with keys")]
pub(super) struct RawQueue {
    pub(super) poll_interval: Option<RawDuration>,
    pub(super) batch_size: Option<i64>,
    pub(super) concurrency: Option<i64>,
    pub(super) lease: Option<RawDuration>,
    pub(super) max_attempts: Option<i64>,
    pub(super) max_crashes: Option<i64>,
    pub(super) max_handler_time: Option<RawDuration>,
    pub(super) rate_limit: Option<i64>,
    pub(super) shards: Option<i64>,
    pub(super) backoff: RawBackoff,
    pub(super) circuit_breaker: RawCircuitBreaker,
    pub(super) dead_retention: Option<RawDuration>,
    pub(super) durability: RawDurability,
    pub(super) order: RawOrder,
    pub(super) handler: RawHandler,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a section with keys")]
pub(super) struct RawDurability {
    pub(super) level: Option<String>,
    pub(super) replicas: Option<i64>,
    pub(super) timeout: Option<RawDuration>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a section with keys")]
pub(super) struct RawOrder {
    pub(super) timeout: Option<RawDuration>,
    pub(super) retain: Option<RawDuration>,
    pub(super) intake_limit: Option<i64>,
    pub(super) max_events: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a section with keys")]
pub(super) struct RawBackoff {
    pub(super) initial: Option<RawDuration>,
    pub(super) max: Option<RawDuration>,
    pub(super) factor: Option<f64>,
    pub(super) jitter: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a section with keys")]
pub(super) struct RawCircuitBreaker {
    pub(super) failures: Option<i64>,
    pub(super) pause: Option<RawDuration>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default, expecting = "a section with keys")]
pub(super) struct RawHandler {
    pub(super) r#type: Option<String>,
    pub(super) max_len: Option<i64>,
    pub(super) command: Option<Vec<String>>,
    pub(super) dead_exit_codes: Option<Vec<i64>>,
    pub(super) url: Option<String>,
    pub(super) timeout: Option<RawDuration>,
    pub(super) connect_timeout: Option<RawDuration>,
    pub(super) secret: Option<RawList>,
    pub(super) secret_file: Option<RawList>,
    pub(super) ca_file: Option<String>,
    pub(super) headers: Option<BTreeMap<String, String>>,
    pub(super) notify: Option<Box<RawHandler>>,
}

impl RawHandler {
    /// A key that is set though the chosen type has not taken it.
    pub(super) fn left_over(&self) -> Option<&'static str> {
        let keys = [
            ("max_len", self.max_len.is_some()),
            ("command", self.command.is_some()),
            ("dead_exit_codes", self.dead_exit_codes.is_some()),
            ("url", self.url.is_some()),
            ("timeout", self.timeout.is_some()),
            ("connect_timeout", self.connect_timeout.is_some()),
            ("secret", self.secret.is_some()),
            ("secret_file", self.secret_file.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("headers", self.headers.is_some()),
            ("notify", self.notify.is_some()),
        ];
        keys.into_iter().find(|(_, is_set)| *is_set).map(|(key, _)| key)
    }
}

/// A text, or a list of texts.
#[derive(Default)]
pub(super) struct RawList(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for RawList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrList;
        impl<'de> de::Visitor<'de> for TextOrList {
            type Value = RawList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in quotes, or a list of them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawList, E> {
                Ok(RawList(vec![text.to_owned()]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<RawList, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(RawList(texts))
            }
        }
        deserializer.deserialize_any(TextOrList)
    }
}

/// A duration is parsed while its layer is read, so that the message has the line.
pub(super) use crate::duration::Text as RawDuration;
