//! A network that can be broken: a TCP proxy in front of a redis-server that knows which reply belongs to which
//! request, so that faults can be aimed at verbs.
//!
//! ```text
//!  client --TCP--> requests --> fault? --> Redis
//!  client <--TCP-- fault? <-- replies <-- Redis        in the order of the requests, per connection
//! ```

mod faults;
mod link;
pub(crate) mod resp;
mod verbs;

use std::{
    collections::BTreeMap,
    net::{self, SocketAddr},
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
};

pub(crate) use faults::{ANY, After, Door, Fault, Faults};
use tokio::{
    net::{TcpListener, TcpStream, UnixStream},
    runtime,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    RedisServer,
    server::{PASSWORD, USER},
};

/// Runs in a thread of its own, so that a test may block while it waits for a program. Gone when dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    faults: Faults,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of this server, on a free port.
    pub(crate) fn start(server: &RedisServer) -> Self {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket of ours");
        let address = listener.local_addr().expect("it is bound");
        let (faults, stop) = (Faults::new(), CancellationToken::new());
        let socket = server.socket();
        let listening = Listening { faults: faults.clone(), socket };
        let ended = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a runtime for it");
                ended.run_until_cancelled(listening.run(listener)).await
            });
        });
        Self { address, faults, stop, thread: Some(thread) }
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("redis://{USER}:{PASSWORD}@{}", self.address)
    }

    /// The same for those who may do everything.
    pub(crate) fn root_url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The switches.
    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// How often each fault really struck, by its name.
    pub(crate) fn struck(&self) -> BTreeMap<String, u64> {
        self.faults.struck()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().expect("taken only here").join();
        if !thread::panicking() {
            ended.expect("the proxy does not panic");
            assert!(self.faults.errors().is_empty(), "the proxy failed: {:?}", self.faults.errors());
        }
    }
}

struct Listening {
    faults: Faults,
    socket: PathBuf,
}

impl Listening {
    async fn run(self, listener: TcpListener) {
        let (this, verbs) = (Arc::new(self), Arc::new(verbs::Verbs::default()));
        let mut links = JoinSet::new();
        for number in 0.. {
            let (client, _) = listener.accept().await.expect("a connection");
            while links.try_join_next().is_some() {}
            links.spawn(Arc::clone(&this).serve(number, client, Arc::clone(&verbs)));
        }
    }

    async fn serve(self: Arc<Self>, number: u64, client: TcpStream, verbs: Arc<verbs::Verbs>) {
        let faults = &self.faults;
        let Some(link) = faults.admit(number) else {
            let _ = client.set_zero_linger();
            return;
        };
        // A server that is not there is seen as one that closes.
        if let Ok(server) = UnixStream::connect(&self.socket).await {
            let _ = client.set_nodelay(true);
            link::Pumps { link: &link, faults, verbs: &verbs }.run(client, server).await;
        }
        faults.forget(number);
    }
}
