//! Everything at once, at random: two processes whose ways to Redis fail all the time.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::{Duration, Instant},
};

use overdue::{
    order::{NewOrder, Orders, Status},
    queue::{Due, Expected, Mode, Registration},
    redis::Timeouts,
};

use super::{nothing_is_left, through_with};
use crate::{
    orders::fields,
    support::{
        RedisServer, Rig, eventually, id,
        process::{Place, Serve},
        proxy::{After, Door, Fault, Faults, Proxy},
        receiver::{Answer, Receiver},
    },
};

/// How long it lasts, at least.
const STORM: Duration = Duration::from_secs(6);
/// How many faults have to strike in it.
const FAULTS: u64 = 150;
/// One of so many requests is struck.
const RATE: f64 = 1.0 / 12.0;
/// Silences are to be many, so they have to be short. A busy machine only makes the storm worse.
const SHORT: Timeouts = Timeouts { connect: Duration::from_secs(1), response: Duration::from_millis(500) };
const PER_WAVE: usize = 10;

/// A queue for each way out, and what was put into them.
struct Queues {
    hooked: Rig,
    streamed: Rig,
    ordered: Rig,
    put: usize,
}

impl Queues {
    fn config(&self, proxy: &Proxy, receiver: &Receiver) -> String {
        // A lease that ran out while a handler ran looks like a death; here that happens often, and kills nobody.
        let common = "poll_interval = \"20ms\"\nlease = \"1s\"\nmax_crashes = 1000\nmax_attempts = 1000";
        format!(
            "[redis]\nurl = \"{}\"\nconnect_timeout = \"1s\"\nresponse_timeout = \"500ms\"\n\
             [queue.{}]\n{common}\nhandler = {{ type = \"webhook\", url = \"{}\" }}\n\
             [queue.{}]\n{common}\nhandler.type = \"stream\"\n\
             [queue.{}]\n{common}\nhandler.type = \"order\"\n",
            proxy.url(),
            self.hooked.name(),
            receiver.url(),
            self.streamed.name(),
            self.ordered.name(),
        )
    }

    fn names(&self) -> Vec<String> {
        (0..self.put).map(|n| format!("n{n}")).collect()
    }

    /// Some more ids. Registering anew what has fired is another registration, so those for the stream are put in
    /// past the proxy; the others say it again until they have an answer.
    async fn put(&mut self, proxy: &Proxy) {
        let names: Vec<String> = (self.put..self.put + PER_WAVE).map(|n| format!("n{n}")).collect();
        self.put += PER_WAVE;
        let due = Due::In(Duration::from_millis(100));
        let all: Vec<_> =
            names.iter().map(|name| Registration { id: id(name), due, payload: None }).collect();
        let (mode, expected) = (Mode::Replace, Expected::Anything);
        self.streamed.schedule(&all, mode, expected).await.expect("scheduled");

        let hooked = through_with(proxy, &self.hooked, SHORT);
        let registered = async || hooked.schedule(&all, mode, expected).await.ok();
        eventually("they are registered", registered).await;
        let orders = Orders::new(through_with(proxy, &self.ordered, SHORT));
        let new: Vec<_> =
            names.iter().map(|name| NewOrder { id: id(name), due, fields: fields(&[]) }).collect();
        eventually("they are submitted", async || orders.submit(&new).await.ok()).await;
    }
}

/// Every now and then what no single request brings about.
fn gust(faults: &Faults, wave: usize) {
    match wave % 8 {
        2 => faults.close_all(),
        4 => faults.half_open(Door::Open),
        5 => faults.stall(Duration::from_millis(150)),
        6 => faults.stall(Duration::from_millis(700)),
        7 => faults.next("extend", Fault::LoseReply(After::Silence)),
        _ => {}
    }
}

#[tokio::test]
async fn a_storm_over_two_processes_loses_nothing_and_the_stream_has_each_id_once() {
    let seed: u64 =
        std::env::var("SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
    eprintln!("SEED={seed}");
    let server = RedisServer::start();
    let (hooked, streamed, ordered) =
        (Rig::on(&server).await, Rig::on(&server).await, Rig::on(&server).await);
    let mut queues = Queues { hooked, streamed, ordered, put: 0 };
    let receiver = Receiver::start(&[Answer::Status(200)]).await;
    let proxies = [0, 1, 2].map(|_| Proxy::start(&server));
    let mut serves: Vec<(Place, Serve)> = Vec::new();
    for proxy in &proxies[..2] {
        let place = Place::new(&queues.config(proxy, &receiver));
        let serve = place.serve().await;
        serves.push((place, serve));
    }
    for (n, proxy) in (0..).zip(&proxies) {
        proxy.faults().storm(seed.wrapping_add(n), RATE);
    }

    let names = ["lose_request", "lose_reply", "cut_reply", "late", "close", "half_open", "stall"];
    let of = |proxy: &Proxy| names.map(|name| proxy.faults().count(name)).iter().sum::<u64>();
    let struck = || proxies.iter().map(of).sum::<u64>();
    let begun = Instant::now();
    let mut wave = 0;
    while begun.elapsed() < STORM || struck() < FAULTS {
        let done = receiver.calls().len();
        queues.put(&proxies[2]).await;
        gust(proxies[wave / 8 % 2].faults(), wave);
        wave += 1;
        // Work has to go on in it.
        eventually("more is handled", async || (receiver.calls().len() > done).then_some(())).await;
    }
    proxies.iter().for_each(|proxy| proxy.faults().heal());
    let healed = Instant::now();
    for rig in [&queues.hooked, &queues.streamed, &queues.ordered] {
        nothing_is_left(rig).await;
    }
    let calm = healed.elapsed();

    let expected: BTreeSet<String> = queues.names().into_iter().collect();
    let called: Vec<String> =
        receiver.calls().iter().map(|call| call.json()["data"]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(called.iter().cloned().collect::<BTreeSet<_>>(), expected, "webhooks, SEED={seed}");
    let entries: Vec<(String, BTreeMap<String, String>)> =
        queues.streamed.on_key("XRANGE", "fired", ("-", "+")).await;
    let streamed: BTreeSet<String> = entries.iter().map(|(_, entry)| entry["id"].clone()).collect();
    assert_eq!(streamed, expected, "stream, SEED={seed}");
    assert_eq!(entries.len(), expected.len(), "stream, SEED={seed}");
    let told = told(&queues.ordered, expected.len()).await;
    assert!(told.values().all(|count| *count == 1), "orders, SEED={seed}: {told:?}");
    assert_eq!(told.len(), 2 * expected.len(), "orders, SEED={seed}");
    report(&proxies, called.len() - expected.len(), expected.len(), calm);
    for (_, serve) in serves {
        serve.stop().await;
    }
}

/// How often each order was created and expired, by its events.
async fn told(rig: &Rig, orders_len: usize) -> BTreeMap<(String, &'static str), usize> {
    let orders = Orders::new((**rig).clone());
    // Those of the last wave may still be in the intake when the queue of their deadlines is empty.
    eventually("all have expired", async || {
        (orders.counts().await.ok()?.expired == orders_len as u64).then_some(())
    })
    .await;
    let (mut told, mut after) = (BTreeMap::new(), None);
    loop {
        let page = orders.events(after.as_deref(), 1000).await.unwrap();
        if page.events.is_empty() {
            return told;
        }
        for event in page.events {
            let what = if event.r#type == Status::Expired { "expired" } else { "created" };
            *told.entry((event.id, what)).or_default() += 1;
        }
        after = page.last;
    }
}

fn report(proxies: &[Proxy], twice: usize, count: usize, calm: Duration) {
    let mut struck: BTreeMap<String, u64> = BTreeMap::new();
    let mut verbs = HashSet::new();
    for (name, times) in proxies.iter().flat_map(Proxy::struck) {
        let (what, verb) = name.split_once(':').unwrap_or((&name, ""));
        *struck.entry(what.to_owned()).or_default() += times;
        verbs.insert(verb.to_owned());
    }
    eprintln!(
        "{count} ids in each of three queues, {twice} called again; all done {calm:.2?} after the storm"
    );
    eprintln!("struck: {struck:?}, on {} commands", verbs.len());
}
