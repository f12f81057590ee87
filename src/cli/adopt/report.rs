//! What became of the keys.

use serde::Serialize;

use crate::{
    cli::output::block,
    queue::Candidate,
    types::{DueAt, Id, QueueName},
};

/// How many keys are named as examples, of each kind.
const EXAMPLES: usize = 5;

/// Why a key could not be adopted. Nothing was changed about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    InvalidId,
    InvalidDeadline,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::InvalidId => "gives no id of 1 to 256 bytes of UTF-8 without control characters",
            Self::InvalidDeadline => "has a TTL that ends past the year 9999, or ended before 1973",
        }
    }
}

/// The keys that failed for one reason.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    reason: Reason,
    count: u64,
    /// The first of them.
    keys: Vec<String>,
}

/// A key and the deadline that it got, or would get.
#[derive(Debug, Serialize)]
pub(super) struct Example {
    key: String,
    id: Id,
    due_at: DueAt,
}

/// The report of a run, in the order in which it is printed.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    queue: &'a QueueName,
    dry_run: bool,
    /// Keys that match, overdue's own left aside. One that SCAN shows twice counts twice.
    pub(super) scanned: u64,
    pub(super) adopted: u64,
    pub(super) already_adopted: u64,
    pub(super) no_ttl: u64,
    pub(super) gone: u64,
    pub(super) failed: u64,
    failures: Vec<Failure>,
    examples: Vec<Example>,
}

impl<'a> Report<'a> {
    pub(super) fn new(queue: &'a QueueName, dry_run: bool) -> Self {
        Self {
            queue,
            dry_run,
            scanned: 0,
            adopted: 0,
            already_adopted: 0,
            no_ttl: 0,
            gone: 0,
            failed: 0,
            failures: Vec::new(),
            examples: Vec::new(),
        }
    }

    pub(super) fn adopted(&mut self, Candidate { key, id }: &Candidate, due_at: DueAt) {
        self.adopted += 1;
        if self.dry_run && self.examples.len() < EXAMPLES {
            self.examples.push(Example { key: key.clone(), id: id.clone(), due_at });
        }
    }

    /// `key` as it can be printed.
    pub(super) fn failed(&mut self, reason: Reason, key: String) {
        self.failed += 1;
        let known = self.failures.iter().position(|failure| failure.reason == reason);
        let at = known.unwrap_or_else(|| {
            self.failures.push(Failure { reason, count: 0, keys: Vec::new() });
            self.failures.len() - 1
        });
        let failure = &mut self.failures[at];
        failure.count += 1;
        if failure.keys.len() < EXAMPLES {
            failure.keys.push(key);
        }
    }

    pub(super) fn for_people(&self) -> String {
        let adopted = if self.dry_run { "would_be_adopted" } else { "adopted" };
        let counts = [
            ("scanned", self.scanned),
            (adopted, self.adopted),
            ("already_adopted", self.already_adopted),
            ("no_ttl", self.no_ttl),
            ("gone", self.gone),
            ("failed", self.failed),
        ];
        let mut text = block(&counts.map(|(name, count)| (name, count.to_string())));
        for Example { key, id, due_at } in &self.examples {
            text += &format!("\nfor example  {key} as {id}, due {due_at}");
        }
        for Failure { reason, count, keys } in &self.failures {
            let more = if *count > keys.len() as u64 { ", …" } else { "" };
            text += &format!("\nfailed  {count}: {}: {}{more}", reason.text(), keys.join(", "));
        }
        text
    }
}
