//! The verbs of those who register deadlines: schedule, reschedule, cancel.

use super::{
    Cancelled, Due, Expected, MAX_IDS_PER_CALL, Mode, Queue, Registration, Rescheduled, Scheduled, State,
    TraceParent,
    reply::{Reply, deadline, natural, unknown},
    scripts,
    shards::{Part, Reach},
};
use crate::{
    error::{Error, Result},
    types::{DueAt, Id, Token},
};
use std::time::Duration;

/// One call carries at most this much of payloads, so that it does not keep Redis from others for long.
const MAX_PAYLOAD_BYTES_PER_CALL: usize = 4 << 20;

impl Queue {
    /// Registers deadlines, or moves them, as `mode` says; answers for each in order. Up to 1000 are one
    /// atomic step, more are cut into several. An id that is leased gets a deadline of its own beside the
    /// running delivery; a dead one is brought back.
    ///
    /// # Errors
    /// If Redis refuses, as it does when it is full: nothing of that step was written then.
    pub async fn schedule(
        &self,
        registrations: &[Registration],
        mode: Mode,
        expected: Expected,
    ) -> Result<Vec<Scheduled>> {
        self.schedule_traced(registrations, &[], mode, expected).await
    }

    /// As [`Queue::schedule`], with the traces that the registrations belong to, in their order. Where there is none,
    /// an earlier one of the id is forgotten.
    ///
    /// # Errors
    /// As [`Queue::schedule`].
    pub async fn schedule_traced(
        &self,
        registrations: &[Registration],
        traces: &[Option<TraceParent>],
        mode: Mode,
        expected: Expected,
    ) -> Result<Vec<Scheduled>> {
        let items: Vec<(&Registration, Option<&TraceParent>)> = registrations
            .iter()
            .zip(traces.iter().map(Option::as_ref).chain(std::iter::repeat(None)))
            .collect();
        let ids: Vec<&Id> = registrations.iter().map(|registration| &registration.id).collect();
        let schedule = |part: Part| {
            let items = part.of(&items).into_iter().copied().collect::<Vec<_>>();
            async move { part.shard.schedule_here(&items, mode, expected, &part.fence).await }
        };
        let answers = self.routed(&ids, Reach::One, Option::is_none, schedule).await?;
        let nowhere = || Error::Reply { script: "schedule", detail: "an id that is not at home".to_owned() };
        answers.into_iter().map(|answer| answer.ok_or_else(nowhere)).collect()
    }

    /// None for an id that is not here, where the fence says that it has to be.
    async fn schedule_here(
        &self,
        items: &[(&Registration, Option<&TraceParent>)],
        mode: Mode,
        expected: Expected,
        fence: &str,
    ) -> Result<Vec<Option<Scheduled>>> {
        let mode = format!("{}{fence}", mode_argument(mode));
        let mut answers = Vec::with_capacity(items.len());
        let mut rest = items;
        while !rest.is_empty() {
            let (step, later) = rest.split_at(step_len(rest));
            rest = later;
            let mut call = self.timed(&scripts::SCHEDULE).arg(&mode).arg(expected_argument(expected));
            for (registration, trace) in step {
                let payload = registration.payload.as_ref().map_or("", |payload| payload.as_str());
                let due = due_argument(registration.due);
                call = call.arg(registration.id.as_str());
                call = match trace {
                    Some(trace) => call.arg(format!("{due} {trace}")),
                    None => call.arg(due),
                };
                call = call.arg(payload);
            }
            for [code, due_at, old] in Reply::new("schedule", self.write(call).await?)?.groups(step.len())? {
                answers.push(if code == 7 && fence.starts_with("@!") {
                    None
                } else {
                    Some(scheduled(code, due_at, old)?)
                });
            }
        }
        Ok(answers)
    }

    /// Moves the deadline of a scheduled id. The payload stays; attempts start anew.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn reschedule(&self, id: &Id, due: Due, expected: Expected) -> Result<Rescheduled> {
        let reschedule =
            |part: Part| async move { Ok(vec![part.shard.reschedule_here(id, due, expected).await?]) };
        let is_absent = |answer: &Rescheduled| *answer == Rescheduled::NotFound;
        Ok(self.routed(&[id], Reach::One, is_absent, reschedule).await?[0])
    }

    async fn reschedule_here(&self, id: &Id, due: Due, expected: Expected) -> Result<Rescheduled> {
        let call = self.timed(&scripts::RESCHEDULE).arg(id.as_str()).arg(due_argument(due));
        let mut reply = Reply::new("reschedule", self.write(call.arg(expected_argument(expected))).await?)?;
        let (code, due_at, old) = (reply.int()?, reply.int()?, reply.int()?);
        Ok(match code {
            0 => Rescheduled::NotFound,
            1 => {
                Rescheduled::Moved { due_at: deadline("reschedule", due_at)?, old: DueAt::from_ms(old).ok() }
            }
            2 => Rescheduled::InFlight,
            3 => Rescheduled::Dead,
            4 => Rescheduled::Conflict { due_at: DueAt::from_ms(due_at).ok() },
            code => return Err(unknown("reschedule", code)),
        })
    }

    /// Takes ids out of the queue; answers for each in order. A delivery that is under way cannot be called
    /// back, but it is the last one.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn cancel(&self, ids: &[Id]) -> Result<Vec<Cancelled>> {
        let ids: Vec<&Id> = ids.iter().collect();
        let cancel = |part: Part| {
            let ids = part.of(&ids).into_iter().copied().collect::<Vec<_>>();
            async move { part.shard.cancel_here(&ids).await }
        };
        self.routed(&ids, Reach::All, |answer| *answer == Cancelled::NotFound, cancel).await
    }

    async fn cancel_here(&self, ids: &[&Id]) -> Result<Vec<Cancelled>> {
        let mut answers = Vec::with_capacity(ids.len());
        for step in ids.chunks(MAX_IDS_PER_CALL) {
            let call = self.timed(&scripts::CANCEL).args(step.iter().map(|id| id.as_str()));
            for [code, first, second] in Reply::new("cancel", self.write(call).await?)?.groups(step.len())? {
                answers.push(cancelled(code, first, second)?);
            }
        }
        Ok(answers)
    }
}

/// How many of the registrations fit in one call; at least one.
fn step_len(items: &[(&Registration, Option<&TraceParent>)]) -> usize {
    let mut bytes = 0;
    let fits = |(registration, _): &&(&Registration, Option<&TraceParent>)| {
        bytes += registration.payload.as_ref().map_or(0, |payload| payload.as_str().len());
        bytes <= MAX_PAYLOAD_BYTES_PER_CALL
    };
    items.iter().take(MAX_IDS_PER_CALL).take_while(fits).count()
}

fn mode_argument(mode: Mode) -> &'static str {
    match mode {
        Mode::Replace => "replace",
        Mode::Keep => "keep",
        Mode::Earliest => "earliest",
        Mode::Latest => "latest",
    }
}

fn expected_argument(expected: Expected) -> String {
    match expected {
        Expected::Anything => String::new(),
        Expected::Absent => "0".to_owned(),
        Expected::At(due_at) => due_at.as_ms().to_string(),
    }
}

/// A deadline as the scripts read it.
pub(crate) fn due_argument(due: Due) -> String {
    match due {
        Due::At(due_at) => due_at.as_ms().to_string(),
        Due::In(delay) => format!("+{}", delay.as_millis()),
    }
}

fn scheduled(code: i64, due_at: i64, old: i64) -> Result<Scheduled> {
    let held = DueAt::from_ms(due_at).ok();
    Ok(match code {
        1 => Scheduled::Created { due_at: deadline("schedule", due_at)? },
        2 => Scheduled::Replaced { due_at: deadline("schedule", due_at)?, old: DueAt::from_ms(old).ok() },
        3 => Scheduled::Kept { due_at: held, state: State::Scheduled },
        4 => Scheduled::Conflict { due_at: held },
        5 => Scheduled::Kept { due_at: None, state: State::Leased },
        6 => Scheduled::Kept { due_at: None, state: State::Dead },
        code => return Err(unknown("schedule", code)),
    })
}

fn cancelled(code: i64, first: i64, second: i64) -> Result<Cancelled> {
    let natural = |int| natural("cancel", int);
    Ok(match code {
        0 => Cancelled::NotFound,
        1 => Cancelled::Cancelled { due_at: DueAt::from_ms(first).ok() },
        2 => Cancelled::InFlight {
            token: Token::new(natural(first)?),
            lease_left: Duration::from_millis(natural(second)?),
        },
        3 => Cancelled::Dead,
        code => return Err(unknown("cancel", code)),
    })
}
