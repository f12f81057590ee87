//! `overdue healthcheck`

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use super::context::Context;
use crate::types::shortened;

/// `overdue healthcheck`
#[derive(Debug, Args)]
#[command(after_long_help = "\
It asks GET /readyz at `http.listen`, as a container's health check does. Exit code 0: Redis answers, and every
queue was polled with success lately. 1: not so, or no answer. The certificate of a server with TLS is not checked;
where clients need one themselves, probe with a tool that has it.")]
pub(super) struct Healthcheck {
    /// The server to ask [default: that of `http.listen`]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

#[derive(Serialize)]
struct Healthy<'a> {
    status: &'static str,
    url: &'a str,
}

impl Healthcheck {
    pub(super) async fn run(&self, context: &Context) -> anyhow::Result<()> {
        let http = &context.config.http;
        let url = match (&self.url, http.listen) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(listen)) if listen.port() != 0 => {
                let scheme = if http.tls.is_some() { "https" } else { "http" };
                format!("{scheme}://{}", reachable(listen))
            }
            (None, _) => bail!("`http.listen` names no port that could be asked: set it, or pass --url"),
        };
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(5))
            .tls_danger_accept_invalid_certs(true)
            .no_proxy()
            .build()?;
        let answer = client.get(format!("{url}/readyz")).send().await;
        let mut answer = answer.with_context(|| format!("no answer from {url}"))?;
        if !answer.status().is_success() {
            let status = answer.status().as_u16();
            // Whoever answers there may be somebody else.
            let why = answer.chunk().await.ok().flatten().unwrap_or_default();
            bail!("not ready: {status} {}", shortened(&String::from_utf8_lossy(&why), 1000));
        }
        context.output.one(&Healthy { status: "ok", url: &url }, "ok")
    }
}

/// Who listens on all addresses can be asked on this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
