//! What a service manager is told.

use tokio::net::UnixDatagram;

use crate::support::{LIMIT, RedisServer, Rig, process::Place};

/// Waits until something is told that begins so.
async fn told(socket: &UnixDatagram, wanted: &str) {
    let waiting = async {
        let mut buffer = [0; 1024];
        loop {
            let len = socket.recv(&mut buffer).await.unwrap();
            if std::str::from_utf8(&buffer[..len]).unwrap().starts_with(wanted) {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("{wanted} was not told"));
}

#[tokio::test]
async fn a_service_manager_hears_how_it_is() {
    let rig = Rig::new().await;
    let (url, queue) = (RedisServer::shared().url(), rig.name());
    let place = Place::new(&format!("[redis]\nurl = \"{url}\"\n[queue.{queue}]\n"));
    let path = place.path("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    let serve = place.serve_with(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")]);
    told(&socket, "READY=1").await;
    told(&socket, "WATCHDOG=1").await;
    serve.signal("HUP");
    told(&socket, "RELOADING=1").await;
    told(&socket, "READY=1").await;
    // Once and again: it goes on.
    told(&socket, "WATCHDOG=1").await;
    told(&socket, "WATCHDOG=1").await;
    serve.stop().await;
    told(&socket, "STOPPING=1").await;
}
