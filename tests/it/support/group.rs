//! Groups of real servers on loopback: a master with replicas and sentinels, and a cluster.

use std::{
    collections::HashSet,
    fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command},
    sync::{LazyLock, Mutex},
    thread,
    time::{Duration, Instant},
};

use overdue::{
    QueueName,
    config::{RedisConfig, RedisUrl},
    queue::Queue,
    redis::Redis,
};
use redis::{FromRedisValue, Value};

use super::{LIMIT, PATIENT, connect, eventually_within, server};

/// What the sentinels call the master.
pub(crate) const MASTER: &str = "mymaster";
/// After this long without an answer a node is taken to be down. Real ones wait for 5 to 30 s.
const DOWN_AFTER_MS: u32 = 1000;
/// How long to wait for what a group has to agree on. A sentinel that was kept from running for two seconds does nothing for
/// the next thirty (TILT), and the next failover of a master may have to wait for several of the last one's timeouts.
const PATIENCE: Duration = Duration::from_secs(300);
/// How many slots there are.
pub(crate) const SLOTS: u16 = 16_384;

/// A server on a TCP port of its own, which keeps its files when it is killed.
pub(crate) struct Node {
    dir: PathBuf,
    words: Vec<String>,
    port: u16,
    keeper: Option<(Child, u32)>,
}

impl Node {
    /// With these options, for whose text `{port}` stands for its port.
    pub(crate) fn start(options: &[&str]) -> Self {
        let port = free_port();
        let dir =
            tempfile::Builder::new().prefix("overdue-it-").tempdir().expect("a temporary directory").keep();
        let fixed =
            ["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1", "--protected-mode", "no"];
        let words = [server::program()].into_iter().chain(fixed).chain(options.iter().copied());
        let words = words.map(|word| word.replace("{port}", &port.to_string())).collect();
        let mut node = Self { dir, words, port, keeper: None };
        node.launch();
        node
    }

    /// A sentinel that watches a master.
    fn sentinel(master: u16) -> Self {
        let port = free_port();
        let dir =
            tempfile::Builder::new().prefix("overdue-it-").tempdir().expect("a temporary directory").keep();
        let config = format!(
            "port {port}\nbind 127.0.0.1\nprotected-mode no\ndir {}\n\
             sentinel monitor {MASTER} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\n\
             sentinel failover-timeout {MASTER} 3000\n\
             sentinel parallel-syncs {MASTER} 2\n",
            dir.display()
        );
        let file = dir.join("sentinel.conf");
        fs::write(&file, config).expect("the directory is ours");
        let words = [server::program(), &file.to_string_lossy(), "--sentinel"].map(str::to_owned).to_vec();
        let mut node = Self { dir, words, port, keeper: None };
        node.launch();
        node
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it on its files, if it does not run.
    pub(crate) fn launch(&mut self) {
        if self.keeper.is_none() {
            self.keeper = Some(server::keep(&self.dir, &self.words));
            let begun = Instant::now();
            while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
                assert!(begun.elapsed() < LIMIT, "{:?} does not listen", self.words);
                thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Ends the process without a chance to write anything; its files stay.
    pub(crate) fn kill9(&mut self) {
        if let Some((mut keeper, _)) = self.keeper.take() {
            use std::io::Write as _;
            let mut stdin = keeper.stdin.take().expect("held until now");
            stdin.write_all(b"keep\n").expect("the keeper lives as long as its stdin");
            keeper.wait().expect("the keeper ends after its word");
        }
    }

    /// Sends a signal by its name, such as `STOP` and `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let (_, pid) = self.keeper.as_ref().expect("it runs");
        let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {pid}");
    }

    pub(crate) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).await.unwrap_or_else(|cause| panic!("{words:?}: {cause}"))
    }

    /// For what may fail, as sentinels close connections in a failover.
    pub(crate) async fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connect(&self.url()).await?).await
    }

    /// A line of INFO; empty where there is no such line, or no answer.
    pub(crate) async fn info(&self, section: &str, field: &str) -> String {
        let text: String = self.try_ask(&["INFO", section]).await.unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_default().to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some((keeper, pid)) = &mut self.keeper {
            // One that was stopped ends all the same.
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Waits for what a group has to agree on.
pub(crate) async fn patiently<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, probe).await
}

/// A port below those that outgoing connections get, and so is the one of the cluster bus, 10,000 above.
pub(crate) fn free_port() -> u16 {
    static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    loop {
        let port = rand::random_range(10_000..20_000);
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) && TAKEN.lock().expect("held briefly").insert(port) {
            return port;
        }
    }
}

/// A master with replicas, and three sentinels.
pub(crate) struct Watched {
    pub(crate) nodes: Vec<Node>,
    pub(crate) sentinels: Vec<Node>,
}

impl Watched {
    /// With two replicas; returns when the sentinels know them all.
    pub(crate) async fn start(options: &[&str]) -> Self {
        let master = Node::start(options);
        let port = master.port().to_string();
        let replica = || Node::start(&[options, &["--replicaof", "127.0.0.1", &port]].concat());
        let nodes = vec![replica(), replica(), master];
        let sentinels = (0..3).map(|_| Node::sentinel(nodes[2].port())).collect();
        let group = Self { nodes, sentinels };
        group.settled().await;
        group
    }

    /// Waits until the sentinels see two replicas that are in sync with the master, and each other.
    pub(crate) async fn settled(&self) {
        patiently("the sentinels know all servers", async || {
            let master = self.master().await?;
            let in_sync = self.nodes[master].info("replication", "connected_slaves").await == "2";
            let mut all = in_sync;
            for (_, node) in self.nodes.iter().enumerate().filter(|(place, _)| *place != master) {
                all &= node.info("replication", "master_link_status").await == "up";
            }
            for sentinel in &self.sentinels {
                let known: Vec<(String, String)> = sentinel.ask(&["SENTINEL", "MASTER", MASTER]).await;
                let field =
                    |name: &str| known.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
                all &= field("num-slaves") == "2" && field("num-other-sentinels") == "2";
                all &= field("flags") == "master";
                all &= field("port") == self.nodes[master].port().to_string();
            }
            all.then_some(())
        })
        .await;
    }

    /// Which of the nodes the first sentinel names; none during a failover.
    pub(crate) async fn master(&self) -> Option<usize> {
        let (_, port): (String, u16) =
            self.sentinels[0].ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).await;
        self.nodes.iter().position(|node| node.port() == port)
    }

    /// The section of the configuration.
    pub(crate) fn config(&self) -> String {
        let urls: Vec<String> = self.sentinels.iter().map(|node| format!("{:?}", node.url())).collect();
        format!("[redis]\nsentinels = [{}]\nmaster = \"{MASTER}\"\n", urls.join(", "))
    }
}

/// A cluster of masters with a replica each.
pub(crate) struct Clustered {
    pub(crate) nodes: Vec<Node>,
}

impl Clustered {
    /// `masters` nodes that share the slots evenly, and `replicas` further ones.
    pub(crate) async fn start(masters: usize, replicas: usize, options: &[&str]) -> Self {
        // Where nobody can take over, a busy machine is not to look like nodes that are down.
        let timeout = if replicas > 0 { DOWN_AFTER_MS } else { 60_000 }.to_string();
        // Queues on the other nodes are to go on.
        let coverage = ["--cluster-require-full-coverage", "no"];
        let own = [&["--cluster-enabled", "yes", "--cluster-node-timeout", &timeout], &coverage[..]].concat();
        let options = [&own, options].concat();
        let nodes: Vec<Node> = (0..masters + replicas).map(|_| Node::start(&options)).collect();
        let group = Self { nodes };
        let first = group.nodes[0].port().to_string();
        for (place, node) in group.nodes.iter().enumerate() {
            // Epochs that differ from the start: else they take seconds to agree on some.
            let _: Value = node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()]).await;
            if place < masters {
                let slots = group.share(place, masters);
                let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
                let words: Vec<&str> =
                    ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
                let _: Value = node.ask(&words).await;
            }
            let _: Value = node.ask(&["CLUSTER", "MEET", "127.0.0.1", &first]).await;
        }
        group.everybody_knows(masters + replicas).await;
        for (place, node) in group.nodes.iter().enumerate().skip(masters) {
            let master: String = group.nodes[place % masters].ask(&["CLUSTER", "MYID"]).await;
            let _: Value = node.ask(&["CLUSTER", "REPLICATE", &master]).await;
        }
        group.settled().await;
        group
    }

    fn share(&self, place: usize, masters: usize) -> std::ops::Range<u16> {
        let bound = |place: usize| (usize::from(SLOTS) * place / masters) as u16;
        bound(place)..bound(place + 1)
    }

    async fn everybody_knows(&self, count: usize) {
        patiently("the nodes know each other", async || {
            for node in &self.nodes {
                let known: String = node.ask(&["CLUSTER", "INFO"]).await;
                if !known.contains(&format!("cluster_known_nodes:{count}\r")) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Waits until all nodes that run find all slots served, and replicas in sync.
    pub(crate) async fn settled(&self) {
        patiently("the cluster is whole", async || {
            for node in self.nodes.iter().filter(|node| node.keeper.is_some()) {
                // One that has just been started loads its data.
                let state: String = node.try_ask(&["CLUSTER", "INFO"]).await.unwrap_or_default();
                let is_replica = node.info("replication", "role").await == "slave";
                let in_sync = node.info("replication", "master_link_status").await == "up";
                let is_whole =
                    state.contains("cluster_state:ok\r") && state.contains("cluster_slots_ok:16384\r");
                if !is_whole || is_replica && !in_sync {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// The section of the configuration, which names two of the nodes.
    pub(crate) fn config(&self) -> String {
        format!("[redis]\ncluster = [{:?}, {:?}]\n", self.nodes[0].url(), self.nodes[1].url())
    }

    /// A handle to a queue, with connections of its own.
    pub(crate) fn queue(&self, name: &str) -> Queue {
        let config = RedisConfig {
            cluster: self.nodes.iter().map(|node| RedisUrl::new(node.url()).expect("a url")).collect(),
            connect_timeout: PATIENT.connect,
            response_timeout: PATIENT.response,
            ..RedisConfig::default()
        };
        let redis = Redis::configured(&config).expect("a right configuration").expect("servers are named");
        Queue::new(redis, "overdue", QueueName::new(name).expect("a name"))
    }

    /// The nodes that have slots, by what the first that runs says.
    pub(crate) async fn masters(&self) -> Vec<usize> {
        let mut masters: Vec<usize> = self.ranges().await.into_iter().map(|(.., node)| node).collect();
        masters.sort_unstable();
        masters.dedup();
        masters
    }

    /// Which node has a slot as its master, by what the first that runs says.
    pub(crate) async fn owner(&self, slot: u16) -> usize {
        let ranges = self.ranges().await;
        let range = ranges.iter().find(|(from, to, _)| (*from..=*to).contains(&i64::from(slot)));
        range.expect("the slot is served").2
    }

    /// Slots from, up to, and the node that has them.
    async fn ranges(&self) -> Vec<(i64, i64, usize)> {
        let mut slots: Vec<Vec<Value>> = Vec::new();
        for node in self.nodes.iter().filter(|node| node.keeper.is_some()) {
            if let Ok(said) = node.try_ask(&["CLUSTER", "SLOTS"]).await {
                slots = said;
                break;
            }
        }
        let read = |range: &Vec<Value>| {
            let [Value::Int(from), Value::Int(to), Value::Array(master), ..] = &range[..] else {
                return None;
            };
            let Value::Int(port) = master[1] else { return None };
            let node = self.nodes.iter().position(|node| i64::from(node.port()) == port)?;
            Some((*from, *to, node))
        };
        slots.iter().map(|range| read(range).expect("slots of nodes of ours")).collect()
    }

    /// Moves a slot with all its keys, as `redis-cli --cluster reshard` does it: a few keys at a time.
    pub(crate) async fn migrate(&self, slot: u16, to: usize) {
        let from = self.owner(slot).await;
        if from == to {
            return;
        }
        let slot = slot.to_string();
        let from_id: String = self.nodes[from].ask(&["CLUSTER", "MYID"]).await;
        let to_id: String = self.nodes[to].ask(&["CLUSTER", "MYID"]).await;
        let _: Value = self.nodes[to].ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await;
        let _: Value = self.nodes[from].ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]).await;
        let port = self.nodes[to].port().to_string();
        loop {
            let keys: Vec<String> = self.nodes[from].ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"]).await;
            let Some(key) = keys.first() else { break };
            // It may be gone by now, which is no error.
            let _: Value = self.nodes[from].ask(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
        }
        for place in [to, from] {
            let _: Value = self.nodes[place].ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await;
        }
    }
}
