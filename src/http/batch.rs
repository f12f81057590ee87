//! `POST /v1/queues/{queue}/deadlines:batch`: any number of registrations, a line each, streamed both ways.
//!
//! In memory are the groups that are under way, and nothing else: a caller who does not read the answers stops the
//! reading of its lines.

use std::{
    collections::{HashSet, hash_map::RandomState},
    convert::Infallible,
    hash::BuildHasher as _,
    sync::Arc,
};

use axum::{
    body::{Body, Bytes},
    extract::{self, Request},
    response::{IntoResponse as _, Response},
};
use futures_util::{Stream, StreamExt as _, stream};
use http::header;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use utoipa::{IntoParams, ToSchema};

use super::{
    Api, Served,
    deadlines::Registering,
    extract::{OnQueueWith, check_type},
    lines::{Group, Lines},
    problem::{self, Problem},
    schema::{Durable, OneQueue},
};
use crate::{
    queue::{Expected, Mode, Registration, Scheduled, State},
    types::{DueAt, Id},
};

const NDJSON: &str = "application/x-ndjson";
/// Groups that Redis is at work on at once: while one is answered, the next is there already.
const AT_ONCE: usize = 4;
/// How many ids are remembered to tell which groups have one in common: 16 groups of 1000.
const MAX_REMEMBERED: usize = 16_000;

/// A line of the answer: what became of the line with this number.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchResult)]
struct Answer<'a> {
    /// From 1; empty lines count.
    #[schema(minimum = 1)]
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Id>)]
    id: Option<&'a Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Registering>,
    /// Where a kept id is.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    /// The deadline that holds now.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<DueAt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    error: Option<problem::Body<'a>>,
    /// True in the last line of a batch that was broken off: no line from this one on has a verdict. Send them again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    aborted: bool,
}

/// The last line of the answer to a batch that was read to its end.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchEnd)]
struct End {
    summary: Tally,
}

/// How many lines became what.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = BatchSummary)]
struct Tally {
    /// Lines that are not empty.
    lines: u64,
    created: u64,
    replaced: u64,
    kept: u64,
    failed: u64,
}

/// Which answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Answers {
    /// One for each line
    #[default]
    All,
    /// Only those of lines that failed
    Errors,
}

/// How to register.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `batch` takes out of the query")]
pub(super) struct Options {
    /// What to do with ids that are scheduled already; `replace` if left out
    #[param(inline)]
    mode: Option<Mode>,
    /// `errors` leaves out the answers of lines that went well: for callers that read nothing before they have sent
    /// all. `all` if left out
    #[param(inline)]
    answers: Option<Answers>,
}

/// Register any number of deadlines, streamed both ways.
///
/// Each line of the request is an object as for a single registration, with its `id`. Each line of the answer has the
/// number of its line; a line that cannot be registered has an `error` and does not stop the others. Lines with the same id
/// are taken in their order. The last line has a `summary`; if it has `aborted` instead, all lines from that number on
/// have to be sent again.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/deadlines:batch", operation_id = "batchDeadlines", tag = "deadlines",
    params(OneQueue, Options, Durable),
    request_body(content = String, content_type = "application/x-ndjson",
        example = "{\"id\":\"order-1\",\"delay\":\"30m\"}\n{\"id\":\"order-2\",\"due_at\":1767227400000,\"payload\":{\"n\":1}}\n"),
    responses(
        (status = 200, description = "A line for each line, and a summary.", body = String,
            content_type = "application/x-ndjson",
            example = "{\"line\":1,\"id\":\"order-1\",\"result\":\"created\",\"due_at\":\"2026-01-01T00:30:00.000Z\"}\n{\"summary\":{\"lines\":1,\"created\":1,\"replaced\":0,\"kept\":0,\"failed\":0}}\n"),
    ),
    security(("bearer" = ["write"])),
)]
pub(super) async fn batch(
    extract::State(api): extract::State<Api>,
    OnQueueWith { served, mut params }: OnQueueWith,
    request: Request,
) -> Result<Response, Problem> {
    served.check_writable()?;
    let mode = params.choice::<Mode>("mode")?.unwrap_or_default();
    let answers = params.choice::<Answers>("answers")?.unwrap_or_default();
    params.no_more()?;
    check_type(request.headers(), NDJSON)?;
    // Once the answer has begun, it is too late for `100 Continue`, and curl waits for a second.
    let asks = request.headers().contains_key(header::EXPECT);
    let mut lines = Lines::new(request.into_body().into_data_stream(), api);
    if asks {
        lines.begin().await;
    }
    let body = Body::from_stream(answer(lines, served, mode, answers).map(Ok::<Bytes, Infallible>));
    Ok(([(header::CONTENT_TYPE, NDJSON)], body).into_response())
}

/// The answer, a chunk for each group.
fn answer(lines: Lines, served: Arc<Served>, mode: Mode, which: Answers) -> impl Stream<Item = Bytes> + Send {
    let groups = stream::unfold((lines, Turns::default()), async |(lines, mut turns)| {
        let (group, lines) = lines.group().await?;
        let turn = turns.next(&group).await;
        Some(((group, turn), (lines, turns)))
    });
    let registered = groups.map(move |(group, turn)| {
        let served = Arc::clone(&served);
        async move {
            let Group { registrations, traces, .. } = &group;
            let answers = served.queue.schedule_traced(registrations, traces, mode, Expected::Anything).await;
            drop(turn);
            (group, answers)
        }
    });
    let registered = Box::pin(registered.buffered(AT_ONCE));
    let writer = Writer { text: Vec::new(), which, tally: Tally::default() };
    stream::unfold(Some((registered, writer)), async |state| {
        let (mut registered, mut writer) = state?;
        let Some((group, answers)) = registered.next().await else {
            let summary = std::mem::take(&mut writer.tally);
            writer.put(&End { summary });
            return Some((writer.take(), None));
        };
        let goes_on = writer.group(group, answers);
        Some((writer.take(), goes_on.then_some((registered, writer))))
    })
}

/// Lets a group wait for those before it if they have an id in common, since the last line of an id is to hold. Redis may
/// take calls in another order than they were made in: where its script has to be loaded first, where a write is waited for,
/// or where one of two shards answers sooner.
#[derive(Default)]
struct Turns {
    /// Read by each group that is under way.
    under_way: Arc<RwLock<()>>,
    /// Hashes of the ids of groups that may be under way.
    ids: HashSet<u64>,
    hasher: RandomState,
}

impl Turns {
    async fn next(&mut self, group: &Group) -> OwnedRwLockReadGuard<()> {
        let hash = |registration: &Registration| self.hasher.hash_one(registration.id.as_str());
        let ids: Vec<u64> = group.registrations.iter().map(hash).collect();
        if self.ids.len() >= MAX_REMEMBERED || ids.iter().any(|id| self.ids.contains(id)) {
            drop(self.under_way.write().await);
            self.ids.clear();
        }
        self.ids.extend(ids);
        Arc::clone(&self.under_way).read_owned().await
    }
}

/// Writes the lines of the answer, and counts.
struct Writer {
    text: Vec<u8>,
    which: Answers,
    tally: Tally,
}

impl Writer {
    fn put(&mut self, line: &impl Serialize) {
        serde_json::to_writer(&mut self.text, line).expect("text and numbers always have a JSON form");
        self.text.push(b'\n');
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.text).into()
    }

    /// Answers false if the batch ends here.
    fn group(&mut self, group: Group, answers: crate::Result<Vec<Scheduled>>) -> bool {
        let answers = match answers {
            Ok(answers) => answers,
            Err(cause) => {
                let first = group.lines.first().map_or(1, |(number, _)| *number);
                return self.abort(first, &Problem::from(cause));
            }
        };
        let mut registered = group.registrations.iter().zip(answers);
        for (number, problem) in &group.lines {
            self.tally.lines += 1;
            match problem {
                Some(problem) => self.failed(*number, problem),
                None => {
                    if let Some((registration, answer)) = registered.next() {
                        self.registered(*number, &registration.id, answer);
                    }
                }
            }
        }
        match group.broken {
            Some((number, problem)) => self.abort(number, &problem),
            None => true,
        }
    }

    fn registered(&mut self, line: u64, id: &Id, answer: Scheduled) {
        let (result, state, due_at) = match answer {
            Scheduled::Created { due_at } => (Registering::Created, None, Some(due_at)),
            Scheduled::Replaced { due_at, .. } => (Registering::Replaced, None, Some(due_at)),
            Scheduled::Kept { due_at, state } => (Registering::Kept, Some(state), due_at),
            // Nothing is expected of the deadlines that hold.
            Scheduled::Conflict { due_at } => (Registering::Kept, None, due_at),
        };
        match result {
            Registering::Created => self.tally.created += 1,
            Registering::Replaced => self.tally.replaced += 1,
            _ => self.tally.kept += 1,
        }
        if self.which == Answers::All {
            let (id, result, error) = (Some(id), Some(result), None);
            self.put(&Answer { line, id, result, state, due_at, error, aborted: false });
        }
    }

    fn failed(&mut self, line: u64, problem: &Problem) {
        self.tally.failed += 1;
        self.put(&error(line, problem, false));
    }

    fn abort(&mut self, line: u64, problem: &Problem) -> bool {
        self.put(&error(line, problem, true));
        false
    }
}

fn error(line: u64, problem: &Problem, aborted: bool) -> Answer<'_> {
    let error = Some(problem.body());
    Answer { line, id: None, result: None, state: None, due_at: None, error, aborted }
}
