//! The scripts against a reference: random sequences of verbs, of commands of a foreign client, and of time, played on a
//! real Redis through `Queue`, and beside it on plain maps. After each step everything that Redis holds is compared,
//! and the step is held against the promises themselves.

mod delivering;
mod promises;
mod reference;
mod stored;
mod system;
mod transition;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

use overdue::redis::Redis;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestCaseResult, TestError, TestRunner};
use proptest_state_machine::ReferenceStateMachine as _;
use reference::{Answer, Reference};
pub(crate) use stored::{Entry, Snapshot};
use system::System;
use tokio::runtime::Runtime;
use transition::{NAMES, Transition};

use crate::support::{PATIENT, RedisServer, Rig, queue_of};

/// How many sequences the suite plays, and how many steps one of them has at most.
const CASES: u64 = 250;
const MAX_STEPS: usize = 80;
/// Tries at making a sequence that failed smaller; each plays one.
const SHRINKING: u32 = 2000;

/// What a run of [`CASES`] cannot miss. If it does, the sequences have become poor and show little.
const MUST_OCCUR: [&str; 44] = [
    "Ack Done",
    "Ack Stale",
    "Begin Done",
    "Begin Stale",
    "Bury Done",
    "Bury Stale",
    "Cancel Cancelled",
    "Cancel Dead",
    "Cancel InFlight",
    "Cancel NotFound",
    "Claim Failed",
    "Claim First",
    "Claim Lost",
    "Claim Nothing",
    "DeleteDead Done",
    "DeleteDead Stale",
    "Extend Done",
    "Extend Stale",
    "Fire Nothing",
    "Fire Something",
    "Pause false",
    "Pause true",
    "Reject Nothing",
    "Reject Something",
    "Release Done",
    "Release Stale",
    "Reschedule Conflict",
    "Reschedule InFlight",
    "Reschedule Moved",
    "Reschedule NotFound",
    "Retry Dead",
    "Retry Scheduled",
    "Retry Stale",
    "Retry Superseded",
    "RetryDead Done",
    "RetryDead Stale",
    "Schedule Conflict",
    "Schedule Created",
    "Schedule Kept",
    "Schedule Replaced",
    "TrimDead Nothing",
    "TrimDead Something",
    "Zrem false",
    "Zrem true",
];

/// Where cases are played: a server of its own, with the scripts as they are or with others in their place.
pub(crate) struct Stage {
    server: RedisServer,
    pub(crate) redis: Redis,
    runtime: Runtime,
    /// How often each kind of step had each verdict.
    verdicts: RefCell<BTreeMap<String, u32>>,
}

/// A sequence that does not do what the reference says.
pub(crate) struct Broken {
    pub(crate) why: String,
    pub(crate) steps: Vec<Transition>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\nafter these steps:", self.why)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step:?}"))
    }
}

impl Stage {
    pub(crate) fn new() -> Self {
        let server = RedisServer::start();
        let redis = Redis::open(&server.root_url(), PATIENT).expect("a valid url");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { server, redis, runtime, verdicts: RefCell::default() }
    }

    /// Runs what is async. Each stage has one thread and its runtime.
    pub(crate) fn run<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// A queue of its own.
    pub(crate) async fn rig(&self) -> Rig {
        Rig::with(&self.server, queue_of(self.redis.clone())).await
    }

    /// Plays the sequence of this seed; one that fails is made smaller by so many tries.
    ///
    /// The trait `StateMachineTest` has no place for a stage, and its steps are not async: a case is one future here.
    pub(crate) fn play(&self, seed: u64, shrinking: u32) -> Result<(), Broken> {
        let config = Config {
            cases: 1,
            failure_persistence: None, // the seed is one number and repeats the case
            max_shrink_iters: shrinking,
            rng_seed: RngSeed::Fixed(seed),
            ..Config::default()
        };
        let sequences = Reference::sequential_strategy(1..MAX_STEPS);
        let played = TestRunner::new(config).run(&sequences, |(reference, steps, seen)| {
            // Only who makes sequences smaller may be told how far this one came: the crate insists.
            let seen = seen.as_deref().filter(|_| shrinking > 0);
            self.run(self.case(reference, &steps, seen))
        });
        match played {
            Ok(()) => Ok(()),
            Err(TestError::Fail(why, (_, steps, _))) => Err(Broken { why: why.to_string(), steps }),
            Err(TestError::Abort(why)) => panic!("no sequence: {why}"),
        }
    }

    async fn case(
        &self,
        mut reference: Reference,
        steps: &[Transition],
        seen: Option<&AtomicUsize>,
    ) -> TestCaseResult {
        let mut system = System::new(self.rig().await);
        let all = NAMES.to_vec();
        let end = [Transition::Cancel { ids: all.clone() }, Transition::DeleteDead { ids: all }];
        for (n, step) in steps.iter().chain(&end).enumerate() {
            if let Some(seen) = seen.filter(|_| n < steps.len()) {
                seen.fetch_add(1, Ordering::Relaxed); // steps that were never made are the first to be left out
            }
            reference = Reference::apply(reference, step);
            self.count(step, &reference.answer);
            let made = system.step(&reference, step).await;
            made.map_err(|failure| TestCaseError::fail(format!("{}: {}", word(step), reason(failure))))?;
        }
        system.leaves_nothing().await
    }

    fn count(&self, step: &Transition, answer: &Answer) {
        let mut verdicts = self.verdicts.borrow_mut();
        for verdict in answer.verdicts() {
            *verdicts.entry(format!("{} {verdict}", word(step))).or_default() += 1;
        }
    }
}

impl Answer {
    /// A word for each id that it speaks of, or one for the whole.
    fn verdicts(&self) -> Vec<String> {
        fn words<T: fmt::Debug>(verdicts: &[T]) -> Vec<String> {
            verdicts.iter().map(word).collect()
        }
        let some = |found: bool| vec![if found { "Something" } else { "Nothing" }.to_owned()];
        match self {
            Self::Scheduled(verdicts) => words(verdicts),
            Self::Rescheduled(verdict) => words(&[verdict]),
            Self::Cancelled(verdicts) => words(verdicts),
            Self::Settled(verdicts) => words(verdicts),
            Self::Retried(verdicts) => words(verdicts),
            Self::Changed(changed) => words(&[changed]),
            Self::Fired(fired) => some(fired.count > 0),
            Self::Moved(count) => some(*count > 0),
            Self::Claimed(claimed) if claimed.deliveries.is_empty() => some(false),
            Self::Claimed(claimed) => {
                let which = |attempt, failures| match attempt {
                    1 => "First",
                    _ if attempt > failures + 1 => "Lost",
                    _ => "Failed",
                };
                claimed.deliveries.iter().map(|one| which(one.attempt, one.failures).to_owned()).collect()
            }
            Self::Nothing | Self::Counted(_) => some(true),
        }
    }
}

/// The first word of a debug text: the name of a variant.
fn word(what: &impl fmt::Debug) -> String {
    format!("{what:?}").split([' ', '(']).next().unwrap_or_default().to_owned()
}

/// What failed, without what proptest puts before it.
pub(crate) fn reason(failure: TestCaseError) -> String {
    match failure {
        TestCaseError::Fail(why) | TestCaseError::Reject(why) => why.to_string(),
    }
}

/// The number in this variable, if it is set.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

#[test]
#[expect(clippy::print_stdout, reason = "the seed, and what was played")]
fn every_sequence_of_steps_does_what_the_reference_says() {
    let first = number("OVERDUE_PROVE_SEED").unwrap_or_else(|| rand::random::<u32>().into());
    let cases = CASES * number("OVERDUE_PROVE_SCALE").unwrap_or(1);
    println!("OVERDUE_PROVE_SEED={first}");
    let stage = Stage::new();
    for seed in first..first + cases {
        if let Err(broken) = stage.play(seed, SHRINKING) {
            // It is the first case of a run with this seed: no other has to be played again.
            panic!("OVERDUE_PROVE_SEED={seed} repeats this at once: {broken}");
        }
    }
    let verdicts = stage.verdicts.borrow();
    let table: Vec<String> = verdicts.iter().map(|(verdict, count)| format!("{verdict} {count}")).collect();
    println!("{cases} sequences: {}", table.join(", "));
    let missed: Vec<_> = MUST_OCCUR.iter().filter(|verdict| !verdicts.contains_key(**verdict)).collect();
    assert!(missed.is_empty(), "never in {cases} sequences: {missed:?}");
}
