//! What the network between overdue and Redis can do: lose, cut, stall, and fall silent without a word.

mod lost;
mod proxy;

use overdue::{
    queue::Queue,
    redis::{Redis, Timeouts},
};

use crate::support::{PATIENT, Rig, proxy::Proxy};

/// The queue of a rig as somebody sees it whose way to Redis is the proxy.
fn through(proxy: &Proxy, rig: &Rig) -> Queue {
    through_with(proxy, rig, PATIENT)
}

fn through_with(proxy: &Proxy, rig: &Rig, timeouts: Timeouts) -> Queue {
    let redis = Redis::open(&proxy.url(), timeouts).expect("a valid url");
    Queue::new(redis, "overdue", rig.name().clone())
}
