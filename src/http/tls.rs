//! TLS for the listener, with client certificates if they are asked for.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use super::SetupError;
use crate::config::TlsConfig;

const CERT: &str = "http.tls.cert_file";
const KEY: &str = "http.tls.key_file";
const CLIENT_CA: &str = "http.tls.client_ca_file";

/// Reads the files.
pub(super) fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, SetupError> {
    let chain = certificates(CERT, &config.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&config.key_file).map_err(|cause| {
        SetupError::new(KEY, &config.key_file, format!("is no private key in PEM: {cause}"))
    })?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of all versions");
    let builder = match &config.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let unfit = |cause: &dyn std::fmt::Display| {
                SetupError::new(CLIENT_CA, path, format!("has an unfit certificate: {cause}"))
            };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(CLIENT_CA, path)? {
                roots.add(certificate).map_err(|cause| unfit(&cause))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|cause| unfit(&cause))?)
        }
    };
    let mut server = builder.with_single_cert(chain, key).map_err(|cause| {
        SetupError::new(CERT, &config.cert_file, format!("does not go with its key: {cause}"))
    })?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let bad = |why| SetupError::new(key, path, why);
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match found {
        Ok(found) if found.is_empty() => Err(bad("holds no certificate in PEM".to_owned())),
        Ok(found) => Ok(found),
        Err(cause) => Err(bad(format!("cannot be read: {cause}"))),
    }
}
