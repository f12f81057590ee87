//! [`Link`]: the connection to one server.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{connect::Timeouts, durability::Wait, script::Script};
use crate::error::{Error, Result, Trouble, TroubleKind};

/// What is to be sent: a command, and the script that it calls, if it calls one.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) command: &'a Cmd,
    pub(super) script: Option<&'a Script>,
    /// What is waited for behind it.
    pub(super) wait: Option<Wait>,
}

/// Where a node of a cluster says that a slot is. What it says this to has not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Redirect {
    /// From now on.
    Moved { slot: u16, address: String },
    /// This once: the slot is being moved.
    Ask { address: String },
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) redirect: Option<Redirect>,
}

impl Failure {
    pub(super) fn kind(&self) -> Option<TroubleKind> {
        match &self.error {
            Error::Redis(trouble) => Some(trouble.kind),
            _ => None,
        }
    }

    fn of(error: RedisError) -> Self {
        let redirect = error.redirect_node().map(|(address, slot)| {
            let address = address.to_owned();
            match error.code() {
                Some("ASK") => Redirect::Ask { address },
                _ => Redirect::Moved { slot, address },
            }
        });
        Self { error: error.into(), redirect }
    }
}

/// One server. It is connected to on first use. A connection that broke, timed out (it may be half-open) or leads to a
/// demoted master is dropped, and the next call makes a new one; the failed call itself is never repeated, because it
/// may have run.
pub(super) struct Link {
    client: Client,
    config: AsyncConnectionConfig,
    connect_timeout: Duration,
    response_timeout: Duration,
    /// The number tells connections apart, so that a late error of an old one does not drop its successor.
    slot: Mutex<(u64, Option<MultiplexedConnection>)>,
    /// Cancelled when another server has taken its place: nobody waits for its answers then.
    retired: CancellationToken,
    spare: Spare,
    /// True once it was seen that the server knows WAITAOF, and has an AOF.
    can_sync: AtomicBool,
}

/// How many durable writes wait at once on one server: each has a connection.
const MAX_SPARE: usize = 32;

impl Link {
    pub(super) fn new(client: Client, timeouts: Timeouts) -> Arc<Self> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeouts.connect))
            .set_response_timeout(Some(timeouts.response));
        let (slot, retired, spare) = (Mutex::new((0, None)), CancellationToken::new(), Spare::new());
        let (connect_timeout, response_timeout) = (timeouts.connect, timeouts.response);
        let can_sync = AtomicBool::new(false);
        Arc::new(Self { client, config, connect_timeout, response_timeout, slot, retired, spare, can_sync })
    }

    /// Where it leads, as `host:port`.
    pub(super) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Ends all calls that wait for an answer, since another server has taken its place.
    pub(super) fn retire(&self) {
        self.retired.cancel();
    }

    /// Sends one command; loads its script first if the server does not know it. `asking` is for a slot that is on its
    /// way to this node.
    pub(super) async fn send(
        &self,
        request: Request<'_>,
        asking: bool,
        limit: Option<Duration>,
    ) -> Result<Value, Failure> {
        match request.wait {
            None => {
                let (number, connection) = self.connection(limit).await?;
                // Boxed: else its state, some 2 KB, is a part of every caller's, down to the stack of who polls it.
                let answer = self.in_time(Box::pin(exchange(connection, request, asking)), limit).await;
                match answer {
                    Ok(value) => Ok(value),
                    Err(error) => Err(self.failed(number, error).await),
                }
            }
            Some(wait) => Box::pin(self.send_and_wait(request, wait, asking, limit)).await,
        }
    }

    /// The same on a connection that nobody else has meanwhile, and waits there for what was written.
    async fn send_and_wait(
        &self,
        request: Request<'_>,
        wait: Wait,
        asking: bool,
        limit: Option<Duration>,
    ) -> Result<Value, Failure> {
        let spare = self.spare.take(limit.unwrap_or(self.connect_timeout)).await?;
        let mut connection = match spare.connection {
            Some(connection) => connection,
            None => self.own_connection(limit).await?,
        };
        self.try_out(&mut connection, wait).await?;
        let written = self.in_time(exchange(connection.clone(), request, asking), limit).await;
        let value = written.map_err(Failure::of)?;
        // The limits are for answers that come at once; this one takes as long as it is allowed to, and then some.
        let patience = wait.timeout() + self.response_timeout;
        connection.set_response_timeout(patience);
        match self.in_time(ask(&mut connection, &wait.command()), Some(patience)).await {
            Ok(answer) => {
                connection.set_response_timeout(self.response_timeout);
                self.spare.give_back(connection);
                wait.check(&answer)?;
                Ok(value)
            }
            // It is written all the same.
            Err(cause) => Err(wait.failed(&cause.to_string()).into()),
        }
    }

    async fn own_connection(&self, limit: Option<Duration>) -> Result<MultiplexedConnection> {
        let limit = limit.unwrap_or(self.connect_timeout);
        timeout(limit, self.new_connection()).await.unwrap_or_else(|_| Err(unreachable(limit)))
    }

    /// Whether the server can do what is to be waited for: asked once, before anything is written.
    async fn try_out(&self, connection: &mut MultiplexedConnection, wait: Wait) -> Result<(), Failure> {
        if let Some(trial) = wait.trial().filter(|_| !self.can_sync.load(Ordering::Relaxed)) {
            self.in_time(ask(connection, &trial), None).await.map_err(Failure::of)?;
            self.can_sync.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn in_time<T>(
        &self,
        sent: impl Future<Output = Result<T, RedisError>>,
        limit: Option<Duration>,
    ) -> Result<T, RedisError> {
        let mut sent = pin!(sent);
        let in_time = async {
            match limit {
                Some(limit) => timeout(limit, &mut sent).await.unwrap_or_else(|_| Err(too_late())),
                None => sent.await,
            }
        };
        tokio::select! {
            biased;
            answer = in_time => answer,
            () = self.retired.cancelled() => Err(replaced()),
        }
    }

    async fn connection(&self, limit: Option<Duration>) -> Result<(u64, MultiplexedConnection)> {
        let limit = self.connect_timeout.min(limit.unwrap_or(Duration::MAX));
        // One limit for waiting and connecting: else each of a crowd would wait for the attempts before its own.
        match timeout(limit, self.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(unreachable(limit)),
        }
    }

    async fn connect(&self) -> Result<(u64, MultiplexedConnection)> {
        // Held while connecting, so that a crowd of callers makes one connection, not one each.
        let mut slot = self.slot.lock().await;
        if let (number, Some(connection)) = &*slot {
            return Ok((*number, connection.clone()));
        }
        // Boxed: the state of connecting is large, and rare.
        let connection = Box::pin(self.new_connection()).await?;
        *slot = (slot.0 + 1, Some(connection.clone()));
        Ok((slot.0, connection))
    }

    /// A connection that nobody else uses.
    async fn new_connection(&self) -> Result<MultiplexedConnection> {
        let made = self.client.get_multiplexed_async_connection_with_config(&self.config).await;
        made.map_err(Error::from)
    }

    async fn failed(&self, number: u64, error: RedisError) -> Failure {
        let broken = matches!(error.kind(), ErrorKind::Parse) || error.is_unrecoverable_error();
        let failure = Failure::of(error);
        // A node of a cluster that sends callers elsewhere is well: its connection stays for the slots that it has.
        let useless = failure.kind().is_some_and(TroubleKind::ends_connection) && failure.redirect.is_none();
        if broken || useless {
            let mut slot = self.slot.lock().await;
            if slot.0 == number {
                slot.1 = None;
            }
        }
        failure
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, redirect: None }
    }
}

/// One command and its answer, with its script before it if that is needed. A command that failed is not said again
/// but after NOSCRIPT, which means that it has not run.
async fn exchange(
    mut connection: MultiplexedConnection,
    request: Request<'_>,
    asking: bool,
) -> Result<Value, RedisError> {
    let answer = if asking {
        Box::pin(ask_asking(&mut connection, request.command)).await
    } else {
        ask(&mut connection, request.command).await
    };
    match (&answer, request.script) {
        (Err(error), Some(script)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            Box::pin(async {
                ask(&mut connection, &script.load_command()).await?;
                if asking {
                    ask_asking(&mut connection, request.command).await
                } else {
                    ask(&mut connection, request.command).await
                }
            })
            .await
        }
        _ => answer,
    }
}

/// For a slot that is on its way to this node.
async fn ask_asking(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<Value, RedisError> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("ASKING").add_command(command.clone());
    let mut answers = connection.send_packed_commands(&pipeline, 1, 1).await?;
    whole(answers.pop().unwrap_or(Value::Nil))
}

async fn ask(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<Value, RedisError> {
    whole(connection.send_packed_command(command).await?)
}

fn whole(value: Value) -> Result<Value, RedisError> {
    match value {
        Value::ServerError(error) => Err(error.into()),
        value => Ok(value),
    }
}

/// Connections on which writes are waited for, each used by one call at a time.
struct Spare {
    idle: std::sync::Mutex<Vec<MultiplexedConnection>>,
    permits: Arc<Semaphore>,
}

/// The right to use one, and one that was used before, if there is one.
struct Taken {
    connection: Option<MultiplexedConnection>,
    _permit: OwnedSemaphorePermit,
}

impl Spare {
    fn new() -> Self {
        Self { idle: std::sync::Mutex::default(), permits: Arc::new(Semaphore::new(MAX_SPARE)) }
    }

    async fn take(&self, limit: Duration) -> Result<Taken, Failure> {
        let permit = timeout(limit, Arc::clone(&self.permits).acquire_owned()).await;
        let Ok(Ok(_permit)) = permit else {
            let detail = format!("{MAX_SPARE} durable writes wait already, and none ended within {limit:?}");
            // No timeout of the server's: its connections are well.
            return Err(Error::from(Trouble { kind: TroubleKind::Other, detail }).into());
        };
        Ok(Taken { connection: self.lock().pop(), _permit })
    }

    fn give_back(&self, connection: MultiplexedConnection) {
        self.lock().push(connection);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<MultiplexedConnection>> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn unreachable(limit: Duration) -> Error {
    Trouble { kind: TroubleKind::Unreachable, detail: format!("no connection within {limit:?}") }.into()
}

fn too_late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

fn replaced() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "another server has taken its place").into()
}
