//! The verbs of those who deliver, in one shard: claim, fire, ack, retry, release, extend, bury, reject. `shards/deliver.rs` has
//! those of a queue as a whole.

use std::time::{Duration, Instant};

use super::{
    Claim, ClaimOptions, Delivery, Fired, Lease, MAX_FAILURES_PER_CALL, MAX_IDS_PER_CALL, Queue, Rejected,
    Retried, Retry, Settled, Sink, SinkKind, Unreadable,
    packed::Packed,
    reply::{Record, Reply, deadline, due_of, natural},
    scripts,
};
use crate::{
    error::{Error, Result},
    redis::Call,
    types::{DueAt, Id, Payload, ServerTime, Token},
};

/// Whole claims that one ack speaks for: each may be 1000 ids.
const MAX_CLAIMS_PER_CALL: usize = 4;
/// Longest error text kept with an id, in characters.
const MAX_ERROR_CHARS: usize = 500;
/// How much of it is the beginning, where a longer one loses its middle.
const ERROR_HEAD_CHARS: usize = 100;

impl Queue {
    /// Leases at most `limit` (1 to 1000) ids that are due, or whose lease ran out, for the time `lease`.
    ///
    /// Never repeat a claim that timed out: it may have run, and the lease is what brings its ids back.
    ///
    /// ```no_run
    /// # async fn example(queue: overdue::queue::Queue) -> overdue::Result<()> {
    /// let claim = queue.claim(100, std::time::Duration::from_secs(30)).await?;
    /// let leases: Vec<_> = claim.deliveries.iter().map(|delivery| delivery.lease()).collect();
    /// // … the work; then:
    /// queue.ack(&leases).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If Redis refuses. Nothing was claimed then.
    pub async fn claim(&self, limit: usize, lease: Duration) -> Result<Claim> {
        let options = ClaimOptions { limit, lease, rate_limit: None, max_crashes: None };
        self.claim_with(options).await
    }

    pub(super) async fn claim_here(&self, options: ClaimOptions) -> Result<Claim> {
        let call = self
            .timed(&scripts::CLAIM)
            .arg(options.limit.clamp(1, MAX_IDS_PER_CALL))
            .arg(lease_ms(options.lease))
            .arg(or_empty(options.rate_limit))
            .arg(or_empty(options.max_crashes))
            .arg("packed");
        let mut reply = Reply::new("claim", self.call(call).await?)?;
        let received = Instant::now();
        let now = ServerTime::from_us(reply.int()?);
        let token = Token::new(reply.count()?);
        let (next, impossible, more) = (reply.due_at()?, reply.count()?, reply.count()? > 0);
        let batch = reply.string()?;
        let Packed { entries, payloads } = Packed::read(&batch)?;
        // They are in the batch.
        reply.nested()?;
        let mut records = reply.nested()?;
        let fits = records.len() == 0 || records.len() == entries.len();
        if !fits || (!entries.is_empty() && token.get() == 0) {
            let detail = "ids and records that do not fit together, or without a token".to_owned();
            return Err(Error::Reply { script: "claim", detail });
        }

        let canary = reply.sighting()?;
        self.heard_of_shards(reply.bytes()?.as_deref());

        let mut claim = Claim {
            now,
            token: (token.get() > 0).then_some(token),
            deliveries: Vec::with_capacity(entries.len()),
            unreadable: Vec::new(),
            next,
            more,
            impossible,
            canary,
        };
        for (id, score) in entries {
            let record = if records.len() > 0 { records.record()? } else { Record::default() };
            match read(id, payloads.get(id).copied()) {
                Ok((id, payload)) => claim.deliveries.push(Delivery {
                    queue: self.name.clone(),
                    id,
                    due_at: record.due_at().or_else(|| due_of(score)).unwrap_or(earliest()),
                    attempt: record.attempts().saturating_add(1),
                    failures: record.failures,
                    kills: record.kills,
                    token,
                    first_token: record.first_token().map_or(token, Token::new),
                    claimed_at: now,
                    traceparent: record.traceparent(),
                    payload,
                    received,
                }),
                Err((reason, error)) => claim.unreadable.push(Unreadable { id: id.into(), error, reason }),
            }
        }
        Ok(claim)
    }

    /// Hands at most `limit` (1 to 1000) due ids to the sink and removes them, in one step; at most
    /// `rate_limit` ids a second over all processes that say the same limit. Of a queue with several shards it is for one of
    /// them, see [`Queue::each_shard`].
    ///
    /// # Errors
    /// If Redis refuses. Nothing was fired then.
    pub async fn fire(&self, sink: Sink, limit: usize, rate_limit: Option<u32>) -> Result<Fired> {
        let (script, fired_type) = match sink.kind {
            SinkKind::Stream => (&scripts::FIRE_STREAM, "stream"),
            SinkKind::List => (&scripts::FIRE_LIST, "list"),
        };
        let call = Call::new(script, self.keys.with_fired())
            .arg(self.now_argument())
            .arg(limit.clamp(1, MAX_IDS_PER_CALL))
            .arg(or_empty(sink.max_len))
            .arg(or_empty(rate_limit));
        let name = call.name();
        let mut reply = Reply::new(name, self.call_with_fired(call, Some(fired_type)).await?)?;
        let fired = Fired {
            now: ServerTime::from_us(reply.int()?),
            count: reply.count()? as usize,
            next: reply.due_at()?,
            impossible: reply.count()?,
            more: reply.count()? > 0,
            earliest: DueAt::from_ms(reply.int()?).ok(),
            canary: reply.sighting()?,
        };
        self.heard_of_shards(reply.bytes()?.as_deref());
        Ok(fired)
    }

    pub(super) async fn begin_here(&self, lease: &Lease) -> Result<Settled> {
        let call = with_leases(self.script(&scripts::BEGIN), std::slice::from_ref(lease));
        Ok(if self.changed(call).await? { Settled::Done } else { Settled::Stale })
    }

    pub(super) async fn ack_here(&self, leases: &[Lease]) -> Result<Vec<Settled>> {
        self.settle(leases, MAX_IDS_PER_CALL, |step| with_leases(self.script(&scripts::ACK), step)).await
    }

    /// Says that all is done of these claims that their tokens still hold; answers for each how many ids that were. It is
    /// for who knows of every id of the claim that it is done or settled otherwise. Of a queue with several shards it is for
    /// the one that was claimed from.
    ///
    /// # Errors
    /// If Redis refuses. Saying it again is safe, as with [`Queue::ack`].
    pub async fn ack_claims(&self, tokens: &[Token]) -> Result<Vec<usize>> {
        let mut answers = Vec::with_capacity(tokens.len());
        for step in tokens.chunks(MAX_CLAIMS_PER_CALL) {
            let all_ids =
                step.iter().fold(self.script(&scripts::ACK), |call, token| call.arg("").arg(token.get()));
            for [count] in Reply::new("ack", self.call(all_ids).await?)?.groups(step.len())? {
                answers.push(natural("ack", count)? as usize);
            }
        }
        Ok(answers)
    }

    pub(super) async fn release_here(&self, leases: &[Lease]) -> Result<Vec<Settled>> {
        self.settle(leases, MAX_IDS_PER_CALL, |step| with_leases(self.script(&scripts::RELEASE), step)).await
    }

    pub(super) async fn retry_here(&self, retries: &[Retry], max_attempts: u32) -> Result<Vec<Retried>> {
        let mut answers = Vec::with_capacity(retries.len());
        for step in retries.chunks(MAX_FAILURES_PER_CALL) {
            let mut call = self.timed(&scripts::RETRY).arg(max_attempts);
            for Retry { lease, delay, error } in step {
                call = call.arg(lease.id.as_str()).arg(lease.token.get());
                call = call.arg(delay.as_millis().to_string()).arg(cut(error));
            }
            for [code] in Reply::new("retry", self.call(call).await?)?.groups(step.len())? {
                answers.push(match code {
                    0 => Retried::Stale,
                    -1 => Retried::Dead,
                    -2 => Retried::Superseded,
                    at => Retried::Scheduled { at: deadline("retry", at)? },
                });
            }
        }
        Ok(answers)
    }

    pub(super) async fn bury_here(&self, rejected: &[Rejected]) -> Result<Vec<Settled>> {
        self.settle(rejected, MAX_FAILURES_PER_CALL, |step| {
            step.iter().fold(self.timed(&scripts::BURY), |call, Rejected { id, token, reason, error }| {
                call.arg(id).arg(token.get()).arg(reason).arg(cut(error))
            })
        })
        .await
    }

    pub(super) async fn extend_here(&self, tokens: &[Token], lease: Duration) -> Result<Vec<Settled>> {
        self.settle(tokens, MAX_IDS_PER_CALL, |step| {
            let call = self.timed(&scripts::EXTEND).arg(lease_ms(lease));
            step.iter().fold(call, |call, token| call.arg(token.get()).arg(""))
        })
        .await
    }

    pub(super) async fn extend_ids_here(&self, leases: &[Lease], lease: Duration) -> Result<Vec<Settled>> {
        self.settle(leases, MAX_IDS_PER_CALL, |step| {
            let call = self.timed(&scripts::EXTEND).arg(lease_ms(lease));
            step.iter().fold(call, |call, Lease { id, token }| call.arg(token.get()).arg(id.as_str()))
        })
        .await
    }

    /// Moves at most 1000 entries with an impossible score to the dead set; answers how many it were.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn reject(&self) -> Result<u64> {
        self.counted(self.timed(&scripts::REJECT).arg(MAX_IDS_PER_CALL)).await
    }
}

/// Checks what a foreign client may have written.
fn read(id: &[u8], payload: Option<&[u8]>) -> Result<(Id, Option<Payload>), (&'static str, String)> {
    let text =
        std::str::from_utf8(id).map_err(|cause| ("invalid_id", format!("id is not UTF-8: {cause}")))?;
    let id = Id::new(text).map_err(|cause| ("invalid_id", cause.to_string()))?;
    let payload = match payload.filter(|bytes| !bytes.is_empty()) {
        None => None,
        Some(bytes) => {
            let text = std::str::from_utf8(bytes)
                .map_err(|cause| ("invalid_payload", format!("payload is not UTF-8: {cause}")))?;
            Some(Payload::new(text).map_err(|cause| ("invalid_payload", cause.to_string()))?)
        }
    };
    Ok((id, payload))
}

/// A claim takes no score below this, so it stands only for a record that somebody damaged.
fn earliest() -> DueAt {
    DueAt::from_ms(DueAt::MIN_MS).expect("the minimum is in range")
}

fn or_empty(argument: Option<impl ToString>) -> String {
    argument.map_or_else(String::new, |argument| argument.to_string())
}

fn lease_ms(lease: Duration) -> String {
    lease.as_millis().to_string()
}

fn with_leases<'a>(call: Call<'a>, leases: &[Lease]) -> Call<'a> {
    leases.iter().fold(call, |call, Lease { id, token }| call.arg(id.as_str()).arg(token.get()))
}

/// The beginning of an error says what failed, and its end, as that of a program's stderr, why.
pub(super) fn cut(error: &str) -> String {
    let chars = error.chars().count();
    if chars <= MAX_ERROR_CHARS {
        return error.to_owned();
    }
    let head = error.chars().take(ERROR_HEAD_CHARS - 1).chain(['…']);
    head.chain(error.chars().skip(chars - (MAX_ERROR_CHARS - ERROR_HEAD_CHARS))).collect()
}
