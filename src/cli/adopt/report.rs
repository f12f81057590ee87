//! What became of the keys.

use serde::Serialize;

use crate::{
    cli::output::block,
    order::{Imported, Refused},
    queue::{Adopted, Candidate},
    types::{DueAt, Id, QueueName, printable},
};

/// How many keys are named as examples, of each kind.
const EXAMPLES: usize = 5;

/// Why a key could not be adopted. It has the TTL that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    InvalidId,
    InvalidDeadline,
    InvalidFields,
    TooLarge,
    Restless,
    Conflict,
    NotAnOrder,
    ChangedSince,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::InvalidId => "no id of 1 to 256 bytes of UTF-8 without control characters",
            Self::InvalidDeadline => "the TTL ends past the year 9999, or ended before 1973",
            Self::InvalidFields => {
                "fields that an order cannot have; --rename FIELD=NAME and --drop FIELD change that"
            }
            Self::TooLarge => "larger than an order can be: 100 fields and 30 KiB",
            Self::Restless => "changed again and again while it was read; run it again",
            Self::Conflict => "there is an order of this id with other fields",
            Self::NotAnOrder => "the key that the order would get holds something else",
            Self::ChangedSince => "changed after it was adopted: somebody still writes to the old place",
        }
    }

    fn of(refused: &Refused) -> Self {
        match refused {
            Refused::OutOfRange => Self::InvalidDeadline,
            Refused::Fields(_) => Self::InvalidFields,
            Refused::TooLarge => Self::TooLarge,
            Refused::Restless => Self::Restless,
            Refused::Conflict => Self::Conflict,
            Refused::NotAnOrder => Self::NotAnOrder,
            Refused::ChangedSince => Self::ChangedSince,
        }
    }
}

/// The keys that failed for one reason.
#[derive(Debug, Serialize)]
struct Failure {
    reason: Reason,
    count: u64,
    /// The first of them.
    keys: Vec<FailedKey>,
}

#[derive(Debug, Serialize)]
struct FailedKey {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A key and the deadline that it would get.
#[derive(Debug, Serialize)]
struct Example {
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
    already_adopted: u64,
    no_ttl: u64,
    wrong_type: u64,
    gone: u64,
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
            wrong_type: 0,
            gone: 0,
            failed: 0,
            failures: Vec::new(),
            examples: Vec::new(),
        }
    }

    /// Counts a key whose name gives no id.
    pub(super) fn no_id(&mut self, key: &[u8]) {
        self.scanned += 1;
        self.fail(Reason::InvalidId, key, None);
    }

    /// Counts a key that stays where it is.
    pub(super) fn in_place(&mut self, candidate: &Candidate, answer: Adopted) {
        self.scanned += 1;
        match answer {
            Adopted::Now { due_at } => self.adopt(candidate, due_at),
            Adopted::Before => self.already_adopted += 1,
            Adopted::NoTtl => self.no_ttl += 1,
            Adopted::Gone => self.gone += 1,
            Adopted::OutOfRange => self.fail(Reason::InvalidDeadline, candidate.key.as_bytes(), None),
        }
    }

    /// Counts a key that is to become an order.
    pub(super) fn imported(&mut self, candidate: &Candidate, answer: &Imported) {
        self.scanned += 1;
        match answer {
            Imported::Now { due_at } => self.adopt(candidate, *due_at),
            Imported::Before => self.already_adopted += 1,
            Imported::NoTtl => self.no_ttl += 1,
            Imported::WrongType => self.wrong_type += 1,
            Imported::Gone => self.gone += 1,
            Imported::Refused(refused) => {
                let error = match refused {
                    Refused::Fields(cause) => Some(cause.to_string()),
                    _ => None,
                };
                self.fail(Reason::of(refused), candidate.key.as_bytes(), error);
            }
        }
    }

    fn adopt(&mut self, Candidate { key, id }: &Candidate, due_at: DueAt) {
        self.adopted += 1;
        if self.dry_run && self.examples.len() < EXAMPLES {
            self.examples.push(Example { key: key.clone(), id: id.clone(), due_at });
        }
    }

    fn fail(&mut self, reason: Reason, key: &[u8], error: Option<String>) {
        self.failed += 1;
        let known = self.failures.iter().position(|failure| failure.reason == reason);
        let at = known.unwrap_or_else(|| {
            self.failures.push(Failure { reason, count: 0, keys: Vec::new() });
            self.failures.len() - 1
        });
        let failure = &mut self.failures[at];
        failure.count += 1;
        if failure.keys.len() < EXAMPLES {
            failure.keys.push(FailedKey { key: printable(key), error });
        }
    }

    pub(super) fn for_people(&self) -> String {
        let adopted = if self.dry_run { "would_be_adopted" } else { "adopted" };
        let counts = [
            ("scanned", self.scanned),
            (adopted, self.adopted),
            ("already_adopted", self.already_adopted),
            ("no_ttl", self.no_ttl),
            ("wrong_type", self.wrong_type),
            ("gone", self.gone),
            ("failed", self.failed),
        ];
        let mut text = block(&counts.map(|(name, count)| (name, count.to_string())));
        for Example { key, id, due_at } in &self.examples {
            text += &format!("\n  {key} would be {id}, due {due_at}");
        }
        for Failure { reason, count, keys } in &self.failures {
            text += &format!("\n{count} failed: {}", reason.text());
            for FailedKey { key, error } in keys {
                let error = error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
                text += &format!("\n  {key}{error}");
            }
            if *count > keys.len() as u64 {
                text += "\n  …";
            }
        }
        text
    }
}
