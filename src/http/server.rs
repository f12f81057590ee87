//! Connections: how many, how long they may idle or stall, TLS, and the stop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Api, Served, SetupError, auth::Access, router, stall::Stalling, tls};
use crate::{config::HttpConfig, redis::Redis};

/// How long a request that is under way may take to end after the stop: Redis has answered, or timed out, by then. Who
/// is still about to send, or does not read, is cut off.
const STOP_LIMIT: Duration = Duration::from_secs(6);
/// How long to wait when no connection can be taken, as when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The HTTP interface, bound to its address.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    max_connections: usize,
    idle_timeout: Duration,
    stop: CancellationToken,
}

impl Server {
    /// Binds to `http.listen`; none if that is switched off. From `stop` on it takes no connections and ends those
    /// that it has.
    ///
    /// # Errors
    /// If the address cannot be had, or a file of the configuration is not what it should be.
    pub async fn bind(
        config: &HttpConfig,
        redis: Redis,
        queues: impl IntoIterator<Item = Served>,
        stop: CancellationToken,
    ) -> Result<Option<Self>, SetupError> {
        let Some(listen) = config.listen else { return Ok(None) };
        let access = Arc::new(Access::new(config)?);
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let cannot = |cause| SetupError::Listen { address: listen, cause };
        let listener = TcpListener::bind(listen).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        if !listen.ip().is_loopback() && tls.is_none() && access.is_restricted() {
            tracing::warn!(%address, "HTTP without TLS on a public address: tokens go over the network in clear");
        }
        if !listen.ip().is_loopback() && !access.is_restricted() {
            tracing::warn!(%address, "HTTP without tokens on a public address: whoever reaches it may do everything");
        }
        let api = Api::new(redis, queues, config, stop.clone());
        let (max_connections, idle_timeout) = (config.max_connections, config.idle_timeout);
        let router = router(api, access);
        Ok(Some(Self { listener, address, tls, router, max_connections, idle_timeout, stop }))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the stop; then lets requests that are under way end within `drain_timeout`.
    pub async fn run(self, drain_timeout: Duration) {
        let slots = Arc::new(Semaphore::new(self.max_connections));
        let connections = Connections {
            tls: self.tls,
            router: self.router,
            idle_timeout: self.idle_timeout,
            stop: self.stop.clone(),
        };
        let connections = Arc::new(connections);
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => break,
                accepted = accept(&self.listener, &slots) => accepted,
                // The set would grow otherwise.
                Some(_) = tasks.join_next() => continue,
            };
            match accepted {
                Ok((stream, slot)) => {
                    let connections = Arc::clone(&connections);
                    tasks.spawn(async move {
                        connections.serve(stream).await;
                        drop(slot);
                    });
                }
                Err(cause) => {
                    tracing::warn!(%cause, "cannot take an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        let ended = async { while tasks.join_next().await.is_some() {} };
        if timeout(drain_timeout, ended).await.is_err() {
            tracing::warn!("HTTP requests were cut off: they took longer than drain_timeout");
        }
    }
}

/// Waits for a slot and a connection. What does not get a slot waits in the backlog of the kernel.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}

struct Connections {
    tls: Option<TlsAcceptor>,
    router: Router,
    idle_timeout: Duration,
    stop: CancellationToken,
}

impl Connections {
    async fn serve(&self, stream: TcpStream) {
        let Some(tls) = &self.tls else { return self.requests(stream).await };
        match timeout(self.idle_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.requests(stream).await,
            Ok(Err(cause)) => tracing::debug!(%cause, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        }
    }

    async fn requests(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let stream = TokioIo::new(Stalling::new(stream, self.idle_timeout));
        let service = TowerToHyperService::new(self.router.clone());
        // Waiting for the next request of a connection counts as waiting for its head.
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.idle_timeout)
            .serve_connection(stream, service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                match timeout(STOP_LIMIT, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return tracing::debug!("an HTTP connection was cut off by the stop"),
                }
            }
        };
        if let Err(cause) = ended {
            tracing::debug!(%cause, "an HTTP connection broke off");
        }
    }
}
