//! One look at all queues, shared by all who watch, and its stream.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    response::{
        IntoResponse as _, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures_util::{future::join_all, stream};
use tokio::sync::Mutex;

use super::{Failed, words};
use crate::{
    http::{Api, Served},
    queue::{Counts, State as IdState},
    scheduler::{Minute, Rate},
    types::QueueName,
};

/// How old a look may be. However many watch, Redis is asked once in this time: about 0.2 ms of it for each queue.
const FRESH: Duration = Duration::from_secs(1);
/// How often the stream tells how it is.
const INTERVAL: Duration = Duration::from_secs(2);
/// Retries are counted among so many of the next ids.
pub(super) const RETRIES_AMONG: usize = 100;

/// One queue at one instant.
pub(super) struct View {
    pub(super) queue: QueueName,
    pub(super) handler: &'static str,
    /// None if Redis does not tell.
    pub(super) counts: Option<Counts>,
    /// How many of the next ids wait for a further attempt.
    pub(super) retrying: usize,
    pub(super) rate: Rate,
    pub(super) hour: Vec<Minute>,
}

/// How a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    OnTime,
    Paused,
    Late,
    Unknown,
}

impl Health {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::OnTime => "on time",
            Self::Paused => "paused",
            Self::Late => "late",
            Self::Unknown => "unknown",
        }
    }
}

impl View {
    async fn of(served: &Served) -> Self {
        let counts = served.queue.counts().await.ok();
        let retrying = match counts {
            Some(Counts { scheduled: 1.., .. }) => {
                let next = served.queue.list(IdState::Scheduled, RETRIES_AMONG, None).await;
                next.map_or(0, |page| page.rows.iter().filter(|row| row.failures > 0).count())
            }
            _ => 0,
        };
        let meter = served.pulse.meter();
        Self {
            queue: served.name().clone(),
            handler: served.handler,
            counts,
            retrying,
            rate: meter.now(),
            hour: meter.last_hour(),
        }
    }

    pub(super) fn overdue(&self) -> Duration {
        self.counts.as_ref().map_or(Duration::ZERO, Counts::overdue)
    }

    pub(super) fn health(&self) -> Health {
        match &self.counts {
            None => Health::Unknown,
            Some(counts) if counts.paused => Health::Paused,
            Some(_) if self.overdue() > Counts::LATE => Health::Late,
            Some(_) => Health::OnTime,
        }
    }

    /// Its numbers, the most urgent first: the place that the script knows, the label for people, and the text.
    pub(super) fn numbers(&self) -> [(&'static str, &'static str, String); 10] {
        let count = |of: fn(&Counts) -> u64| {
            self.counts.as_ref().map_or_else(|| "?".to_owned(), |counts| words::number(of(counts)))
        };
        let overdue = self.overdue();
        let next = self.counts.as_ref().and_then(|counts| {
            let next = counts.next_due_at?;
            Some(if overdue.is_zero() { words::from_now(next, counts.now) } else { "now".to_owned() })
        });
        [
            (
                "overdue",
                "Oldest overdue",
                if overdue.is_zero() { "–".to_owned() } else { words::span(overdue) },
            ),
            ("due", "Due now", count(|counts| counts.due)),
            ("scheduled", "Scheduled", count(|counts| counts.scheduled)),
            ("next", "Next deadline", next.unwrap_or_else(|| "–".to_owned())),
            ("leased", "In flight", count(|counts| counts.leased)),
            ("retrying", "Retrying", words::number(self.retrying as u64)),
            ("dead", "Dead", count(|counts| counts.dead)),
            ("rate", "Fired / s", words::rate(self.rate.fired_per_second)),
            ("p50", "Late p50", words::span_or_dash(self.rate.lateness_p50)),
            ("p99", "Late p99", words::span_or_dash(self.rate.lateness_p99)),
        ]
    }
}

/// What stands above all: whether somebody has to do something.
pub(super) fn verdict(views: &[View]) -> (Health, String) {
    let with = |health| views.iter().filter(move |view| view.health() == health);
    let names = |health| with(health).map(|view| view.queue.as_str()).collect::<Vec<_>>().join(", ");
    if with(Health::Unknown).next().is_some() {
        return (Health::Unknown, format!("Redis does not answer for {}", names(Health::Unknown)));
    }
    if let Some(worst) = with(Health::Late).max_by_key(|view| view.overdue()) {
        let due: u64 = with(Health::Late).filter_map(|view| Some(view.counts.as_ref()?.due)).sum();
        let (queues, oldest) = (names(Health::Late), words::span(worst.overdue()));
        return (Health::Late, format!("Late: {queues}. {} due, the oldest for {oldest}", words::ids(due)));
    }
    match names(Health::Paused) {
        paused if paused.is_empty() => (Health::OnTime, "All deadlines fire on time".to_owned()),
        paused => (Health::Paused, format!("Paused: {paused}. All else is on time")),
    }
}

/// The look that is shared.
#[derive(Default)]
pub(in crate::http) struct Live(Mutex<Option<(Instant, Arc<Vec<View>>)>>);

impl Live {
    /// All queues as they were a second ago at most. Who comes while one looks waits for that look.
    pub(super) async fn look(&self, api: &Api) -> Arc<Vec<View>> {
        let mut last = self.0.lock().await;
        if let Some((at, views)) = &*last
            && at.elapsed() < FRESH
        {
            return Arc::clone(views);
        }
        let views = Arc::new(join_all(api.queues.values().map(|served| View::of(served))).await);
        *last = Some((Instant::now(), Arc::clone(&views)));
        views
    }
}

/// What the script on the pages follows: an object of texts by the places they belong to.
pub(super) async fn stream(State(api): State<Api>) -> Result<Response, Failed> {
    let place = api.waiting_place()?;
    let events = stream::unfold((api, place, true), |(api, place, is_first)| async move {
        if !is_first {
            tokio::select! {
                () = api.stop.cancelled() => return None,
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
        let texts = texts(&api.live.look(&api).await);
        let data = serde_json::to_string(&texts).expect("text always has a JSON form");
        Some((Ok::<_, Infallible>(sse::Event::default().data(data)), (api, place, false)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

fn texts(views: &[View]) -> BTreeMap<String, String> {
    let (health, text) = verdict(views);
    let mut texts =
        BTreeMap::from([("verdict".to_owned(), text), ("health".to_owned(), health.word().to_owned())]);
    for view in views {
        let queue = &view.queue;
        texts.insert(format!("{queue}.health"), view.health().word().to_owned());
        texts.extend(view.numbers().map(|(name, _, text)| (format!("{queue}.{name}"), text)));
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{DueAt, ServerTime};

    fn view(name: &str, overdue_ms: i64, paused: bool) -> View {
        let now_ms = 1_767_225_600_000;
        let counts = Counts {
            now: ServerTime::from_ms(now_ms),
            scheduled: 5,
            due: 3,
            leased: 0,
            lost_leases: 0,
            dead: 0,
            impossible: 0,
            next_due_at: DueAt::from_ms(now_ms - overdue_ms).ok(),
            paused,
        };
        let queue = QueueName::new(name).unwrap();
        let (counts, rate) = (Some(counts), Rate::default());
        View { queue, handler: "log", counts, retrying: 0, rate, hour: Vec::new() }
    }

    #[test]
    fn the_verdict_is_that_of_the_worst() {
        let verdict = |views: &[View]| verdict(views);
        assert_eq!(
            verdict(&[view("a", -500, false)]),
            (Health::OnTime, "All deadlines fire on time".to_owned())
        );
        let views = [view("a", 0, false), view("b", 250_000, true)];
        assert_eq!(verdict(&views), (Health::Paused, "Paused: b. All else is on time".to_owned()));
        let views = [view("a", 250_000, false), view("b", 90_000, false), view("c", 0, true)];
        assert_eq!(
            verdict(&views),
            (Health::Late, "Late: a, b. 6 ids due, the oldest for 4m 10s".to_owned())
        );
        let away = View { counts: None, ..view("d", 0, false) };
        assert_eq!(verdict(&[view("a", 250_000, false), away]).0, Health::Unknown);
    }

    #[test]
    fn each_number_has_a_place_of_its_own() {
        let texts = texts(&[view("a", 250_000, false)]);
        assert_eq!(
            (texts["a.due"].as_str(), texts["a.overdue"].as_str(), texts["a.health"].as_str()),
            ("3", "4m 10s", "late")
        );
        assert_eq!(texts.len(), 2 + 11);
    }
}
