//! `/v1/orders/events`: what happens to orders, as server-sent events.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse as _, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures_util::{Stream, stream};
use http::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use super::{InQueue, InQueueParam};
use crate::{
    http::{
        Api,
        problem::{Kind, Problem},
    },
    order::{Event, Orders, is_event_id},
};

/// How often a follower's events are looked for.
const INTERVAL: Duration = Duration::from_millis(250);
/// Proxies cut what is silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How many events are read at once.
const EVENTS: usize = 500;
const LAST_EVENT_ID: &str = "last-event-id";
/// What Redis numbers the entries of a stream with: two numbers of 64 bits.
const MAX_EVENT_ID_BYTES: usize = 41;

/// Where to begin.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `events` takes out of the query")]
pub(in crate::http) struct From {
    /// The id of an event: what follows it. `0` for all that is kept; what comes from now on if left out
    #[param(pattern = r"^[0-9]{1,15}(-[0-9]{1,15})?$")]
    after: Option<String>,
}

/// Follow what happens to orders.
///
/// A stream of server-sent events without an end: `id` is what to begin behind the next time (browsers send it as
/// `Last-Event-ID` by themselves), `event` is `created`, `paid`, `cancelled` or `expired`, and `data` is JSON with
/// `type`, `id` and `at`. A consumer that must miss nothing remembers the last id that it has worked off.
#[utoipa::path(
    get, path = "/v1/orders/events", operation_id = "followOrders", tag = "orders",
    params(InQueueParam, From,
        ("Last-Event-ID" = Option<String>, Header, pattern = r"^[0-9]{1,15}(-[0-9]{1,15})?$",
            description = "As `after`, which overrules it")),
    responses(
        (status = 200, description = "Events, as they happen.", content_type = "text/event-stream", body = String,
            example = "id: 1767225600123-0\nevent: paid\ndata: {\"event_id\":\"1767225600123-0\",\"type\":\"paid\",\"id\":\"42\",\"at\":\"2026-01-01T00:00:00.123Z\"}\n\n"),
    ),
    security(("bearer" = ["read"])),
)]
pub(in crate::http) async fn events(
    State(api): State<Api>,
    InQueue { orders, mut params }: InQueue,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = params.words("after", MAX_EVENT_ID_BYTES)?;
    params.no_more()?;
    let last = headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("?").to_owned());
    let after = match after.map(|after| (after, "after")).or(last.map(|last| (last, LAST_EVENT_ID))) {
        Some((id, _)) if is_event_id(&id) => id,
        Some((_, field)) => {
            return Err(Problem::new(Kind::InvalidValue, "is no id of an event").field(field));
        }
        None => orders.last_event().await?.unwrap_or_else(|| "0".to_owned()),
    };
    let (stop, place) = (api.stop.clone(), api.waiting_place()?);
    let follower = Follower { orders, after, ready: VecDeque::new(), stop, _place: place };
    let stream = Sse::new(follower.stream()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(stream.into_response())
}

/// Where one follower is.
struct Follower {
    orders: Orders,
    after: String,
    ready: VecDeque<Event>,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// Ends with the server, and on trouble with Redis: whoever follows comes back, and goes on where it was.
    fn stream(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            let data = serde_json::to_string(&event).expect("text always has a JSON form");
            let sent = sse::Event::default().id(event.event_id).event(event.r#type.word()).data(data);
            Some((Ok(sent), follower))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.stop.is_cancelled() {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let page = match self.orders.events(Some(&self.after), EVENTS).await {
                Ok(page) => page,
                Err(cause) => {
                    tracing::warn!(queue = %self.orders.queue().name(), %cause, "a follower of orders is sent away");
                    return None;
                }
            };
            self.ready = page.events.into();
            self.after = page.last.unwrap_or_else(|| std::mem::take(&mut self.after));
            if self.ready.is_empty() && !page.more {
                tokio::select! {
                    () = self.stop.cancelled() => return None,
                    () = tokio::time::sleep(INTERVAL) => {}
                }
            }
        }
    }
}
