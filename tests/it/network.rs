//! What the network between overdue and Redis can do: lose, cut, stall, and fall silent without a word.

mod half_open;
mod lost;
mod proxy;
mod pull;
mod serve;
mod storm;

use overdue::{
    duration,
    queue::Queue,
    redis::{Redis, Timeouts},
};

use crate::support::{
    PATIENT, RedisServer, Rig, eventually,
    process::{Place, Serve},
    proxy::Proxy,
};

/// The queue of a rig as somebody sees it whose way to Redis is the proxy.
fn through(proxy: &Proxy, rig: &Rig) -> Queue {
    through_with(proxy, rig, PATIENT)
}

fn through_with(proxy: &Proxy, rig: &Rig, timeouts: Timeouts) -> Queue {
    let redis = Redis::open(&proxy.url(), timeouts).expect("a valid url");
    Queue::new(redis, "overdue", rig.name().clone())
}

/// A `serve` whose way to Redis is a proxy, and a rig with a way of its own.
struct Serving {
    rig: Rig,
    proxy: Proxy,
    place: Place,
    serve: Serve,
}

impl Serving {
    /// With this handler; `more` goes into the section of the queue.
    async fn new(timeouts: &Timeouts, handler: &str, more: &str) -> Self {
        let rig = Rig::new().await;
        let proxy = Proxy::start(RedisServer::shared());
        let place = Place::new(&config(&proxy, &rig, timeouts, handler, more));
        let serve = place.serve().await;
        Self { rig, proxy, place, serve }
    }

    /// Waits until the `log` handler wrote a line for this id.
    async fn handles(&self, name: &str) {
        let what = format!("{name} is handled");
        eventually(&what, async || self.serve.expired().iter().any(|id| id == name).then_some(())).await;
    }

    async fn nothing_is_left(&self) {
        nothing_is_left(&self.rig).await;
    }
}

fn config(proxy: &Proxy, rig: &Rig, timeouts: &Timeouts, handler: &str, more: &str) -> String {
    let Timeouts { connect, response } = *timeouts;
    let (connect, response) = (duration::format(connect), duration::format(response));
    let (url, queue) = (proxy.url(), rig.name());
    format!(
        "[redis]\nurl = \"{url}\"\nconnect_timeout = \"{connect}\"\nresponse_timeout = \"{response}\"\n\
         [queue.{queue}]\npoll_interval = \"20ms\"\n{more}\nhandler.type = \"{handler}\"\n"
    )
}

async fn nothing_is_left(rig: &Rig) {
    eventually("nothing is left", async || {
        let counts = rig.counts().await.ok()?;
        (counts.scheduled + counts.leased + counts.dead == 0).then_some(())
    })
    .await;
}
