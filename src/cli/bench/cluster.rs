//! A cluster of three servers without replicas, just for a benchmark. It ends when this is dropped.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::time::sleep;

use super::{info::Info, rig::TIMEOUTS};
use crate::{
    config::{RedisConfig, RedisUrl},
    redis::{Redis, SLOTS, Timeouts},
};

const NODES: u16 = 3;
/// How long the nodes may take to agree on who has which slots: some seconds, as they gossip.
const AGREEMENT_LIMIT: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(50);

pub(super) struct Cluster {
    nodes: Vec<Node>,
    _dir: TempDir,
}

struct Node {
    process: Child,
    port: u16,
    redis: Redis,
}

impl Drop for Node {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Cluster {
    /// Returns when each node knows the slots of all.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("overdue-").tempdir()?;
        let nodes = (0..NODES).map(|_| Node::start(&dir)).collect::<anyhow::Result<Vec<_>>>()?;
        let cluster = Self { nodes, _dir: dir };
        for (number, node) in (0..NODES).zip(&cluster.nodes) {
            node.until(async |redis| Ok(redis.ping().await.is_ok())).await?;
            let (first, end) = (first_slot(number), first_slot(number + 1));
            node.run(redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(first).arg(end - 1)).await?;
            node.run(redis::cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(cluster.nodes[0].port)).await?;
        }
        for node in &cluster.nodes {
            node.until(async |redis| {
                let info = redis.run(redis::cmd("CLUSTER").arg("INFO")).await?;
                let text = redis::from_redis_value::<String>(info)?;
                Ok(text.contains("cluster_state:ok") && text.contains(&format!("cluster_size:{NODES}")))
            })
            .await?;
        }
        Ok(cluster)
    }

    /// A handle with connections of its own.
    pub(super) fn redis(&self) -> anyhow::Result<Redis> {
        let Timeouts { connect, response } = TIMEOUTS;
        let url = RedisUrl::new(format!("redis://127.0.0.1:{}", self.nodes[0].port))?;
        let config = RedisConfig {
            cluster: vec![url],
            connect_timeout: connect,
            response_timeout: response,
            ..RedisConfig::default()
        };
        Redis::configured(&config)?.context("a cluster is named")
    }

    /// Which node has a slot.
    pub(super) fn node_of(slot: u16) -> u16 {
        (0..NODES).rfind(|number| first_slot(*number) <= slot).unwrap_or(0)
    }

    /// The seconds of a core that each node has used so far.
    pub(super) async fn cpu_s(&self) -> anyhow::Result<Vec<f64>> {
        let mut all = Vec::new();
        for node in &self.nodes {
            all.push(Info::read(&node.redis, "cpu").await?.cpu_s()?);
        }
        Ok(all)
    }
}

fn first_slot(node: u16) -> u16 {
    (u32::from(SLOTS) * u32::from(node) / u32::from(NODES)) as u16
}

impl Node {
    fn start(dir: &TempDir) -> anyhow::Result<Self> {
        let port = free_port()?;
        let options = format!(
            "--port {port} --bind 127.0.0.1 --cluster-enabled yes --cluster-config-file {port}.conf --save  --appendonly no"
        );
        let launch = |binary: &str| {
            let mut command = Command::new(binary);
            command.args(options.split(' ')).current_dir(dir.path());
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        };
        let process = launch("redis-server").or_else(|_| launch("valkey-server"));
        let process = process.context("no redis-server can be started")?;
        let redis = Redis::open(&format!("redis://127.0.0.1:{port}"), TIMEOUTS)?;
        Ok(Self { process, port, redis })
    }

    async fn run(&self, command: &redis::Cmd) -> anyhow::Result<()> {
        self.redis.run(command).await?;
        Ok(())
    }

    async fn until(&self, is_so: impl AsyncFn(&Redis) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !is_so(&self.redis).await? {
            if begun.elapsed() > AGREEMENT_LIMIT {
                bail!("the servers of the cluster do not agree within {AGREEMENT_LIMIT:?}");
            }
            sleep(STEP).await;
        }
        Ok(())
    }
}

/// One that is free with that of the cluster bus, which is 10,000 above.
fn free_port() -> anyhow::Result<u16> {
    for _ in 0..1000 {
        let port = rand::random_range(10_000..20_000);
        if [port, port + 10_000].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return Ok(port);
        }
    }
    bail!("no port is free")
}
