//! A private authority, with a certificate of a server and one of a client.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority, a certificate for localhost and one for a client, with their keys, in PEM.
pub(crate) struct Certificates {
    pub(crate) authority: String,
    pub(crate) server: (String, String),
    pub(crate) client: (String, String),
}

pub(crate) fn certificates() -> Certificates {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("signed").pem();
    let issuer = Issuer::new(params, key);
    let leaf = |name: &str| {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        // Else it has the name of the authority, and looks like one that has signed itself.
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &issuer).expect("signed").pem(), key.serialize_pem())
    };
    Certificates { authority, server: leaf("localhost"), client: leaf("worker") }
}
