//! What can happen to a queue, and how likely it is to happen next.

use overdue::queue::{Mode, SinkKind};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::select,
    strategy::{BoxedStrategy, Union},
};

use super::reference::Reference;
use crate::support::LEASE_MS;

/// Few, so that they meet, and of the kinds that other queues refuse.
pub(crate) const NAMES: [&str; 5] = ["a", "b", "42", "c:d e", "ü"];

/// One of [`NAMES`].
pub(crate) type Name = &'static str;

/// A step: a verb, a command of a foreign client, or time that passes.
#[derive(Debug, Clone)]
pub(crate) enum Transition {
    Pass { ms: i64 },
    Zadd { id: Name, score: Score },
    Hset { id: Name, payload: String },
    Zrem { id: Name },
    Schedule { mode: Mode, expected: Wanted, items: Vec<Item> },
    Reschedule { id: Name, due_in: i64, expected: Wanted },
    Cancel { ids: Vec<Name> },
    Claim { limit: usize, lease_ms: i64, max_crashes: Option<u32> },
    Fire { limit: usize },
    Begin { hold: Hold },
    Ack { holds: Vec<Hold> },
    AckClaim { hold: Hold },
    Retry { holds: Vec<Hold>, delay_ms: i64, max_attempts: u32 },
    Release { holds: Vec<Hold> },
    Bury { holds: Vec<Hold> },
    Extend { hold: Hold, lease_ms: i64, whole_claim: bool },
    Reject,
    RetryDead { ids: Vec<Name> },
    DeleteDead { ids: Vec<Name> },
    TrimDead { retention_ms: i64 },
    Pause { paused: bool },
    Count,
}

/// A registration, counted from now, so that it means the same when steps before it are left out.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) id: Name,
    pub(crate) due_in: i64,
    pub(crate) payload: Option<String>,
    pub(crate) traced: bool,
}

/// What must hold for a change to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    Anything,
    Absent,
    DueIn(i64),
}

/// What a foreign client writes as a score.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Score {
    In(i64),
    /// A quarter of a millisecond later.
    InAndABit(i64),
    /// Now, in seconds.
    Seconds,
    PastTheYear9999,
    Infinite,
    MinusInfinite,
}

/// The hold that a claim had on an id: of all claims of it the newest, or that so many before it. If there was none, a
/// token that nobody ever had.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hold {
    pub(crate) id: Name,
    pub(crate) back: usize,
}

type Steps = BoxedStrategy<Transition>;

fn name() -> impl Strategy<Value = Name> + Clone {
    select(&NAMES[..])
}

fn names() -> impl Strategy<Value = Vec<Name>> {
    vec(name(), 1..3)
}

fn payload() -> impl Strategy<Value = String> + Clone {
    let json = (0..100_u8).prop_map(|n| format!(r#"{{"n":{n}}}"#));
    let text = (0..100_u8).prop_map(|n| format!("text {n}"));
    prop_oneof![json, text]
}

/// Deadlines lie about as far ahead as leases last, so that each happens amid the other.
fn due_in() -> impl Strategy<Value = i64> + Clone {
    prop_oneof![Just(0), 1..3_i64, -LEASE_MS..2 * LEASE_MS]
}

fn wanted(state: &Reference) -> impl Strategy<Value = Wanted> + Clone + use<> {
    let known: Vec<i64> = state.instants().map(|at| at - state.now).chain([1]).collect();
    prop_oneof![6 => Just(Wanted::Anything), 1 => Just(Wanted::Absent), 2 => select(known).prop_map(Wanted::DueIn)]
}

fn lease_ms() -> impl Strategy<Value = i64> {
    prop_oneof![Just(LEASE_MS), 1..2 * LEASE_MS]
}

fn passing(state: &Reference) -> Steps {
    // To the very instant at which something happens, and to just before it.
    let ahead = state.instants().map(|at| at - state.now).filter(|ms| *ms > 0);
    let exact: Vec<i64> = ahead.flat_map(|ms| [ms, ms - 1]).filter(|ms| *ms > 0).chain([1]).collect();
    prop_oneof![3 => select(exact), 1 => 1..LEASE_MS].prop_map(|ms| Transition::Pass { ms }).boxed()
}

/// To the end of all leases: whoever holds something dies.
fn dying(state: &Reference) -> Steps {
    let last = state.stored.ends.values().max().map_or(1, |end| end - state.now);
    Just(Transition::Pass { ms: last.max(1) }).boxed()
}

fn foreign(state: &Reference) -> Steps {
    // A foreign client knows nothing of what else an id is, so that is where it has to be let loose.
    let busy = |id: &Name| state.stored.leased.contains_key(*id) || state.stored.dead.contains_key(*id);
    let busy: Vec<Name> = NAMES.into_iter().filter(busy).collect();
    let name = || match busy.is_empty() {
        true => name().boxed(),
        false => prop_oneof![select(busy.clone()), name()].boxed(),
    };
    let score = prop_oneof![
        12 => due_in().prop_map(Score::In),
        3 => due_in().prop_map(Score::InAndABit),
        1 => Just(Score::Seconds),
        1 => Just(Score::PastTheYear9999),
        1 => Just(Score::Infinite),
        1 => Just(Score::MinusInfinite),
    ];
    prop_oneof![
        4 => (name(), score).prop_map(|(id, score)| Transition::Zadd { id, score }),
        2 => (name(), payload()).prop_map(|(id, payload)| Transition::Hset { id, payload }),
        1 => name().prop_map(|id| Transition::Zrem { id }),
    ]
    .boxed()
}

fn registering(state: &Reference) -> Steps {
    let mode = select(&[Mode::Replace, Mode::Replace, Mode::Keep, Mode::Earliest, Mode::Latest][..]);
    let item = (name(), due_in(), option::of(payload()), prop::bool::weighted(0.2));
    let item = item.prop_map(|(id, due_in, payload, traced)| Item { id, due_in, payload, traced });
    let schedule = (mode, wanted(state), vec(item, 1..4));
    let reschedule = (name(), due_in(), wanted(state));
    prop_oneof![
        5 => schedule.prop_map(|(mode, expected, items)| Transition::Schedule { mode, expected, items }),
        1 => reschedule.prop_map(|(id, due_in, expected)| Transition::Reschedule { id, due_in, expected }),
        1 => names().prop_map(|ids| Transition::Cancel { ids }),
    ]
    .boxed()
}

fn taking() -> Steps {
    let limit = || prop_oneof![1 => 1..4_usize, 1 => Just(10_usize)];
    let claim = (limit(), lease_ms(), option::weighted(0.5, 1..3_u32));
    prop_oneof![
        8 => claim.prop_map(|(limit, lease_ms, max_crashes)| Transition::Claim { limit, lease_ms, max_crashes }),
        1 => limit().prop_map(|limit| Transition::Fire { limit }),
    ]
    .boxed()
}

fn settling(state: &Reference) -> Steps {
    let ever = (name(), 0..3_usize).prop_map(|(id, back)| Hold { id, back });
    let or_ever = |likely: Vec<Hold>| match likely.is_empty() {
        true => ever.clone().boxed(),
        false => prop_oneof![4 => select(likely), 1 => ever.clone()].boxed(),
    };
    let live: Vec<Hold> = state.live_holds().collect();
    // Only an id that was lost before has to say that it begins.
    let suspects = live.iter().copied().filter(|hold| state.stored.records.contains_key(hold.id)).collect();
    let (hold, suspect) = (or_ever(live), or_ever(suspects));
    let holds = || vec(hold.clone(), 1..3);
    let retry = (holds(), 0..LEASE_MS, prop_oneof![1 => Just(1), 3 => 2..5_u32]);
    let extend = (hold.clone(), lease_ms(), any::<bool>());
    prop_oneof![
        4 => holds().prop_map(|holds| Transition::Ack { holds }),
        3 => hold.clone().prop_map(|hold| Transition::AckClaim { hold }),
        4 => retry.prop_map(|(holds, delay_ms, max_attempts)| Transition::Retry { holds, delay_ms, max_attempts }),
        2 => holds().prop_map(|holds| Transition::Release { holds }),
        2 => holds().prop_map(|holds| Transition::Bury { holds }),
        2 => extend.prop_map(|(hold, lease_ms, whole_claim)| Transition::Extend { hold, lease_ms, whole_claim }),
        4 => suspect.prop_map(|hold| Transition::Begin { hold }),
    ]
    .boxed()
}

fn keeping(state: &Reference) -> Steps {
    let dead: Vec<Name> = NAMES.into_iter().filter(|id| state.stored.dead.contains_key(*id)).collect();
    let ids = if dead.is_empty() {
        names().boxed()
    } else {
        prop_oneof![4 => vec(select(dead), 1), 1 => names()].boxed()
    };
    // A retention that is over in this very millisecond, or the one before.
    let ages = state.stored.dead.values().map(|at| state.now - at);
    let ages: Vec<i64> = ages.flat_map(|age| [age, (age - 1).max(0)]).chain([LEASE_MS]).collect();
    prop_oneof![
        4 => ids.clone().prop_map(|ids| Transition::RetryDead { ids }),
        1 => ids.prop_map(|ids| Transition::DeleteDead { ids }),
        2 => select(ages).prop_map(|retention_ms| Transition::TrimDead { retention_ms }),
        1 => Just(Transition::Count),
    ]
    .boxed()
}

fn pausing(state: &Reference) -> Steps {
    let changes = prop::bool::weighted(0.8);
    let paused = state.stored.paused;
    changes.prop_map(move |changes| Transition::Pause { paused: paused != changes }).boxed()
}

/// What may come next. Everything may always come, also a verb that finds nothing: so whatever is left out of a
/// sequence to make it smaller, the rest can still happen.
pub(super) fn next(state: &Reference) -> Steps {
    let stored = &state.stored;
    let weight = |likely: bool, weight: u32| if likely { weight } else { 1 };
    Union::new_weighted(vec![
        (5, passing(state)),
        // Those who began and then die are rare, and much hangs on them.
        (weight(state.somebody_began(), 9), dying(state)),
        (4, foreign(state)),
        (5, registering(state)),
        (weight(state.may_take(), 9), taking()),
        (weight(!stored.leased.is_empty(), 9), settling(state)),
        (weight(!stored.dead.is_empty(), 4), keeping(state)),
        (weight(stored.paused, 9), pausing(state)), // a paused queue shows little
        (weight(state.impossible() > 0, 4), Just(Transition::Reject).boxed()),
    ])
    .boxed()
}

/// A case has a stream or a list.
pub(super) fn sink() -> impl Strategy<Value = SinkKind> {
    select(&[SinkKind::Stream, SinkKind::List][..])
}
