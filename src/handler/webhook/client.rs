//! The HTTP clients that webhooks share, and what can go wrong while one is made.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use reqwest::{Client, redirect};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::config::{Secret, WebhookConfig};

/// How often an idle HTTP/2 connection is asked whether it still lives, and how long it may take to answer.
/// Without it all calls on a connection that a firewall forgot would time out until the kernel gives it up.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A webhook that cannot be set up as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file is missing or not what it should be.
    #[error("{key} `{}` {why}", path.display())]
    File {
        /// The key that names it: `secret_file` or `ca_file`.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The HTTP client refuses to be built.
    #[error("cannot set up the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// Clients that exist already: webhooks with the same TLS and connection settings share one, and with it the
/// connections.
#[derive(Debug, Default)]
pub struct Clients {
    made: BTreeMap<(Option<PathBuf>, Duration), Client>,
}

impl Clients {
    pub(super) fn get(&mut self, config: &WebhookConfig) -> Result<Client, SetupError> {
        let key = (config.ca_file.clone(), config.connect_timeout);
        if let Some(client) = self.made.get(&key) {
            return Ok(client.clone());
        }
        let client = build(config)?;
        self.made.insert(key, client.clone());
        Ok(client)
    }
}

/// The pool keeps every connection that was in use, so it is as large as the `concurrency` of the queues.
fn build(config: &WebhookConfig) -> Result<Client, SetupError> {
    let client = Client::builder()
        .tls_backend_preconfigured(tls(config.ca_file.as_deref())?)
        .connect_timeout(config.connect_timeout)
        .redirect(redirect::Policy::none())
        // HTTP_PROXY and its like are not ours: only the configured url is called.
        .no_proxy()
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .user_agent(concat!("overdue/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(client)
}

/// Trusts the public authorities, which are compiled in as they are for Redis, and those of the file. The
/// provider is named here, so that a program that uses the crate need not install one.
pub(super) fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| bad_ca(path, format!("has an unfit certificate: {error}")))?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of all versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let text = fs::read(path).map_err(|cause| bad_ca(path, format!("cannot be read: {cause}")))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(bad_ca(path, "holds no certificate in PEM".to_owned())),
        Ok(found) => Ok(found),
        Err(cause) => Err(bad_ca(path, format!("is not PEM: {cause}"))),
    }
}

fn bad_ca(path: &Path, why: String) -> SetupError {
    SetupError::File { key: "ca_file", path: path.to_owned(), why }
}

/// The secrets of the configuration, then those of its files.
pub(super) fn secrets(config: &WebhookConfig) -> Result<Vec<Secret>, SetupError> {
    let mut secrets = config.secret.clone();
    for path in &config.secret_file {
        let bad = |why| SetupError::File { key: "secret_file", path: path.clone(), why };
        let text = fs::read_to_string(path).map_err(|cause| bad(format!("cannot be read: {cause}")))?;
        secrets.push(Secret::new(&text).map_err(|invalid| bad(format!("cannot be: {invalid}")))?);
    }
    Ok(secrets)
}
