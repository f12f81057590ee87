//! One connection through the proxy: requests one way, replies the other.

use std::{
    io,
    sync::{MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::sleep,
};

use super::{
    faults::{After, Fault, Faults, Link, Pending},
    resp::Frames,
    verbs::Verbs,
};

/// How a direction ended.
enum End {
    /// The other one has to end as well.
    Both,
    /// Nobody is to notice.
    Unseen,
}

pub(super) struct Pumps<'a> {
    pub(super) link: &'a Link,
    pub(super) faults: &'a Faults,
    pub(super) verbs: &'a Verbs,
}

impl Pumps<'_> {
    /// Runs until one of the ends closes, or a fault closes it.
    pub(super) async fn run(&self, client: TcpStream, server: UnixStream) {
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let replies = async {
            match self.replies(from_server, to_client).await {
                Ok(End::Both) => {}
                Ok(End::Unseen) => std::future::pending().await,
                Err(error) => self.failed(&error),
            }
        };
        tokio::select! {
            () = self.link.closed.cancelled() => {}
            () = replies => {}
            ended = self.requests(from_client, to_server) => if let Err(error) = ended { self.failed(&error) },
        }
        for mut pending in self.pending().drain(..) {
            self.faults.missed(&mut pending);
        }
    }

    async fn requests(
        &self,
        from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut requests = Frames::new(from);
        while let Some(request) = requests.next().await? {
            let verb = self.verbs.name(&request);
            if self.link.is_silent() {
                self.faults.note("swallow", &verb);
                continue;
            }
            let fault = self.faults.fault_for(&verb);
            if let Some(fault @ Fault::LoseRequest(after)) = fault {
                self.faults.note_struck(fault, &verb);
                if after == After::Close {
                    return Ok(());
                }
                self.link.fall_silent();
                continue;
            }
            self.pending().push_back(Pending { verb, fault });
            to.write_all(&request).await?;
        }
        Ok(())
    }

    async fn replies(
        &self,
        from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<End> {
        let mut replies = Frames::new(from);
        while let Some(reply) = replies.next().await? {
            if reply[0] == b'>' {
                // A push of RESP3 answers nothing.
                if !self.link.is_silent() {
                    to.write_all(&reply).await?;
                }
                continue;
            }
            let pending = self.pending().pop_front();
            let mut pending = pending.ok_or_else(|| io::Error::other("a reply to no request"))?;
            if reply.starts_with(b"-NOSCRIPT") {
                // No reply of the verb, which comes again as soon as it is loaded.
                self.faults.missed(&mut pending);
            }
            self.faults.pass(replies.arrived, &pending.verb).await;
            if let Some(Fault::Late(time)) = pending.fault {
                sleep(time).await;
            }
            if self.link.is_silent() {
                self.faults.missed(&mut pending);
                continue;
            }
            let Pending { verb, fault } = pending;
            if let Some(fault) = fault {
                self.faults.note_struck(fault, &verb);
            }
            match fault {
                // At once: the reply behind it would be taken for this one.
                Some(Fault::LoseReply(After::Close)) => return Ok(End::Both),
                Some(Fault::LoseReply(After::Silence)) => self.link.fall_silent(),
                Some(Fault::CutReply(bytes)) => {
                    to.write_all(&reply[..bytes.min(reply.len() - 1)]).await?;
                    return Ok(End::Both);
                }
                _ => {
                    // First, so that who has the reply finds it counted.
                    if reply[0] != b'-' {
                        self.faults.note_passed(&verb);
                    }
                    to.write_all(&reply).await?;
                }
            }
        }
        Ok(if self.link.is_silent() { End::Unseen } else { End::Both })
    }

    /// A peer that is gone is what the tests are about, and no error of the proxy.
    fn failed(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::Other {
            self.faults.note_error(error);
        }
    }

    fn pending(&self) -> MutexGuard<'_, std::collections::VecDeque<Pending>> {
        self.link.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
