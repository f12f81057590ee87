//! The lines of a batch: cut out of the body, read, and put together in groups.

use std::{borrow::Cow, pin::Pin};

use axum::body::{BodyDataStream, Bytes};
use futures_util::{FutureExt as _, StreamExt as _, stream::Peekable};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{
    Api,
    deadlines::due,
    extract::{explain, is_json, present, stopping, too_slow},
    problem::{Kind, Problem},
    schema::When,
};
use crate::{
    duration,
    queue::{MAX_IDS_PER_CALL, Registration, TraceParent},
    types::{DueAt, Id, MAX_PAYLOAD_BYTES, Payload},
};

/// Longest line: an id, a payload in which JSON escapes every byte, and the rest.
const MAX_LINE_BYTES: usize = 8 * MAX_PAYLOAD_BYTES;
/// As much text as a group takes at most, so that long payloads make smaller groups.
const MAX_GROUP_BYTES: usize = 4 << 20;

/// A line of the request.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BatchLine)]
struct Line<'a> {
    #[serde(borrow)]
    #[schema(value_type = Id)]
    id: Cow<'a, str>,
    /// When it is due. Either this or `delay`.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<When>)]
    due_at: Option<DueAt>,
    /// How long from now, by the clock of Redis.
    #[serde(default, deserialize_with = "present")]
    delay: Option<duration::Text>,
    /// What the handler gets along.
    #[serde(borrow)]
    #[schema(value_type = Option<serde_json::Value>)]
    payload: Option<&'a RawValue>,
    /// W3C trace context: kept with the deadline, and handed to its handler. An invalid one is ignored.
    #[serde(borrow, default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    traceparent: Option<Cow<'a, str>>,
}

/// Lines that go to Redis together, and those between them that cannot.
#[derive(Default)]
pub(super) struct Group {
    pub(super) registrations: Vec<Registration>,
    /// For each registration its trace; empty if no line has one.
    pub(super) traces: Vec<Option<TraceParent>>,
    /// For each line its number, and what is wrong with it.
    pub(super) lines: Vec<(u64, Option<Problem>)>,
    bytes: usize,
    /// Nothing can be read behind it.
    pub(super) broken: Option<(u64, Problem)>,
}

impl Group {
    fn is_full(&self) -> bool {
        self.lines.len() >= MAX_IDS_PER_CALL || self.bytes >= MAX_GROUP_BYTES
    }

    fn push(&mut self, number: u64, line: Result<(Registration, Option<TraceParent>), Problem>) {
        let problem = line.map(|(registration, trace)| self.register(registration, trace)).err();
        self.lines.push((number, problem));
    }

    fn register(&mut self, registration: Registration, trace: Option<TraceParent>) {
        if trace.is_some() || !self.traces.is_empty() {
            self.traces.resize(self.registrations.len(), None);
            self.traces.push(trace);
        }
        self.registrations.push(registration);
    }
}

/// Cuts a body into groups of lines.
pub(super) struct Lines {
    body: Peekable<BodyDataStream>,
    api: Api,
    /// What was read behind the last line break.
    rest: Vec<u8>,
    /// What is left of the last chunk.
    chunk: Bytes,
    number: u64,
    /// True while the rest of a line that is too long is skipped.
    skips: bool,
    ended: bool,
}

impl Lines {
    pub(super) fn new(body: BodyDataStream, api: Api) -> Self {
        let body = body.peekable();
        Self { body, api, rest: Vec::new(), chunk: Bytes::new(), number: 0, skips: false, ended: false }
    }

    /// Waits for the first bytes: a caller who asked whether to send the body is told so.
    pub(super) async fn begin(&mut self) {
        // What it comes to is seen when it is read.
        let _ = timeout(self.api.idle_timeout, Pin::new(&mut self.body).peek()).await;
    }

    /// The next lines: as many as fit, or as have come so far, so that a caller who sends a few and waits is answered.
    pub(super) async fn group(mut self) -> Option<(Group, Self)> {
        let mut group = Group::default();
        while !self.ended && !group.is_full() {
            if self.chunk.is_empty() && !self.read(&mut group).await {
                break;
            }
            self.cut(&mut group);
        }
        let is_last = self.ended && group.lines.is_empty() && group.broken.is_none();
        (!is_last).then_some((group, self))
    }

    /// Waits for the next chunk; answers false if the group should go without it.
    async fn read(&mut self, group: &mut Group) -> bool {
        let chunk = if group.lines.is_empty() {
            let stop = self.api.stop.clone();
            tokio::select! {
                chunk = timeout(self.api.idle_timeout, self.body.next()) => match chunk {
                    Ok(chunk) => chunk,
                    Err(_) => return self.broken(group, too_slow(&self.api)),
                },
                () = stop.cancelled() => return self.broken(group, stopping()),
            }
        } else {
            match self.body.next().now_or_never() {
                Some(chunk) => chunk,
                None => return false,
            }
        };
        match chunk {
            Some(Ok(chunk)) => self.chunk = chunk,
            Some(Err(_)) => {
                return self.broken(group, Problem::new(Kind::MalformedRequest, "the body broke off"));
            }
            None => {
                self.ended = true;
                let last = std::mem::take(&mut self.rest);
                self.line(&last, group);
            }
        }
        true
    }

    fn broken(&mut self, group: &mut Group, problem: Problem) -> bool {
        self.ended = true;
        group.broken = Some((self.number + 1, problem));
        false
    }

    /// Takes lines off the chunk until the group is full.
    fn cut(&mut self, group: &mut Group) {
        while !self.chunk.is_empty() && !group.is_full() {
            let Some(end) = memchr::memchr(b'\n', &self.chunk) else {
                let part = std::mem::take(&mut self.chunk);
                return self.keep(&part, group);
            };
            let line = self.chunk.split_to(end + 1);
            if self.rest.is_empty() && !self.skips && line.len() <= MAX_LINE_BYTES {
                self.line(&line, group);
            } else {
                self.keep(&line, group);
                let line = std::mem::take(&mut self.rest);
                if !std::mem::take(&mut self.skips) {
                    self.line(&line, group);
                }
            }
        }
    }

    /// Keeps a part of a line, unless that is too long by now.
    fn keep(&mut self, part: &[u8], group: &mut Group) {
        if self.skips {
            return;
        }
        self.rest.extend_from_slice(part);
        if self.rest.len() > MAX_LINE_BYTES {
            (self.rest, self.skips) = (Vec::new(), true);
            self.number += 1;
            let why = format!("the line is longer than {MAX_LINE_BYTES} bytes");
            group.push(self.number, Err(Problem::new(Kind::BodyTooLarge, why)));
        }
    }

    fn line(&mut self, line: &[u8], group: &mut Group) {
        let text = line.trim_ascii();
        if !line.is_empty() {
            self.number += 1;
        }
        if !text.is_empty() {
            group.bytes += text.len();
            group.push(self.number, parse(text));
        }
    }
}

fn parse(line: &[u8]) -> Result<(Registration, Option<TraceParent>), Problem> {
    if line[0] != b'{' {
        return Err(Problem::new(Kind::MalformedRequest, "a line must be a JSON object"));
    }
    let Line { id, due_at, delay, payload, traceparent } = serde_json::from_slice(line).map_err(|cause| {
        if is_json(line) {
            return explain::<Line<'_>>(line);
        }
        // Each line is a document of its own to serde, which adds that it is line 1.
        Problem::new(Kind::MalformedRequest, cause.to_string().replace(" at line 1 column", " at column"))
    })?;
    let id = Id::new(id).map_err(|invalid| Problem::from(invalid).field("id"))?;
    let payload = payload.map(Payload::from_json).transpose();
    let payload = payload.map_err(|invalid| Problem::from(invalid).field("payload"))?.flatten();
    let trace = traceparent.and_then(|text| TraceParent::parse(&text));
    Ok((Registration { id, due: due(due_at, delay)?, payload }, trace))
}
