//! Registering over HTTP: the interface as `serve` has it, and clients that call it, all in this process.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use http::{StatusCode, header::CONTENT_TYPE};
use reqwest::Client;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::register::each_alone;
use crate::{
    config::HttpConfig,
    http::{Served, Server},
    queue::Queue,
    scheduler::{Pulse, Settings, fixed},
};

/// The interface. It ends when this is dropped.
pub(super) struct Http {
    deadlines: String,
    client: Client,
    _task: JoinSet<()>,
}

/// The last line of the answer to a batch.
#[derive(Deserialize)]
struct End {
    summary: Summary,
}

#[derive(Deserialize)]
struct Summary {
    created: usize,
}

impl Http {
    /// Serves the queue, which nobody polls.
    pub(super) async fn start(queue: Queue) -> anyhow::Result<Self> {
        let config = HttpConfig { listen: "127.0.0.1:0".parse().ok(), ..HttpConfig::default() };
        let (redis, name) = (queue.redis().clone(), queue.name().clone());
        let served = Served::new(queue, fixed(Settings::default()), "pull", Pulse::default());
        let server = Server::bind(&config, redis, [served], CancellationToken::new()).await?;
        let server = server.context("HTTP is switched off")?;
        let deadlines = format!("http://{}/v1/queues/{name}/deadlines", server.address());
        let mut task = JoinSet::new();
        task.spawn(server.run(Duration::ZERO));
        // It lets go of a connection before the server does.
        let client =
            Client::builder().no_proxy().tcp_nodelay(true).pool_idle_timeout(config.idle_timeout / 2);
        Ok(Self { deadlines, client: client.build()?, _task: task })
    }

    /// `PUT` of one id at a time, over so many connections.
    pub(super) async fn single(
        &self,
        entries: Vec<(String, i64)>,
        connections: usize,
    ) -> anyhow::Result<Duration> {
        let requests: Vec<(String, String)> = entries
            .iter()
            .map(|(id, due_ms)| (format!("{}/{id}", self.deadlines), format!("{{\"due_at\":{due_ms}}}")))
            .collect();
        // The client has as many connections as there are calls at once, and keeps them.
        let clients = vec![self.client.clone(); connections];
        each_alone(requests, clients, |client, (url, body)| async move {
            let answer = client.put(url).header(CONTENT_TYPE, "application/json").body(body).send().await?;
            let status = answer.status();
            answer.bytes().await?;
            ensure!(status == StatusCode::CREATED, "a registration answered {status}");
            Ok(())
        })
        .await
    }

    /// All of it in one `POST`.
    pub(super) async fn batch(&self, entries: &[(String, i64)]) -> anyhow::Result<Duration> {
        let mut lines = String::new();
        for (id, due_ms) in entries {
            writeln!(lines, "{{\"id\":\"{id}\",\"due_at\":{due_ms}}}")?;
        }
        let begun = Instant::now();
        let request = self.client.post(format!("{}:batch", self.deadlines)).body(lines);
        let answer = request.header(CONTENT_TYPE, "application/x-ndjson").send().await?.bytes().await?;
        let took = begun.elapsed();
        let last = answer.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let end: End = serde_json::from_slice(last).context("the batch did not come to its end")?;
        ensure!(end.summary.created == entries.len(), "the batch created {}", end.summary.created);
        Ok(took)
    }
}
