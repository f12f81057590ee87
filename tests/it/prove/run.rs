//! A run of one scenario: its seed, its scale, its history, and the report at its end.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use super::{
    checker::{self, Clock, Verdict},
    history::History,
};

/// The number in this variable, or what to take without it.
pub(crate) fn number(variable: &str, without: u64) -> u64 {
    std::env::var(variable).map_or(without, |text| text.parse().expect("a number"))
}

/// `count` in the suite, and so many times more as `scripts/prove` wishes.
pub(crate) fn scaled(count: usize) -> usize {
    count * number("OVERDUE_PROVE_SCALE", 1) as usize
}

/// What a scenario allows and demands beyond the promises.
pub(crate) struct Terms {
    pub(crate) clock: Clock,
    /// Registrations may be handled again this often in all: what was in flight when faults struck. None if any
    /// number may.
    pub(crate) duplicates: Option<u64>,
    /// Faults that must have struck: a run in which they never did shows nothing.
    pub(crate) strikes: Vec<String>,
}

impl Terms {
    /// For a scenario whose faults are these.
    pub(crate) fn struck_by<S: Into<String>>(faults: impl IntoIterator<Item = S>) -> Self {
        Self {
            clock: Clock::Shared,
            duplicates: Some(0),
            strikes: faults.into_iter().map(Into::into).collect(),
        }
    }

    /// At most so many handlings beyond the first.
    pub(crate) fn duplicates(self, duplicates: u64) -> Self {
        Self { duplicates: Some(duplicates), ..self }
    }

    /// Work that outlasts its lease is done again, any number of times.
    pub(crate) fn any_duplicates(self) -> Self {
        Self { duplicates: None, ..self }
    }

    fn allowed_duplicates(&self) -> String {
        self.duplicates.map_or_else(|| "any".to_owned(), |count| count.to_string())
    }
}

/// One scenario under way.
pub(crate) struct Run {
    scenario: &'static str,
    pub(crate) seed: u64,
    pub(crate) dice: StdRng,
    pub(crate) history: Arc<History>,
    begun: Instant,
    measured: BTreeMap<&'static str, Value>,
}

impl Run {
    /// Begins, and says with which seed.
    #[expect(clippy::print_stdout, reason = "a failure shows it, and it repeats the faults")]
    pub(crate) fn begin(scenario: &'static str) -> Self {
        let seed = number("OVERDUE_PROVE_SEED", rand::random::<u32>().into());
        println!("{scenario}: OVERDUE_PROVE_SEED={seed}");
        Self {
            scenario,
            seed,
            dice: StdRng::seed_from_u64(seed),
            history: Arc::default(),
            begun: Instant::now(),
            measured: BTreeMap::new(),
        }
    }

    /// Dice of their own for one of several who throw at the same time.
    pub(crate) fn fork(&mut self) -> StdRng {
        StdRng::seed_from_u64(self.dice.random())
    }

    /// A figure for the report beside the usual ones.
    pub(crate) fn measure(&mut self, name: &'static str, value: impl Into<Value>) {
        self.measured.insert(name, value.into());
    }

    /// The same for how long something took.
    pub(crate) fn measure_ms(&mut self, name: &'static str, time: Duration) {
        self.measure(name, time.as_millis() as u64);
    }

    /// Judges what happened: fails if a promise was broken, if a fault never struck, or if more was handled
    /// again than was in flight. Reports all the same.
    #[expect(clippy::print_stdout, reason = "the report of the run")]
    pub(crate) fn finish(self, terms: Terms) -> Verdict {
        let entries = self.history.entries();
        let verdict = checker::check(&entries, terms.clock);
        let mut wrong = verdict.violations();
        if terms.duplicates.is_some_and(|allowed| verdict.duplicates > allowed) {
            wrong.push(format!(
                "handled again: {}, allowed {}",
                verdict.duplicates,
                terms.allowed_duplicates()
            ));
        }
        let missed = terms.strikes.iter().filter(|fault| !verdict.strikes.contains_key(*fault));
        wrong.extend(missed.map(|fault| format!("`{fault}` never struck: the run shows nothing of it")));
        println!("{}", self.summary(&verdict, &terms));
        self.report(&verdict, &terms, &wrong);
        if !wrong.is_empty() {
            let path = std::env::temp_dir().join(format!("overdue-{}-{}.ndjson", self.scenario, self.seed));
            let mut log = String::new();
            for entry in entries.iter() {
                let _ = writeln!(log, "{}", serde_json::to_string(entry).expect("JSON"));
            }
            fs::write(&path, log).expect("a writable directory");
            panic!(
                "{} with seed {}:\n{}\nthe history is in {}",
                self.scenario,
                self.seed,
                wrong.join("\n"),
                path.display()
            );
        }
        verdict
    }

    fn summary(&self, verdict: &Verdict, terms: &Terms) -> String {
        let mut text = format!(
            "{}: {} registered, {} cancelled, {} handled; ",
            self.scenario, verdict.registered, verdict.cancelled, verdict.handled
        );
        let zeros = [
            ("lost", verdict.lost.len()),
            ("early", verdict.early.len()),
            ("after their cancel", verdict.after_cancel.len()),
            ("stale accepted", verdict.stale_accepted.len()),
        ];
        for (what, count) in zeros {
            let _ = write!(text, "{what} {}, ", with_bound(count, verdict.registered));
        }
        let _ = write!(text, "handled again {} (allowed {})", verdict.duplicates, terms.allowed_duplicates());
        if let (Some(p50), Some(p99)) = (verdict.lateness_at(0.5), verdict.lateness_at(0.99)) {
            let _ = write!(text, ", late by {p50} ms (p50), {p99} ms (p99)");
        }
        let _ = write!(text, "; struck: {:?}; {:?}", verdict.strikes, self.measured);
        text
    }

    /// Appends a line of JSON to the file that `scripts/prove` names.
    fn report(&self, verdict: &Verdict, terms: &Terms, wrong: &[String]) {
        let Ok(path) = std::env::var("OVERDUE_PROVE_REPORT") else { return };
        let line = json!({
            "scenario": self.scenario,
            "seed": self.seed,
            "seconds": self.begun.elapsed().as_secs_f64(),
            "registered": verdict.registered,
            "cancelled": verdict.cancelled,
            "handled": verdict.handled,
            "lost": verdict.lost.len(),
            "early": verdict.early.len(),
            "after_cancel": verdict.after_cancel.len(),
            "stale_accepted": verdict.stale_accepted.len(),
            "two_leases": verdict.two_leases.len(),
            "duplicates": verdict.duplicates,
            "allowed_duplicates": terms.duplicates,
            "late_starts": verdict.late_starts,
            "lateness_ms": { "p50": verdict.lateness_at(0.5), "p99": verdict.lateness_at(0.99), "max": verdict.lateness_at(1.0) },
            "strikes": verdict.strikes,
            "measured": self.measured,
            "wrong": wrong,
        });
        let file = fs::OpenOptions::new().create(true).append(true).open(path);
        // One write, so that the lines of scenarios that run side by side do not mix.
        file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
            .expect("the report can be written");
    }
}

/// A count; a zero with how often the event may happen all the same, with 95 % confidence (the rule of three).
fn with_bound(count: usize, of: u64) -> String {
    if count > 0 || of == 0 { count.to_string() } else { format!("0 (95 %: below {:.1e})", 3.0 / of as f64) }
}
