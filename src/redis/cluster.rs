//! [`Cluster`]: the nodes of a cluster, and which of them has which slot.
//! <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use redis::Value;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    link::{Failure, Link, Redirect, Request},
    sentinel::STAGGER,
    servers::Access,
    slot::SLOTS,
};
use crate::{
    config::RedisUrl,
    error::{Error, Result, Trouble, TroubleKind},
};

/// How often a call follows a node that sends it on. Two are what a slot that moves takes; more is a cluster at odds.
const MAX_REDIRECTS: usize = 5;
/// The first pause of a call that was told TRYAGAIN, because its keys are on both sides; each further is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How often the map is read anew: a master that hangs is left when another one has taken over, though no call fails.
const REFRESH: Duration = Duration::from_secs(1);

/// All nodes. What a node says that it has not run is sent to where it says; what may have run is never sent again.
pub(super) struct Cluster {
    watch: Watch,
    watching: Once,
    _end_of_watch: DropGuard,
}

/// What the one who keeps the map fresh needs, too.
#[derive(Clone)]
struct Watch {
    shared: Arc<Shared>,
    dropped: CancellationToken,
}

struct Shared {
    /// How to reach a node: as the first of the configuration.
    like: String,
    seeds: Vec<Arc<Link>>,
    access: Access,
    map: Mutex<Map>,
    /// Held by who asks, so that a crowd of callers asks once.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Map {
    /// By address.
    links: HashMap<String, Arc<Link>>,
    /// Slots from, up to, and the address of the master that has them; in order.
    ranges: Vec<Range>,
    /// Slots that a node said it has moved since.
    moved: HashMap<u16, String>,
    is_fresh: bool,
    /// Grows with each reading.
    version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: u16,
    to: u16,
    address: String,
}

impl Cluster {
    pub(super) fn new(nodes: &[RedisUrl], access: Access) -> Result<Arc<Self>> {
        let seeds = nodes.iter().map(|url| access.link_to_url(url.as_str())).collect::<Result<_>>()?;
        let like = nodes.first().map_or_else(String::new, |url| url.as_str().to_owned());
        let dropped = CancellationToken::new();
        let _end_of_watch = dropped.clone().drop_guard();
        let (map, asking) = (Mutex::default(), tokio::sync::Mutex::new(()));
        let shared = Arc::new(Shared { like, seeds, access, map, asking });
        Ok(Arc::new(Self { watch: Watch { shared, dropped }, watching: Once::new(), _end_of_watch }))
    }

    /// Sends to the node that has a slot.
    pub(super) async fn send(
        &self,
        slot: u16,
        request: Request<'_>,
        limit: Option<Duration>,
    ) -> Result<Value> {
        let until =
            Instant::now() + self.watch.shared.access.timeouts().response.min(limit.unwrap_or(Duration::MAX));
        let (mut ask, mut redirects, mut pause) = (None::<String>, 0, FIRST_PAUSE);
        loop {
            let (link, answer) = match ask.take() {
                Some(address) => {
                    let link = self.watch.shared.link(&address)?;
                    let answer = link.send(request, true, limit).await;
                    (link, answer)
                }
                None => {
                    let link = self.owner(slot, limit).await?;
                    let answer = link.send(request, false, limit).await;
                    (link, answer)
                }
            };
            let Failure { error, redirect } = match answer {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            match redirect {
                Some(_) if redirects == MAX_REDIRECTS => return Err(error),
                Some(Redirect::Ask { address }) => ask = Some(address),
                Some(Redirect::Moved { slot, address }) => self.watch.shared.moved(slot, address),
                None if is(&error, TroubleKind::TryAgain) && Instant::now() + pause < until => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
                None => {
                    if leaves(&error) {
                        self.watch.shared.forget(&link);
                    }
                    return Err(error);
                }
            }
            redirects += 1;
        }
    }

    /// Sends to any node, to another one if it cannot be reached: a question that every node can answer.
    pub(super) async fn send_to_any(&self, request: Request<'_>, limit: Option<Duration>) -> Result<Value> {
        let mut masters = self.masters(limit).await?;
        let first = rand::random_range(0..masters.len().max(1));
        masters.rotate_left(first);
        let mut answer = Err(self.uncovered("any slot".to_owned()));
        for link in masters {
            answer = link.send(request, false, limit).await.map_err(|failure| failure.error);
            match &answer {
                Err(error) if leaves(error) => self.watch.shared.forget(&link),
                _ => break,
            }
        }
        answer
    }

    /// Its nodes, as they are configured.
    pub(super) fn name(&self) -> String {
        self.watch.shared.seeds.iter().map(|seed| seed.address()).collect::<Vec<_>>().join(",")
    }

    /// The masters.
    pub(super) async fn masters(&self, limit: Option<Duration>) -> Result<Vec<Arc<Link>>> {
        self.map(limit).await?;
        let shared = &self.watch.shared;
        let mut addresses: Vec<String> =
            shared.lock().ranges.iter().map(|range| range.address.clone()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.iter().map(|address| shared.link(address)).collect()
    }

    async fn owner(&self, slot: u16, limit: Option<Duration>) -> Result<Arc<Link>> {
        self.map(limit).await?;
        let address = self.watch.shared.lock().owner(slot);
        match address {
            Some(address) => self.watch.shared.link(&address),
            None => Err(self.uncovered(format!("slot {slot}"))),
        }
    }

    fn uncovered(&self, what: String) -> Error {
        self.watch.shared.lock().is_fresh = false;
        Trouble { kind: TroubleKind::ClusterDown, detail: format!("no node has {what}") }.into()
    }

    /// Sees to it that the map is fresh.
    async fn map(&self, limit: Option<Duration>) -> Result<()> {
        self.watching.call_once(|| drop(tokio::spawn(self.watch.clone().run())));
        let shared = &self.watch.shared;
        if shared.lock().is_fresh {
            return Ok(());
        }
        let limit = shared.access.timeouts().connect.min(limit.unwrap_or(Duration::MAX));
        timeout(limit, shared.refresh()).await.unwrap_or_else(|_| {
            let detail = format!("no node of the cluster tells its slots within {limit:?}");
            Err(Trouble { kind: TroubleKind::Unreachable, detail }.into())
        })
    }
}

/// True if the node that said so may not be the one to ask any more.
fn leaves(error: &Error) -> bool {
    matches!(error, Error::Redis(trouble) if trouble.kind.ends_connection() || trouble.kind == TroubleKind::ClusterDown)
}

fn is(error: &Error, kind: TroubleKind) -> bool {
    matches!(error, Error::Redis(trouble) if trouble.kind == kind)
}

impl Map {
    fn owner(&self, slot: u16) -> Option<String> {
        if let Some(address) = self.moved.get(&slot) {
            return Some(address.clone());
        }
        let behind = self.ranges.partition_point(|range| range.from <= slot);
        let range = self.ranges.get(behind.checked_sub(1)?)?;
        (slot <= range.to).then(|| range.address.clone())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, address: &str) -> Result<Arc<Link>> {
        let mut map = self.lock();
        if let Some(link) = map.links.get(address) {
            return Ok(Arc::clone(link));
        }
        let unreadable = || {
            let detail = format!("a node of the cluster names another `{address}`");
            Error::from(Trouble { kind: TroubleKind::Moved, detail })
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(unreadable)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let link = self.access.link_like(&self.like, host, port.parse().map_err(|_| unreadable())?)?;
        map.links.insert(address.to_owned(), Arc::clone(&link));
        Ok(link)
    }

    fn moved(&self, slot: u16, address: String) {
        let mut map = self.lock();
        map.moved.insert(slot, address);
    }

    /// Another map is needed, in which the node may not be what it was. Its link is made anew.
    fn forget(&self, link: &Arc<Link>) {
        let mut map = self.lock();
        map.is_fresh = false;
        map.links.retain(|_, held| !Arc::ptr_eq(held, link));
    }

    /// Asks the nodes that are known one after the other, the next one when one takes long.
    async fn refresh(&self) -> Result<()> {
        let seen = self.lock().version;
        let _alone = self.asking.lock().await;
        let mut nodes: Vec<Arc<Link>> = {
            let map = self.lock();
            if map.version != seen && map.is_fresh {
                return Ok(());
            }
            map.links.values().cloned().collect()
        };
        // One that is cut off has an old map: whoever is asked first is another one each time.
        let places = nodes.len().max(1);
        nodes.rotate_left(rand::random_range(0..places) % places);
        let ask = |(place, node): (usize, Arc<Link>)| async move {
            sleep(STAGGER * u32::try_from(place).unwrap_or(u32::MAX)).await;
            let mut command = redis::cmd("CLUSTER");
            command.arg("SLOTS");
            let answer =
                node.send(Request { command: &command, script: None, wait: None }, false, None).await;
            read(answer.map_err(|failure| failure.error)?, &node.address())
        };
        let all = nodes.into_iter().chain(self.seeds.iter().cloned()).enumerate();
        let mut answers: FuturesUnordered<_> = all.map(ask).collect();
        let mut first_cause = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(ranges) => {
                    self.take(ranges);
                    return Ok(());
                }
                Err(cause) => drop(first_cause.get_or_insert(cause)),
            }
        }
        Err(first_cause.expect("a cluster has a seed"))
    }

    /// Takes over a map. Whoever waits for a node that is no master any more waits no longer.
    fn take(&self, ranges: Vec<Range>) {
        let mut map = self.lock();
        let old = std::mem::take(&mut map.ranges);
        let has_some = |ranges: &[Range], address: &str| ranges.iter().any(|range| range.address == address);
        map.links.retain(|address, link| {
            // One that had none before may be about to get its first.
            let stays = has_some(&ranges, address) || !has_some(&old, address);
            if !stays {
                link.retire();
            }
            stays
        });
        if old != ranges {
            tracing::debug!(?ranges, "slots of the cluster");
        }
        map.ranges = ranges;
        map.moved.clear();
        map.is_fresh = true;
        map.version += 1;
    }
}

impl Watch {
    async fn run(self) {
        let refresh = async {
            loop {
                sleep(REFRESH).await;
                // Whoever calls meets the same error.
                let _ = timeout(REFRESH, self.shared.refresh()).await;
            }
        };
        tokio::select! {
            () = self.dropped.cancelled() => {}
            () = refresh => {}
        }
    }
}

/// The reply of CLUSTER SLOTS: from, up to, and the nodes, of which the first is the master. A host that a node does
/// not know of itself is the one that it was asked at.
pub(super) fn read(value: Value, asked: &str) -> Result<Vec<Range>> {
    let bad = || Error::Reply { script: "CLUSTER SLOTS", detail: "no slots".to_owned() };
    let Value::Array(entries) = value else { return Err(bad()) };
    let mut ranges = Vec::with_capacity(entries.len());
    for entry in entries {
        let Value::Array(parts) = entry else { return Err(bad()) };
        let [Value::Int(from), Value::Int(to), Value::Array(master), ..] = &parts[..] else {
            return Err(bad());
        };
        let [host, Value::Int(port), ..] = &master[..] else { return Err(bad()) };
        let host = match host {
            Value::BulkString(host) if !host.is_empty() => String::from_utf8_lossy(host).into_owned(),
            _ => asked.rsplit_once(':').map_or(asked, |(host, _)| host).to_owned(),
        };
        let slot = |number: i64| u16::try_from(number).ok().filter(|slot| *slot < SLOTS).ok_or_else(bad);
        ranges.push(Range { from: slot(*from)?, to: slot(*to)?, address: format!("{host}:{port}") });
    }
    ranges.sort_unstable_by_key(|range| range.from);
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: i64) -> Value {
        Value::Array(vec![Value::BulkString(host.into()), Value::Int(port), Value::BulkString(b"id".into())])
    }

    #[test]
    fn slots_have_the_owner_that_the_map_or_a_node_names() {
        let entry =
            |from, to, master| Value::Array(vec![Value::Int(from), Value::Int(to), master, node("r", 1)]);
        let reply = Value::Array(vec![entry(100, 16_383, node("b", 2)), entry(0, 9, node("", 1))]);
        let mut map = Map { ranges: read(reply, "a:7").unwrap(), ..Map::default() };
        assert_eq!(map.owner(0).as_deref(), Some("a:1"));
        assert_eq!(map.owner(9).as_deref(), Some("a:1"));
        assert_eq!(map.owner(10), None);
        assert_eq!(map.owner(16_383).as_deref(), Some("b:2"));
        map.moved.insert(9, "c:3".to_owned());
        assert_eq!(map.owner(9).as_deref(), Some("c:3"));
        assert_eq!(Map::default().owner(0), None);
    }

    #[test]
    fn what_is_no_map_is_refused() {
        let slots =
            |from, to| Value::Array(vec![Value::Array(vec![Value::Int(from), Value::Int(to), node("a", 1)])]);
        assert!(read(slots(0, 16_383), "a:1").is_ok());
        for bad in [slots(0, 16_384), slots(-1, 3), Value::Nil, Value::Array(vec![Value::Nil])] {
            assert!(read(bad, "a:1").is_err());
        }
    }
}
