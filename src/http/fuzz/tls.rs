//! Files of TLS: a certificate and its key are taken, and anything else is an error that names the file and shows
//! nothing of a key.

use proptest::sample::Index;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::{config::TlsConfig, http::tls::acceptor};

#[test]
fn files_of_tls_are_whole_or_named() {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    let key = key.serialize_pem();
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let config =
        TlsConfig { cert_file: path("cert"), key_file: path("key"), client_ca_file: Some(path("ca")) };
    let files = [("cert", certificate.clone()), ("key", key.clone()), ("ca", certificate)];
    let spoiled = prop_oneof![3 => mutated(Just(Vec::new())).prop_map(Some), 1 => Just(None)];
    run(100, (0..4usize, any::<Index>(), 0..40usize, spoiled), |(which, at, len, piece)| {
        for (number, (name, text)) in files.iter().enumerate() {
            let mut bytes = text.clone().into_bytes();
            if number == which {
                let at = at.index(bytes.len());
                match &piece {
                    Some(piece) => drop(bytes.splice(at..(at + len).min(text.len()), piece.iter().copied())),
                    None => bytes.clear(),
                }
            }
            std::fs::write(path(name), bytes).unwrap();
        }
        match acceptor(&config) {
            Ok(_) => {}
            Err(error) => {
                let message = error.to_string();
                readable(&message)?;
                prop_assert!(
                    which < 3 && message.contains(&directory.path().display().to_string()),
                    "{message}"
                );
                let secret: Vec<&str> = key.lines().filter(|line| !line.starts_with("-----")).collect();
                prop_assert!(!secret.iter().any(|line| message.contains(&line[..20])), "{message}");
            }
        }
        Ok(())
    });
}
