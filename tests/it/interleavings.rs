//! Every interleaving of a small world: two schedulers, two ids, and what can go wrong between them, in every order. The
//! model is one of the protocol, not of the code: that the scripts are what it takes them for, `model.rs` shows.

mod parts;
mod world;

use parts::{Action, Fate, Flaw, GENERATIONS, IDS, Left, WORKERS};
use stateright::{Checker as _, Model, Property};
use world::World;

use crate::model::number;

const P1: &str = "P1: what is owed is handled in the end";
const P2: &str = "P2: nothing is early";
const P3: &str = "P3: nothing is handed out after its cancel";
const P4: &str = "P4: nobody is heard who does not hold the id";
const P4_TOKENS: &str = "P4: tokens grow, also over a failover";
const P5: &str = "P5: an id has one lease";
const P5_SEEN: &str = "P5: no two schedulers may run a handler of one id";

// What has to be possible, or the promises are kept by a world in which nothing happens.
const STALE: &str = "a stale hold is told so";
const RETAKEN: &str = "a lost lease is taken again";
const SUPERSEDED: &str = "a new registration ends a lost delivery";
const TWICE: &str = "a registration is handled twice";
// What no promise covers: a failover may lose what Redis had said yes to.
const FORGOTTEN: &str = "a failover forgets a registration";
const UNDONE: &str = "a failover brings a cancelled id back";
const HELD_TWICE: &str = "after a failover two schedulers run a handler of one id";

/// A world that begins empty, in which at most so much happens.
struct Interleavings {
    flaw: Flaw,
    left: Left,
    /// What is looked for.
    properties: Vec<&'static str>,
}

impl Model for Interleavings {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.left)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let left = &world.left;
        if left.ticks > 0 {
            actions.push(Action::Tick);
        }
        for id in 0..IDS {
            if left.registrations > 0 && usize::from(world.truth[id].registered) < GENERATIONS {
                actions.push(Action::Register(id));
            }
            if left.cancels > 0 {
                actions.push(Action::Cancel(id));
            }
        }
        for worker in 0..WORKERS {
            self.actions_of(worker, world, actions);
        }
        if left.failovers > 0 {
            actions.push(if world.replica.is_none() { Action::FallBehind } else { Action::Failover });
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        world.step(self.flaw, action);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let all = vec![
            Property::always(P1, |model: &Self, world: &World| world.all_is_handled_in_the_end(model.flaw)),
            Property::always(P2, |_, world: &World| !world.broken.early),
            Property::always(P3, |_, world: &World| !world.broken.after_cancel),
            Property::always(P4, |_, world: &World| !world.broken.stale_heard),
            Property::always(P4_TOKENS, |_, world: &World| !world.broken.token_repeats),
            Property::always(P5, |_, world: &World| !world.broken.two_leases),
            Property::always(P5_SEEN, |_, world: &World| world.rolled_back || !world.is_held_twice()),
            Property::sometimes(STALE, |_, world: &World| world.seen.stale),
            Property::sometimes(RETAKEN, |_, world: &World| world.seen.retaken),
            Property::sometimes(SUPERSEDED, |_, world: &World| world.seen.superseded),
            Property::sometimes(TWICE, |_, world: &World| world.seen.handled_twice),
            Property::sometimes(FORGOTTEN, |_, world: &World| world.seen.forgotten),
            Property::sometimes(UNDONE, |_, world: &World| world.seen.cancel_undone),
            Property::sometimes(HELD_TWICE, |_, world: &World| world.rolled_back && world.is_held_twice()),
        ];
        all.into_iter().filter(|property| self.properties.contains(&property.name)).collect()
    }
}

impl Interleavings {
    fn actions_of(&self, worker: usize, world: &World, actions: &mut Vec<Action>) {
        let fates = |fates: &[Fate]| {
            let may = |fate: &&Fate| **fate == Fate::Answered || world.left.faults > 0;
            fates.iter().filter(may).copied().collect::<Vec<_>>()
        };
        if (0..IDS).any(|id| world.takes(self.flaw, id).is_some()) {
            let fates = fates(&[Fate::Answered, Fate::ReplyLost, Fate::Cut]);
            actions.extend(fates.into_iter().map(|fate| Action::Claim(worker, fate)));
        }
        for id in 0..IDS {
            let Some(hand) = world.hands[worker][id] else { continue };
            if world.may_handle(worker, id) {
                actions.push(Action::Handle(worker, id));
            }
            if hand.handled {
                let fates = fates(&[Fate::Answered, Fate::ReplyLost]);
                actions.extend(fates.into_iter().map(|fate| Action::Ack(worker, id, fate)));
            } else if world.left.faults > 0 {
                actions.push(Action::Retry(worker, id));
            }
        }
        if world.left.faults > 0 && world.hands[worker].iter().any(Option::is_some) {
            actions.push(Action::Extend(worker));
            actions.push(Action::Crash(worker));
        }
    }
}

/// A world that is looked at as a whole.
struct Scope {
    left: Left,
    /// It has at least so many states, or the model has lost something.
    at_least: usize,
    possible: &'static [&'static str],
}

const ALWAYS: [&str; 7] = [P1, P2, P3, P4, P4_TOKENS, P5, P5_SEEN];
const FAULTS: Left = Left { ticks: 4, registrations: 2, cancels: 1, faults: 2, failovers: 0 };
const FAILOVER: Left = Left { ticks: 3, registrations: 2, cancels: 0, faults: 1, failovers: 1 };

const SCOPES: [Scope; 3] = [
    Scope { left: FAULTS, at_least: 100_000, possible: &[STALE, RETAKEN, SUPERSEDED, TWICE] },
    Scope {
        left: FAILOVER,
        at_least: 60_000,
        possible: &[STALE, RETAKEN, SUPERSEDED, TWICE, FORGOTTEN, HELD_TWICE],
    },
    // A cancel as well, but of one registration.
    Scope {
        left: Left { ticks: 4, registrations: 1, cancels: 1, ..FAILOVER },
        at_least: 15_000,
        possible: &[STALE, RETAKEN, TWICE, FORGOTTEN, UNDONE, HELD_TWICE],
    },
];

/// Where there is time.
const LONG: [Scope; 2] = [
    Scope {
        left: Left { ticks: 5, ..FAULTS },
        at_least: 500_000,
        possible: &[STALE, RETAKEN, SUPERSEDED, TWICE],
    },
    Scope {
        left: Left { ticks: 4, cancels: 1, ..FAILOVER },
        at_least: 1_000_000,
        possible: &[STALE, RETAKEN, SUPERSEDED, TWICE, FORGOTTEN, UNDONE, HELD_TWICE],
    },
];

#[test]
#[expect(clippy::print_stdout, reason = "how many states were looked at")]
fn every_interleaving_keeps_the_promises() {
    let long = number("OVERDUE_PROVE_SCALE").is_some_and(|scale| scale > 1);
    for Scope { left, at_least, possible } in SCOPES.iter().chain(LONG.iter().filter(|_| long)) {
        let begun = std::time::Instant::now();
        let properties = [&ALWAYS[..], possible].concat();
        let model = Interleavings { flaw: Flaw::None, left: *left, properties };
        let checked = model.checker().threads(2).symmetry_fn(World::named_alike).spawn_dfs().join();
        let (states, steps) = (checked.unique_state_count(), checked.state_count());
        println!("{left:?}: {states} states, {steps} steps between them, in {:?}", begun.elapsed());
        checked.assert_properties();
        assert!(states >= *at_least, "only {states} states: the model has lost something");
    }
}

/// A model that finds nothing whatever is wrong would prove nothing.
#[test]
#[expect(clippy::print_stdout, reason = "the shortest way to each broken promise")]
fn every_flaw_breaks_the_promise_that_it_has_to() {
    let flaws = [
        (Flaw::AckAsksForNoToken, P4, FAULTS),
        (Flaw::AckAsksForAnyLease, P4, FAULTS),
        (Flaw::AckTakesNewRegistration, P1, FAULTS),
        (Flaw::ClaimTakesLeased, P5, FAULTS),
        (Flaw::ClaimTakesLeased, P5_SEEN, FAULTS),
        (Flaw::LostLeasesStay, P1, FAULTS),
        (Flaw::SourceFirst, P1, FAULTS),
        (Flaw::ClockOfScheduler, P2, FAULTS),
        (Flaw::CancelLeavesLease, P3, FAULTS),
        (Flaw::RetryOverNewRegistration, P1, FAULTS),
        (Flaw::TokenWithoutTime, P4, FAILOVER),
        (Flaw::TokenWithoutTime, P4_TOKENS, FAILOVER),
        // No flaw of the scripts, and so a limit of what they can promise.
        (Flaw::ClockOfReplicaBehind, P4_TOKENS, FAILOVER),
    ];
    for (flaw, promise, left) in flaws {
        let model = Interleavings { flaw, left, properties: vec![promise] };
        let checked = model.checker().spawn_bfs().join();
        let states = checked.unique_state_count();
        let Some(path) = checked.discovery(promise) else {
            panic!("{flaw:?} does not break {promise:?} in {states} states");
        };
        println!("{flaw:?} breaks {promise:?}: {:?}", path.into_actions());
    }
}
