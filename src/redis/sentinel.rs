//! [`Sentinel`]: the master that sentinels name, and after a failover the next one.
//! <https://redis.io/docs/latest/develop/reference/sentinel-clients/>

use std::{
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use redis::Value;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    link::{Link, Request},
    servers::Access,
};
use crate::{
    config::RedisUrl,
    error::{Error, Result, Trouble, TroubleKind},
};

/// How long to give one that was asked before the next one is asked too.
pub(super) const STAGGER: Duration = Duration::from_millis(50);
/// How long to wait before another sentinel is listened to, when one has hung up.
const RELISTEN: Duration = Duration::from_millis(500);
/// Where sentinels say that there is another master: `name old-host old-port new-host new-port`.
const SWITCH_MASTER: &str = "+switch-master";

/// A master that moves. It is asked for on first use, when the link to it fails, and a sentinel is listened to for
/// failovers that no link notices, as where the old master is alive but cut off.
pub(super) struct Sentinel {
    watch: Watch,
    watching: Once,
    _end_of_watch: DropGuard,
}

/// What the one who listens needs, too.
#[derive(Clone)]
struct Watch {
    shared: Arc<Shared>,
    dropped: CancellationToken,
}

struct Shared {
    urls: Vec<String>,
    sentinels: Vec<Arc<Link>>,
    master: String,
    access: Access,
    current: Mutex<Option<Arc<Link>>>,
    /// Held by who asks, so that a crowd of callers asks once.
    finding: tokio::sync::Mutex<()>,
}

impl Sentinel {
    pub(super) fn new(sentinels: &[RedisUrl], master: &str, access: Access) -> Result<Arc<Self>> {
        let urls: Vec<String> = sentinels.iter().map(|url| url.as_str().to_owned()).collect();
        let links = urls.iter().map(|url| access.link_to_sentinel(url)).collect::<Result<_>>()?;
        let dropped = CancellationToken::new();
        let shared = Arc::new(Shared {
            urls,
            sentinels: links,
            master: master.to_owned(),
            access,
            current: Mutex::new(None),
            finding: tokio::sync::Mutex::new(()),
        });
        let _end_of_watch = dropped.clone().drop_guard();
        Ok(Arc::new(Self { watch: Watch { shared, dropped }, watching: Once::new(), _end_of_watch }))
    }

    /// Sends to the master. Nothing is sent twice.
    pub(super) async fn send(&self, request: Request<'_>, limit: Option<Duration>) -> Result<Value> {
        let link = self.master(limit).await?;
        let answer = link.send(request, false, limit).await;
        if answer.as_ref().is_err_and(|failure| failure.kind().is_some_and(TroubleKind::ends_connection)) {
            self.watch.shared.forget(&link);
        }
        answer.map_err(|failure| failure.error)
    }

    /// What the sentinels call the master.
    pub(super) fn name(&self) -> &str {
        &self.watch.shared.master
    }

    /// What each of them says.
    pub(super) async fn ask_all(&self) -> Vec<(String, Result<String>)> {
        let shared = &self.watch.shared;
        let ask = async |sentinel: &Arc<Link>| {
            let answer = shared.ask(sentinel).await.map(|(host, port)| format!("{host}:{port}"));
            (sentinel.address(), answer)
        };
        let mut answers = Vec::with_capacity(shared.sentinels.len());
        for sentinel in &shared.sentinels {
            answers.push(ask(sentinel).await);
        }
        answers
    }

    /// The link to the master.
    pub(super) async fn master(&self, limit: Option<Duration>) -> Result<Arc<Link>> {
        self.watching.call_once(|| drop(tokio::spawn(self.watch.clone().run())));
        let shared = &self.watch.shared;
        if let Some(link) = shared.current() {
            return Ok(link);
        }
        let limit = shared.access.timeouts().connect.min(limit.unwrap_or(Duration::MAX));
        timeout(limit, shared.find())
            .await
            .unwrap_or_else(|_| Err(shared.no_master(&format!("no answer within {limit:?}"))))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Option<Arc<Link>> {
        self.lock().clone()
    }

    /// The next call asks for the master anew. What waits for an answer of this one goes on waiting.
    fn forget(&self, link: &Arc<Link>) {
        let mut current = self.lock();
        if current.as_ref().is_some_and(|held| Arc::ptr_eq(held, link)) {
            *current = None;
        }
    }

    /// Asks the sentinels one after the other, the next one when one takes long, until one names a server that says of
    /// itself that it is a master: during a failover some still name the old one.
    async fn find(&self) -> Result<Arc<Link>> {
        let _alone = self.finding.lock().await;
        if let Some(link) = self.current() {
            return Ok(link);
        }
        let ask = |(place, sentinel): (usize, &Arc<Link>)| {
            let (sentinel, url) = (Arc::clone(sentinel), &self.urls[place]);
            async move {
                sleep(STAGGER * u32::try_from(place).unwrap_or(u32::MAX)).await;
                let (host, port) = self.ask(&sentinel).await?;
                let link = self.access.link_to_master(url, &host, port)?;
                check_role(&link).await.map(|()| link)
            }
        };
        let mut answers: FuturesUnordered<_> = self.sentinels.iter().enumerate().map(ask).collect();
        let mut causes = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(link) => {
                    *self.lock() = Some(Arc::clone(&link));
                    return Ok(link);
                }
                Err(cause) => causes.push(cause.to_string()),
            }
        }
        causes.sort_unstable();
        causes.dedup();
        Err(self.no_master(&causes.join("; ")))
    }

    async fn ask(&self, sentinel: &Link) -> Result<(String, u16)> {
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let answer =
            sentinel.send(Request { command: &command, script: None, wait: None }, false, None).await;
        let value = answer.map_err(|failure| failure.error)?;
        let named: Option<(String, u16)> = redis::from_redis_value(value).ok();
        named.ok_or_else(|| self.no_master(&format!("sentinel {} does not know it", sentinel.address())))
    }

    fn no_master(&self, why: &str) -> Error {
        let detail = format!("no master `{}` by its {} sentinels: {why}", self.master, self.sentinels.len());
        Trouble { kind: TroubleKind::Unreachable, detail }.into()
    }
}

async fn check_role(link: &Link) -> Result<()> {
    let role = redis::cmd("ROLE");
    let answer = link.send(Request { command: &role, script: None, wait: None }, false, None).await;
    let is_master = match answer.map_err(|failure| failure.error)? {
        Value::Array(parts) => match parts.first() {
            Some(Value::BulkString(role)) => role == b"master",
            Some(Value::SimpleString(role)) => role == "master",
            _ => false,
        },
        _ => false,
    };
    if is_master {
        return Ok(());
    }
    let detail = format!("{} is not the master yet, or no more", link.address());
    Err(Trouble { kind: TroubleKind::ReadOnly, detail }.into())
}

impl Watch {
    /// Listens to one sentinel after the other until the handle is dropped.
    async fn run(self) {
        let dropped = self.dropped.clone();
        let listen = async {
            loop {
                for sentinel in &self.shared.sentinels {
                    self.listen(sentinel).await;
                    sleep(RELISTEN).await;
                }
            }
        };
        tokio::select! {
            () = dropped.cancelled() => {}
            () = listen => {}
        }
    }

    async fn listen(&self, sentinel: &Arc<Link>) {
        let subscribed = async {
            let mut subscription = sentinel.client().get_async_pubsub().await?;
            subscription.subscribe(SWITCH_MASTER).await?;
            Ok::<_, redis::RedisError>(subscription)
        };
        let limit = self.shared.access.timeouts().connect;
        let Ok(Ok(subscription)) = timeout(limit, subscribed).await else { return };
        // What was said before anybody listened.
        if let Ok((host, port)) = self.shared.ask(sentinel).await {
            self.moved(&host, port);
        }
        let mut messages = subscription.into_on_message();
        while let Some(message) = messages.next().await {
            let said: String = message.get_payload().unwrap_or_default();
            let parts: Vec<&str> = said.split(' ').collect();
            if let [name, _, _, host, port] = parts[..]
                && name == self.shared.master
                && let Ok(port) = port.parse()
            {
                self.moved(host, port);
            }
        }
    }

    /// The master is there now.
    fn moved(&self, host: &str, port: u16) {
        let Some(link) = self.shared.current() else { return };
        if link.address() != format!("{host}:{port}") {
            tracing::info!(
                master = self.shared.master,
                from = link.address(),
                to = format!("{host}:{port}"),
                "failover"
            );
            self.shared.forget(&link);
            link.retire();
        }
    }
}
