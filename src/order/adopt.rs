//! The verb of those who move over from key expiry: hashes with a TTL become orders.

use std::{collections::BTreeMap, time::Duration};

use super::{Fields, NewOrder, Orders, lifecycle::with_new_orders};
use crate::{
    error::{Error, Invalid, Result},
    queue::{
        Candidate, Due, Takeover,
        reply::{Reply, deadline, unknown},
        scripts,
    },
    types::{DueAt, printable},
};

/// Keys in one call: each may hold 120 KiB when it is read.
const MAX_KEYS_PER_CALL: usize = 100;
/// How often a key that changes while it is read is read anew.
const ATTEMPTS: usize = 5;

/// What fields of a hash are called in the order that it becomes: overdue's own names may be taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renames(BTreeMap<String, Option<String>>);

impl Renames {
    /// The field `from` is called `to`, or left out with none.
    #[must_use]
    pub fn with(mut self, from: impl Into<String>, to: Option<String>) -> Self {
        self.0.insert(from.into(), to);
        self
    }

    pub(super) fn fields(&self, flat: &[Vec<u8>]) -> Result<Fields, Invalid> {
        let mut fields = Vec::new();
        for pair in flat.chunks_exact(2) {
            let text = |bytes: &[u8], why| {
                String::from_utf8(bytes.to_owned())
                    .map_err(|_| Invalid::new("field", printable(&pair[0]), why))
            };
            let name = text(&pair[0], "has a name that is not UTF-8")?;
            let new = match self.0.get(&name) {
                Some(None) => continue,
                Some(Some(new)) => new.clone(),
                None => name,
            };
            fields.push((new, text(&pair[1], "has a value that is not UTF-8; leave the field out")?));
        }
        Fields::new(fields)
    }
}

/// What became of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// It had a TTL; now there is an order with that deadline. The hash stays, without a TTL.
    Now {
        /// The deadline that holds.
        due_at: DueAt,
    },
    /// There was nothing to do: there is an order with its fields.
    Before,
    /// It has no TTL, and there is no order.
    NoTtl,
    /// It holds no hash.
    WrongType,
    /// It expired in the old way, or was deleted.
    Gone,
    /// It cannot become an order. Nothing was changed.
    Refused(Refused),
}

/// Why a key cannot become an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Its TTL ends past the year 9999, or before 1973.
    OutOfRange,
    /// Its fields cannot be those of an order.
    Fields(Invalid),
    /// It is far larger than an order can be.
    TooLarge,
    /// It was changed again and again while it was read.
    Restless,
    /// There is an order of its id with other fields.
    Conflict,
    /// The key of the order holds something else.
    NotAnOrder,
    /// It became an order before, which was neither paid nor cancelled, and was changed since: somebody still
    /// writes to the old place.
    ChangedSince,
}

/// A key that was read, to be adopted as it was then.
struct Source<'a> {
    /// The position among the answers.
    at: usize,
    key: &'a str,
    expiry_ms: i64,
    digest: Vec<u8>,
    order: NewOrder,
}

impl Orders {
    /// Makes orders of hashes that belong to others, and their TTL the deadline; answers for each in order. Each
    /// key is one atomic step: it either expires in the old way, or is an order that holds all that was written to
    /// the hash before. Doing it twice changes nothing.
    ///
    /// # Errors
    /// If Redis refuses, as it does when it is full. What was done of a long list before that stays done.
    pub async fn adopt(
        &self,
        candidates: &[Candidate],
        renames: &Renames,
        takeover: Takeover,
    ) -> Result<Vec<Imported>> {
        let mut answers = Vec::with_capacity(candidates.len());
        for step in candidates.chunks(MAX_KEYS_PER_CALL) {
            let mut step_answers = vec![Imported::Refused(Refused::Restless); step.len()];
            let mut open: Vec<usize> = (0..step.len()).collect();
            for _ in 0..ATTEMPTS {
                let sources = self.sources(step, &open, renames, &mut step_answers).await?;
                open = self.import(sources, takeover, &mut step_answers).await?;
                if open.is_empty() {
                    break;
                }
            }
            answers.append(&mut step_answers);
        }
        Ok(answers)
    }

    /// Reads those that are still open; answers at once for what cannot become an order.
    async fn sources<'a>(
        &self,
        step: &'a [Candidate],
        open: &[usize],
        renames: &Renames,
        answers: &mut [Imported],
    ) -> Result<Vec<Source<'a>>> {
        let keys = open.iter().map(|at| step[*at].key.as_str());
        let call = self.queue.order_script_on(&scripts::ORDER_SOURCE, std::iter::empty(), keys);
        let mut reply = Reply::new("order_source", self.queue.call_order(call).await?)?;
        let mut sources = Vec::with_capacity(open.len());
        for at in open.iter().copied() {
            let Candidate { key, id } = &step[at];
            let (expiry_ms, digest) = (reply.int()?, reply.bytes()?.unwrap_or_default());
            let flat = reply.nested()?.strings()?;
            if flat.len() % 2 == 1 {
                let detail = "a field without a value".to_owned();
                return Err(Error::Reply { script: "order_source", detail });
            }
            let fields = renames.fields(&flat);
            let due = match expiry_ms {
                // It only may have been adopted before: the deadline does not matter.
                -1 => Ok(Due::In(Duration::ZERO)),
                -2 => Err(Imported::Gone),
                -3 => Err(Imported::WrongType),
                -4 => Err(Imported::Refused(Refused::TooLarge)),
                ms => DueAt::from_ms(ms).map(Due::At).map_err(|_| Imported::Refused(Refused::OutOfRange)),
            };
            match (due, fields) {
                (Ok(due), Ok(fields)) => {
                    let order = NewOrder { id: id.clone(), due, fields };
                    sources.push(Source { at, key, expiry_ms, digest, order });
                }
                (Ok(Due::In(_)), Err(_)) => answers[at] = Imported::NoTtl,
                (Ok(_), Err(cause)) => answers[at] = Imported::Refused(Refused::Fields(cause)),
                (Err(answer), _) => answers[at] = answer,
            }
        }
        Ok(sources)
    }

    /// Creates the orders of what is as it was read; answers which are not, and so are open again.
    async fn import(
        &self,
        sources: Vec<Source<'_>>,
        takeover: Takeover,
        answers: &mut [Imported],
    ) -> Result<Vec<usize>> {
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        let ids = sources.iter().map(|source| source.order.id.as_str());
        let keys = sources.iter().map(|source| source.key);
        let mut call = self.queue.order_script_on(&scripts::ORDER_ADOPT, ids, keys);
        call = call.arg(takeover.word()).arg(sources.len());
        for source in &sources {
            call = call.arg(source.expiry_ms).arg(&source.digest);
        }
        let orders: Vec<NewOrder> = sources.iter().map(|source| source.order.clone()).collect();
        let mut reply =
            Reply::new("order_adopt", self.queue.call_order(with_new_orders(call, &orders)).await?)?;
        let mut open = Vec::new();
        for Source { at, .. } in sources {
            let (code, due_ms) = (reply.int()?, reply.int()?);
            answers[at] = match code {
                1 => Imported::Now { due_at: deadline("order_adopt", due_ms)? },
                2 => Imported::Before,
                3 => Imported::NoTtl,
                4 => {
                    open.push(at);
                    Imported::Refused(Refused::Restless)
                }
                5 => Imported::Refused(Refused::Conflict),
                6 => Imported::Refused(Refused::NotAnOrder),
                7 => Imported::Refused(Refused::ChangedSince),
                code => return Err(unknown("order_adopt", code)),
            };
        }
        Ok(open)
    }
}
