//! The verbs of those who look at a queue: show, look, list, counts, coming; and pause.

use std::time::Duration;

use super::{
    Counts, Cursor, MAX_IDS_PER_CALL, Page, Queue, Shown, ShownLease, State,
    reply::{Record, Reply, due_of, natural},
    scripts,
    shards::{Part, Reach},
};
use crate::{
    error::Result,
    types::{DueAt, Id, Payload, ServerTime, Token, printable},
};

/// Rows with their places, and whether more may follow.
pub(super) type Scanned = (Vec<(Shown, Cursor)>, bool);

/// How many stretches of time one call looks at.
const MAX_STRETCHES: usize = 100;

/// What is to fire when, in stretches of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coming {
    /// How long each is.
    pub step: Duration,
    /// How many deadlines are in each, the nearest first. What is due already is in none.
    pub counts: Vec<u64>,
}

impl Counts {
    /// A queue is late if its oldest deadline passed longer ago than this: a poll interval, and what a busy machine
    /// needs beside it.
    pub const LATE: Duration = Duration::from_secs(2);

    /// How long ago the oldest deadline passed that was not claimed yet.
    #[must_use]
    pub fn overdue(&self) -> Duration {
        self.next_due_at.map_or(Duration::ZERO, |due_at| self.now.since(due_at))
    }
}

impl Queue {
    /// All that is known of one id; none if it is neither scheduled, leased nor dead.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn show(&self, id: &Id) -> Result<Option<Shown>> {
        let show = |part: Part| async move { Ok(vec![part.shard.show_here(id).await?]) };
        Ok(self.routed(&[id], Reach::One, Option::is_none, show).await?.pop().flatten())
    }

    async fn show_here(&self, id: &Id) -> Result<Option<Shown>> {
        let call = self.timed(&scripts::SHOW).arg(id.as_str());
        let mut reply = Reply::new("show", self.call(call).await?)?;
        let _now = reply.int()?;
        let score = reply.bytes()?;
        let (token, lease_end, claimed_score) = (reply.optional_int()?, reply.due_at()?, reply.bytes()?);
        let (buried_at, record, payload) = (reply.due_at()?, reply.record()?, reply.bytes()?);

        let scheduled_at = score.as_deref().and_then(due_of);
        let mut shown = if let Some(token) = token {
            let lease = shown_lease(token, lease_end);
            self.leased_row(id.as_str().as_bytes(), lease, claimed_score.as_deref(), record, scheduled_at)
        } else if score.is_some() {
            self.scheduled_row(id.as_str().as_bytes(), scheduled_at, record)
        } else if let Some(buried_at) = buried_at {
            self.dead_row(id.as_str().as_bytes(), Some(buried_at), record)
        } else {
            return Ok(None);
        };
        shown.payload = payload.and_then(readable);
        Ok(Some(shown))
    }

    /// Where each of these ids is, all of a step of 1000 at one instant; none for one that is nowhere. Payloads and leases
    /// are left out.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn look(&self, ids: &[Id]) -> Result<Vec<Option<Shown>>> {
        let ids: Vec<&Id> = ids.iter().collect();
        let look = |part: Part| {
            let ids = part.of(&ids).into_iter().copied().collect::<Vec<_>>();
            async move { part.shard.look_here(&ids).await }
        };
        self.routed(&ids, Reach::One, Option::is_none, look).await
    }

    async fn look_here(&self, ids: &[&Id]) -> Result<Vec<Option<Shown>>> {
        let mut answers = Vec::with_capacity(ids.len());
        for step in ids.chunks(MAX_IDS_PER_CALL) {
            let call = self.script(&scripts::LOOK).args(step.iter().map(|id| id.as_str()));
            let mut reply = Reply::new("look", self.call(call).await?)?;
            for id in step {
                let (score, token, buried_at) = (reply.bytes()?, reply.bytes()?, reply.due_at()?);
                let (record, id) = (reply.record()?, id.as_str().as_bytes());
                let scheduled_at = score.as_deref().and_then(due_of);
                answers.push(match (score.is_some(), token.is_some(), buried_at) {
                    (true, ..) => Some(self.scheduled_row(id, scheduled_at, record)),
                    (false, true, _) => Some(self.row(id, State::Leased, None, record)),
                    (false, false, Some(at)) => Some(self.dead_row(id, Some(at), record)),
                    (false, false, None) => None,
                });
            }
        }
        Ok(answers)
    }

    /// One page of the ids in a state, at most 1000 rows, continued behind `after`. A page may be shorter than
    /// `limit` while more follow: [`Page::next`] tells.
    ///
    /// ```no_run
    /// use overdue::queue::{Queue, State};
    ///
    /// # async fn example(queue: Queue) -> overdue::Result<()> {
    /// let mut after = None;
    /// loop {
    ///     let page = queue.list(State::Dead, 100, after.as_ref()).await?;
    ///     page.rows.iter().for_each(|row| println!("{} {:?}", row.id, row.reason));
    ///     after = page.next;
    ///     if after.is_none() {
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn list(&self, state: State, limit: usize, after: Option<&Cursor>) -> Result<Page> {
        let (rows, more) = self.scan(state, limit, after, false).await?;
        Ok(page(rows, more, limit, |_| true))
    }

    /// As [`Queue::list`], with the payloads. A page ends early when it holds 4 MiB of them.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn list_with_payloads(
        &self,
        state: State,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page> {
        let (rows, more) = self.scan(state, limit, after, true).await?;
        Ok(page(rows, more, limit, |_| true))
    }

    /// As [`Queue::list`], with only the rows that `keep` lets through. It looks at 1000 rows at most, so a page
    /// may be empty while more follow.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn list_where(
        &self,
        state: State,
        limit: usize,
        after: Option<&Cursor>,
        keep: impl FnMut(&Shown) -> bool,
    ) -> Result<Page> {
        let (rows, more) = self.scan(state, MAX_IDS_PER_CALL, after, false).await?;
        Ok(page(rows, more, limit, keep))
    }

    pub(super) async fn scan_here(
        &self,
        state: State,
        limit: usize,
        after: Option<&Cursor>,
        payloads: bool,
    ) -> Result<Scanned> {
        let call = self.script(&scripts::LIST).arg(state.to_string()).arg(limit.clamp(1, MAX_IDS_PER_CALL));
        let call = match after {
            Some(cursor) => call.arg(cursor.score()).arg(cursor.id()),
            None => call.arg("").arg(""),
        };
        let call = call.arg(u8::from(payloads));
        let mut reply = Reply::new("list", self.call(call).await?)?;
        let more = reply.int()? == 1;
        let mut values = reply.nested()?;

        let mut rows = Vec::with_capacity(values.len() / 6);
        while values.len() > 0 {
            let (id, score) = (values.string()?, values.string()?);
            let (record, claimed_score, lease_end) = (values.record()?, values.bytes()?, values.due_at()?);
            let payload = values.bytes()?;
            let at = due_of(&score);
            let row = match state {
                State::Scheduled => self.scheduled_row(&id, at, record),
                State::Dead => self.dead_row(&id, at, record),
                State::Leased => {
                    let lease = shown_lease(number(&score), lease_end);
                    self.leased_row(&id, lease, claimed_score.as_deref(), record, None)
                }
            };
            let place = Cursor::new(&score, id);
            rows.push((Shown { payload: payload.and_then(readable), ..row }, place));
        }
        Ok((rows, more))
    }

    pub(super) async fn counts_here(&self) -> Result<Counts> {
        let mut reply = Reply::new("counts", self.call(self.timed(&scripts::COUNTS)).await?)?;
        Ok(Counts {
            now: ServerTime::from_us(reply.int()?),
            scheduled: reply.count()?,
            due: reply.count()?,
            leased: reply.count()?,
            lost_leases: reply.count()?,
            dead: reply.count()?,
            impossible: reply.count()?,
            next_due_at: reply.due_at()?,
            paused: reply.count()? > 0,
        })
    }

    pub(super) async fn coming_here(&self, stretches: usize, step: Duration) -> Result<Coming> {
        let count = stretches.clamp(1, MAX_STRETCHES);
        let call = self.timed(&scripts::COMING).arg(count).arg(step.as_millis().to_string());
        let counts = Reply::new("coming", self.call(call).await?)?.groups(count)?;
        let counts = counts.into_iter().map(|[count]| natural("coming", count)).collect::<Result<_>>()?;
        Ok(Coming { step, counts })
    }

    pub(super) async fn pause_here(&self, paused: bool) -> Result<bool> {
        let call = self.script(&scripts::PAUSE).arg(u8::from(paused));
        self.changed(call).await
    }

    fn row(&self, id: &[u8], state: State, due_at: Option<DueAt>, record: Record) -> Shown {
        Shown {
            valid_id: std::str::from_utf8(id).ok().and_then(|text| Id::new(text).ok()),
            id: printable(id),
            queue: self.name.clone(),
            state,
            due_at: record.due_at().or(due_at),
            next_attempt_at: None,
            attempt: record.attempts(),
            failures: record.failures,
            crashes: record.crashes,
            lease: None,
            buried_at: None,
            traceparent: record.traceparent(),
            reason: record.reason,
            error: record.error,
            payload: None,
        }
    }

    fn scheduled_row(&self, id: &[u8], at: Option<DueAt>, record: Record) -> Shown {
        // A record speaks for this deadline only if the id still waits for the retry that it names.
        let record = if record.retries_at(at) { record } else { Record::default() };
        let next_attempt_at = record.due_at().and(at);
        Shown { next_attempt_at, ..self.row(id, State::Scheduled, at, record) }
    }

    fn leased_row(
        &self,
        id: &[u8],
        lease: ShownLease,
        claimed_score: Option<&[u8]>,
        record: Record,
        next_attempt_at: Option<DueAt>,
    ) -> Shown {
        let row = self.row(id, State::Leased, claimed_score.and_then(due_of), record);
        Shown { attempt: row.attempt.saturating_add(1), lease: Some(lease), next_attempt_at, ..row }
    }

    fn dead_row(&self, id: &[u8], buried_at: Option<DueAt>, record: Record) -> Shown {
        Shown { buried_at, ..self.row(id, State::Dead, None, record) }
    }
}

/// The rows that `keep` lets through, at most `limit`. The next page starts behind the last one looked at.
fn page(
    scanned: Vec<(Shown, Cursor)>,
    more: bool,
    limit: usize,
    mut keep: impl FnMut(&Shown) -> bool,
) -> Page {
    let (mut rows, mut last) = (Vec::new(), None);
    for (row, place) in scanned {
        if rows.len() == limit {
            return Page { rows, next: last };
        }
        if keep(&row) {
            rows.push(row);
        }
        last = Some(place);
    }
    Page { rows, next: last.filter(|_| more) }
}

fn shown_lease(token: i64, expires_at: Option<DueAt>) -> ShownLease {
    ShownLease { token: Token::new(u64::try_from(token).unwrap_or(0)), expires_at }
}

/// A payload outside the contract is shown with replacement characters, or not at all if it is too long.
fn readable(payload: Vec<u8>) -> Option<Payload> {
    Payload::new(String::from_utf8_lossy(&payload)).ok()
}

fn number(score: &[u8]) -> i64 {
    std::str::from_utf8(score).ok().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) as i64
}
