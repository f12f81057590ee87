//! A receiver of webhooks: it records the calls and answers as the test wishes.

use std::{
    collections::VecDeque,
    future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderName, Method, StatusCode, Uri},
    serve::Listener,
};
use overdue::{
    config::Secret,
    handler::webhook::{Refused, Signed, now_s},
};
use rcgen::{CertificateParams, Issuer, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
    server::TlsStream,
};

use super::eventually;

/// What a call is answered.
#[derive(Clone)]
pub(crate) enum Answer {
    Status(u16),
    /// A status with a header.
    With(u16, &'static str, &'static str),
    /// A status with a body.
    Body(u16, String),
    /// Nothing, ever.
    Stall,
}

/// A call as it came.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) at: Instant,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// As a receiver that knows one secret.
    pub(crate) fn verify(&self, secret: &str) -> Result<(), Refused> {
        let signed = Signed {
            id: self.header("webhook-id"),
            timestamp_s: self.header("webhook-timestamp").parse().expect("seconds"),
            body: &self.body,
        };
        let secret = Secret::new(secret).expect("a secret");
        signed.verify(&[secret], self.header("webhook-signature"), now_s(), Duration::from_secs(60))
    }
}

#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    /// What the next calls are answered; the last of them for all that follow.
    answers: Arc<Mutex<VecDeque<Answer>>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Receiver {
    pub(crate) async fn start(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::on(listener.local_addr().expect("bound"), listener, answers)
    }

    /// One with TLS, and the authority in PEM that signed its certificate.
    pub(crate) async fn start_tls(answers: &[Answer]) -> (Self, String) {
        let (config, authority) = certificate();
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = tcp.local_addr().expect("bound");
        let listener = Tls { tcp, acceptor: TlsAcceptor::from(Arc::new(config)) };
        (Self::on(address, listener, answers), authority)
    }

    fn on(address: SocketAddr, listener: impl Listener<Addr = SocketAddr>, answers: &[Answer]) -> Self {
        let (answers, calls) = (Arc::new(Mutex::new(answers.iter().cloned().collect())), Arc::default());
        let receiver = Self { address, answers, calls };
        let router = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/expired?key=geheim", self.address)
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("held briefly").clone()
    }

    /// Waits until there were that many calls.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Call> {
        let calls = async || Some(self.calls()).filter(|calls| calls.len() >= count);
        eventually("the calls come", calls).await
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap, String) {
    let call = Call { at: Instant::now(), method, uri, headers, body };
    receiver.calls.lock().expect("held briefly").push(call);
    let answer = {
        let mut answers = receiver.answers.lock().expect("held briefly");
        let answer = answers.front().expect("at least one answer").clone();
        if answers.len() > 1 {
            answers.pop_front();
        }
        answer
    };
    let mut headers = HeaderMap::new();
    let (status, body) = match answer {
        Answer::Status(status) => (status, String::new()),
        Answer::With(status, name, value) => {
            headers.insert(HeaderName::from_static(name), value.parse().expect("a header"));
            (status, String::new())
        }
        Answer::Body(status, body) => (status, body),
        Answer::Stall => future::pending().await,
    };
    (StatusCode::from_u16(status).expect("a status"), headers, body)
}

/// A certificate for localhost by an authority that nobody else trusts.
fn certificate() -> (ServerConfig, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&authority_key).expect("signed");
    let issuer = Issuer::new(params, authority_key);

    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let leaf: CertificateDer<'static> = leaf.signed_by(&key, &issuer).expect("signed").into();
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has all")
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key);
    (config.expect("a certificate with its key"), authority.pem())
}

struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.tcp.accept().await.expect("a connection");
            // A client that does not trust us ends the handshake, and that is what the test is about.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}
