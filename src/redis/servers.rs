//! How to log in to servers, and a [`Link`] to each.

use std::{fs, path::Path, sync::Arc, time::Duration};

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, TlsCertificates,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{connect::Timeouts, link::Link};
use crate::{
    config::{RedisConfig, RedisTlsConfig},
    error::{Invalid, Result},
};

/// What all servers of one handle have in common.
pub(super) struct Access {
    timeouts: Timeouts,
    username: Option<String>,
    password: Option<String>,
    certificates: Option<TlsCertificates>,
}

impl Access {
    /// For a url that says all.
    pub(super) fn by_url(timeouts: Timeouts) -> Self {
        Self { timeouts, username: None, password: None, certificates: None }
    }

    /// Reads the files that the configuration names.
    pub(super) fn new(config: &RedisConfig) -> Result<Self> {
        let password = match (&config.password, &config.password_file) {
            (Some(password), _) => Some(password.reveal().to_owned()),
            (None, Some(path)) => Some(read("redis.password_file", path)?.trim().to_owned()),
            (None, None) => None,
        };
        Ok(Self {
            timeouts: Timeouts::from(config),
            username: config.username.clone(),
            password,
            certificates: config.tls.as_ref().map(certificates).transpose()?,
        })
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// A link to the server of a url, with the login of the configuration where the url has none.
    pub(super) fn link_to_url(&self, url: &str) -> Result<Arc<Link>> {
        let info = info_of(url)?;
        let settings = self.with_login(info.redis_settings().clone());
        self.link(info.addr().clone(), settings)
    }

    /// A link to a sentinel, which has a login of its own.
    pub(super) fn link_to_sentinel(&self, url: &str) -> Result<Arc<Link>> {
        let info = info_of(url)?;
        self.link(info.addr().clone(), info.redis_settings().clone())
    }

    /// A link to a server that others have named, with the login, and by TLS or not, as the url of one of its kind says.
    pub(super) fn link_like(&self, url: &str, host: &str, port: u16) -> Result<Arc<Link>> {
        let like = info_of(url)?;
        self.link(at(like.addr(), host, port), self.with_login(like.redis_settings().clone()))
    }

    /// The same with the login of the configuration alone: a sentinel's is not its master's.
    pub(super) fn link_to_master(&self, sentinel: &str, host: &str, port: u16) -> Result<Arc<Link>> {
        let like = info_of(sentinel)?;
        self.link(at(like.addr(), host, port), self.with_login(RedisConnectionInfo::default()))
    }

    fn with_login(&self, settings: RedisConnectionInfo) -> RedisConnectionInfo {
        let settings = match &self.username {
            Some(username) if settings.username().is_none() => settings.set_username(username),
            _ => settings,
        };
        match &self.password {
            Some(password) if settings.password().is_none() => settings.set_password(password),
            _ => settings,
        }
    }

    fn link(&self, address: ConnectionAddr, settings: RedisConnectionInfo) -> Result<Arc<Link>> {
        let info = info_at(address)?.set_redis_settings(settings);
        let info = match info.addr() {
            ConnectionAddr::Unix(_) => info,
            _ => info.set_tcp_settings(tcp_settings(self.timeouts)),
        };
        let client = match (&self.certificates, info.addr()) {
            (Some(certificates), ConnectionAddr::TcpTls { .. }) => {
                Client::build_with_tls(info, certificates.clone())
            }
            _ => Client::open(info),
        };
        Ok(Link::new(client.map_err(unusable)?, self.timeouts))
    }
}

fn info_of(url: &str) -> Result<ConnectionInfo> {
    Ok(url.into_connection_info().map_err(unusable)?)
}

fn info_at(address: ConnectionAddr) -> Result<ConnectionInfo> {
    Ok(address.into_connection_info().map_err(unusable)?)
}

/// The url may hold a password, so the message leaves it out.
fn unusable(cause: RedisError) -> Invalid {
    Invalid::new("redis.url", "…", format!("cannot be used: {cause}"))
}

/// Another server, reached in the same way.
fn at(like: &ConnectionAddr, host: &str, port: u16) -> ConnectionAddr {
    let host = host.to_owned();
    match like {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    }
}

fn certificates(config: &RedisTlsConfig) -> Result<TlsCertificates> {
    let root_cert = config.ca_file.as_ref().map(|path| certificate("redis.tls.ca_file", path)).transpose()?;
    let client_tls = match (&config.cert_file, &config.key_file) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig {
            client_cert: certificate("redis.tls.cert_file", cert)?,
            client_key: private_key("redis.tls.key_file", key)?,
        }),
        _ => None,
    };
    Ok(TlsCertificates { client_tls, root_cert })
}

/// A file without certificates would be no error to the client, and each connection would fail.
fn certificate(key: &'static str, path: &Path) -> Result<Vec<u8>> {
    let text = read(key, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(text.into_bytes()),
        _ => Err(Invalid::new(key, path.display(), "holds no certificate in PEM").into()),
    }
}

fn private_key(key: &'static str, path: &Path) -> Result<Vec<u8>> {
    let text = read(key, path)?;
    match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        Ok(_) => Ok(text.into_bytes()),
        Err(_) => Err(Invalid::new(key, path.display(), "holds no private key in PEM").into()),
    }
}

fn read(key: &'static str, path: &Path) -> Result<String> {
    let text = fs::read_to_string(path);
    Ok(text.map_err(|cause| Invalid::new(key, path.display(), format!("cannot be read: {cause}")))?)
}

/// Small commands wait for nobody's ack (nodelay), and a peer that is gone without a word is noticed while
/// idle (keepalive) and while a command is on its way (user timeout).
fn tcp_settings(timeouts: Timeouts) -> TcpSettings {
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5));
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(timeouts.response);
    #[cfg(not(target_os = "linux"))]
    let _ = timeouts;
    settings
}
