//! What is to go wrong, and how often it did.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// Stands for every verb and command, those of the handshake too.
pub(crate) const ANY: &str = "*";

/// What becomes of a connection behind a request or a reply that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Both ends see it close.
    Close,
    /// It stays open, and nothing more comes through in either direction. TCP loses nothing between two bytes that
    /// arrive, so this is the only other way.
    Silence,
}

/// What strikes one request or its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never reaches Redis.
    LoseRequest(After),
    /// It reaches Redis, and its reply nobody.
    LoseReply(After),
    /// So many bytes of its reply come through, at most all but one; then the connection closes.
    CutReply(usize),
    /// Its reply, and so all behind it, comes so much later.
    Late(Duration),
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::LoseRequest(_) => "lose_request",
            Self::LoseReply(_) => "lose_reply",
            Self::CutReply(_) => "cut_reply",
            Self::Late(_) => "late",
        }
    }
}

/// What becomes of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// They work.
    Open,
    /// They are accepted, and stay silent for ever.
    Hang,
    /// They are reset at once.
    Refuse,
}

/// The switches of a proxy; all clones are one. Counts are by name: the fault, and behind a colon the verb that it
/// struck, as in `lose_reply:claim`.
#[derive(Debug, Clone)]
pub(crate) struct Faults(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    slow: watch::Sender<Slow>,
}

#[derive(Debug)]
struct State {
    aimed: Vec<Aimed>,
    storm: Option<Storm>,
    door: Door,
    links: HashMap<u64, Arc<Link>>,
    struck: BTreeMap<String, u64>,
    passed: BTreeMap<String, u64>,
    errors: Vec<String>,
}

#[derive(Debug)]
struct Aimed {
    verb: String,
    passes_left: usize,
    fault: Fault,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slow {
    stalled_until: Option<Instant>,
    delay: Duration,
}

/// Faults at random: the dice fall the same way for the same seed, though not upon the same requests.
#[derive(Debug)]
struct Storm {
    dice: StdRng,
    rate: f64,
}

/// One connection, as far as faults are concerned.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// True once nothing comes through any more.
    silent: AtomicBool,
    /// Both ends are to see it close.
    pub(super) closed: CancellationToken,
    /// Requests whose replies are to come, in their order.
    pub(super) pending: Mutex<VecDeque<Pending>>,
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) verb: String,
    pub(super) fault: Option<Fault>,
}

impl Link {
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::SeqCst)
    }

    pub(super) fn fall_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }
}

impl Faults {
    pub(super) fn new() -> Self {
        let state = State {
            aimed: Vec::new(),
            storm: None,
            door: Door::Open,
            links: HashMap::new(),
            struck: BTreeMap::new(),
            passed: BTreeMap::new(),
            errors: Vec::new(),
        };
        Self(Arc::new(Shared { state: Mutex::new(state), slow: watch::Sender::new(Slow::default()) }))
    }

    /// Strikes the next request of this verb.
    pub(crate) fn next(&self, verb: &str, fault: Fault) {
        self.nth(verb, 1, fault);
    }

    /// Strikes the `nth` request of this verb from now on. Of several that are due for one request the one that was
    /// asked for first strikes, and the others strike the next.
    pub(crate) fn nth(&self, verb: &str, nth: usize, fault: Fault) {
        assert!(nth > 0, "the first is number 1");
        self.state().aimed.push(Aimed { verb: verb.to_owned(), passes_left: nth - 1, fault });
    }

    /// Strikes this share of all requests, each with a fault at random.
    pub(crate) fn storm(&self, seed: u64, rate: f64) {
        self.state().storm = Some(Storm { dice: StdRng::seed_from_u64(seed), rate });
    }

    /// Holds all replies back for a time, and then goes on where it was.
    pub(crate) fn stall(&self, time: Duration) {
        self.0.slow.send_modify(|slow| slow.stalled_until = Some(Instant::now() + time));
    }

    /// Delays each reply from now on, as a long way would.
    pub(crate) fn delay(&self, delay: Duration) {
        self.0.slow.send_modify(|slow| slow.delay = delay);
    }

    /// Nothing comes through the connections of now any more, in either direction and for ever, and none of them
    /// closes: what a pulled cable looks like, or a NAT that forgot them. `door` is for new ones.
    pub(crate) fn half_open(&self, door: Door) {
        let mut state = self.state();
        state.door = door;
        let links = state.links.values().filter(|link| !link.silent.swap(true, Ordering::SeqCst)).count();
        state.strike("half_open", links);
    }

    /// What becomes of new connections from now on.
    pub(crate) fn door(&self, door: Door) {
        self.state().door = door;
    }

    /// Closes all connections of now.
    pub(crate) fn close_all(&self) {
        let mut state = self.state();
        state.links.values().for_each(|link| link.closed.cancel());
        let links = state.links.len();
        state.strike("close", links);
    }

    /// Ends all of it but the silence of connections.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        (state.door, state.storm) = (Door::Open, None);
        state.aimed.clear();
        self.0.slow.send_modify(|slow| *slow = Slow::default());
    }

    /// How often each fault really struck.
    pub(crate) fn struck(&self) -> BTreeMap<String, u64> {
        self.state().struck.clone()
    }

    /// How often this one did, as `lose_reply:claim`, or `lose_reply` for all verbs.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let of_fault = |found: &str| found == name || found.split(':').next() == Some(name);
        self.state().struck.iter().filter(|(found, _)| of_fault(found)).map(|(_, count)| count).sum()
    }

    /// How many replies of this verb came through whole that were no errors.
    pub(crate) fn passed(&self, verb: &str) -> u64 {
        self.state().passed.get(verb).copied().unwrap_or(0)
    }

    /// What went wrong without being asked for.
    pub(super) fn errors(&self) -> Vec<String> {
        self.state().errors.clone()
    }

    /// The fault for a request that has come.
    pub(super) fn fault_for(&self, verb: &str) -> Option<Fault> {
        let mut state = self.state();
        let mut found = None;
        for (at, aimed) in state.aimed.iter_mut().enumerate() {
            if aimed.verb != verb && aimed.verb != ANY {
                continue;
            }
            if aimed.passes_left > 0 {
                aimed.passes_left -= 1;
            } else if found.is_none() {
                found = Some(at);
            }
        }
        if let Some(at) = found {
            return Some(state.aimed.remove(at).fault);
        }
        state.storm.as_mut()?.roll()
    }

    /// The reply that a fault waited for did not come: it waits for the next one.
    pub(super) fn missed(&self, pending: &mut Pending) {
        if let Some(fault) = pending.fault.take() {
            self.next(&pending.verb, fault);
        }
    }

    pub(super) fn note_struck(&self, fault: Fault, verb: &str) {
        self.note(fault.name(), verb);
    }

    pub(super) fn note(&self, what: &str, verb: &str) {
        self.state().strike(&format!("{what}:{verb}"), 1);
    }

    pub(super) fn note_passed(&self, verb: &str) {
        *self.state().passed.entry(verb.to_owned()).or_default() += 1;
    }

    pub(super) fn note_error(&self, error: &std::io::Error) {
        self.state().errors.push(error.to_string());
    }

    /// Takes in a new connection, unless it is to be refused.
    pub(super) fn admit(&self, number: u64) -> Option<Arc<Link>> {
        let mut state = self.state();
        match state.door {
            Door::Open => {}
            Door::Hang => state.strike("hang", 1),
            Door::Refuse => {
                state.strike("refuse", 1);
                return None;
            }
        }
        let link = Arc::new(Link { silent: (state.door == Door::Hang).into(), ..Link::default() });
        state.links.insert(number, Arc::clone(&link));
        Some(link)
    }

    pub(super) fn forget(&self, number: u64) {
        self.state().links.remove(&number);
    }

    /// Waits as long as replies are held back: one that arrived then.
    pub(super) async fn pass(&self, arrived: Instant, verb: &str) {
        let mut slow = self.0.slow.subscribe();
        let mut held_by = None;
        loop {
            let Slow { stalled_until, delay } = *slow.borrow_and_update();
            let delayed_until = arrived + delay;
            let (until, what) = match stalled_until {
                Some(until) if until > delayed_until => (until, "stall"),
                _ => (delayed_until, "delay"),
            };
            if until <= Instant::now() {
                break;
            }
            held_by = Some(what);
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                _ = slow.changed() => {}
            }
        }
        if let Some(what) = held_by {
            self.note(what, verb);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn strike(&mut self, name: &str, times: usize) {
        if times > 0 {
            *self.struck.entry(name.to_owned()).or_default() += times as u64;
        }
    }
}

impl Storm {
    fn roll(&mut self) -> Option<Fault> {
        if !self.dice.random_bool(self.rate) {
            return None;
        }
        // A silence costs whoever waits a whole timeout, and so time that others could strike in.
        let after = if self.dice.random_bool(0.2) { After::Silence } else { After::Close };
        Some(match self.dice.random_range(0..4) {
            0 => Fault::LoseRequest(after),
            1 => Fault::LoseReply(after),
            2 => Fault::CutReply(self.dice.random_range(0..64)),
            _ => Fault::Late(Duration::from_millis(self.dice.random_range(1..100))),
        })
    }
}
