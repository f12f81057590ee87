//! Bugs on purpose: each is planted into the scripts, and the tests have to find it. A test that passes with one of them in
//! place shows nothing.

mod drills;
mod list;
mod list_of_shards;
mod moving;
mod scripts;

use drills::{clock, deaths, full, rate};
use list::{PLANTS, Plant, SeenBy};
use list_of_shards::PLANTS_OF_SHARDS;
use overdue::redis::Redis;
use proptest::test_runner::TestCaseResult;

use crate::model::{Stage, number, reason};

/// Where the sequences begin: the same in each run, so that a plant that is found today is found tomorrow.
const SEED: u64 = 2026;
/// Sequences within which the state machine has to find a plant, and how many it plays where there is none.
const CASES: u64 = 200;
const CASES_OF_CONTROL: u64 = 20;

/// What found a plant, and how.
struct Found {
    by: String,
    why: String,
}

/// A server for all plants, and the scripts as they are.
struct Nursery {
    stage: Stage,
    sound: Redis,
}

impl Nursery {
    fn new() -> Self {
        let stage = Stage::new();
        Self { sound: stage.redis.clone(), stage }
    }

    /// Runs what has to see the plant; answers what failed.
    fn find(&mut self, plant: &Plant) -> Option<Found> {
        let dir = scripts::composed(Some(plant));
        self.stage.redis = self.sound.planting(dir.path());
        match plant.seen_by {
            SeenBy::Model => self.sequences(CASES * number("OVERDUE_PROVE_SCALE").unwrap_or(1)),
            drill => self.drill(drill, Some(plant)),
        }
    }

    fn sequences(&self, cases: u64) -> Option<Found> {
        let first = number("OVERDUE_PROVE_SEED").unwrap_or(SEED);
        (first..first + cases).find_map(|seed| {
            let broken = self.stage.play(seed, 0).err()?;
            Some(Found { by: format!("sequence {}", seed - first + 1), why: broken.why })
        })
    }

    fn drill(&mut self, drill: SeenBy, plant: Option<&Plant>) -> Option<Found> {
        let passed: TestCaseResult = match drill {
            SeenBy::Model => return self.sequences(CASES_OF_CONTROL),
            SeenBy::Clock => self.stage.run(clock(&self.stage)),
            SeenBy::Full => self.stage.run(full(&self.stage)),
            SeenBy::Rate => self.stage.run(rate(&self.stage)),
            SeenBy::Shards => self.stage.run(moving::shards(&self.stage)),
            SeenBy::Deaths => {
                let dir = scripts::dying(plant);
                self.stage.redis = self.sound.clone();
                self.stage.run(deaths(&self.stage, &self.sound.planting(dir.path())))
            }
        };
        passed.err().map(|failure| Found { by: format!("drill {drill:?}"), why: reason(failure) })
    }
}

/// Without this, a programme that fails whatever the scripts do would find every plant.
#[test]
fn the_scripts_as_they_are_pass_the_programme() {
    let mut nursery = Nursery::new();
    let dir = scripts::composed(None);
    nursery.stage.redis = nursery.sound.planting(dir.path());
    for eye in [SeenBy::Model, SeenBy::Clock, SeenBy::Full, SeenBy::Rate, SeenBy::Shards, SeenBy::Deaths] {
        if let Some(Found { by, why }) = nursery.drill(eye, None) {
            panic!("{by}: {why}");
        }
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "what found which plant")]
fn every_plant_is_found() {
    let mut nursery = Nursery::new();
    let mut missed = Vec::new();
    let all: Vec<&Plant> = PLANTS.iter().chain(PLANTS_OF_SHARDS).collect();
    for plant in &all {
        match nursery.find(plant) {
            Some(Found { by, why }) => {
                println!("{}: {}\n    {by}: {}", plant.script, plant.name, brief(&why));
            }
            None => missed.push(format!("{}: {} (by {:?})", plant.script, plant.name, plant.seen_by)),
        }
    }
    assert!(missed.is_empty(), "{} of {} are not found:\n{}", missed.len(), all.len(), missed.join("\n"));
}

/// The bug is named in the plant; of what it did the first words are enough.
fn brief(why: &str) -> String {
    why.chars().take(120).collect()
}

/// A plant whose shortest sequence is known: it has to be scheduled, claimed and acked.
#[test]
fn a_sequence_that_fails_is_made_as_short_as_it_can_be() {
    let plant =
        PLANTS.iter().find(|plant| plant.name == "an ack answers done and does nothing").expect("a plant");
    let dir = scripts::composed(Some(plant));
    let mut stage = Stage::new();
    stage.redis = stage.redis.planting(dir.path());
    // Two steps in which time passes are not made one, so that some end at five.
    let broken = (SEED..).filter_map(|seed| stage.play(seed, 2000).err()).take(5);
    let shortest = broken.min_by_key(|broken| broken.steps.len()).expect("it is found");
    assert!(shortest.steps.len() <= 4, "{shortest}");
}
