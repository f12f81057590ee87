//! `lateness`: from the deadline to the call of the handler, at several rates, with and without a backlog.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    ahead,
    clock::Clock,
    drain::Schedulers,
    figure::{Figure, Unit},
    lab::{Lab, Round},
    latency::{Latencies, Percentiles},
};
use crate::handler::{Delivery, Handler, Outcome};

/// The queue with ids that are far from due, and the one without.
const FULL: &str = "full";
const EMPTY: &str = "empty";
/// By how much the clocks of this process and of Redis may go apart in a run before it is said.
const DRIFT_SHOWN: Duration = Duration::from_micros(500);

/// Notes how late it is called.
pub(super) struct Noting {
    pub(super) clock: Clock,
    pub(super) latencies: Arc<Latencies>,
}

impl Handler for Noting {
    async fn handle(&self, delivery: &Delivery) -> Outcome {
        // Not `Delivery::lateness`: that leaves out the time from the script to its answer.
        self.latencies.note(self.clock.us_since(delivery.due_at, Instant::now()));
        Outcome::Done
    }
}

pub(super) async fn measure(lab: &Lab<'_>) -> anyhow::Result<Vec<Figure>> {
    lab.rig.clear().await?;
    let backlog = lab.plan.backlog;
    lab.show(&format!("lateness: {backlog} ids far ahead"), 0);
    lab.fill(&lab.rig.queue(FULL).await?, lab.far(backlog).await?, None).await?;

    let mut figures = Vec::new();
    for &rate in &lab.plan.rates {
        let what = format!("lateness rate={rate}");
        let measured = lab
            .rounds(&what, &[EMPTY, FULL], async |queue, round| once(lab, queue, rate, round).await)
            .await?;
        for (place, name) in Percentiles::NAMES.into_iter().enumerate() {
            let values = |runs: &[Percentiles]| runs.iter().map(|run| run.0[place]).collect::<Vec<f64>>();
            let (empty, full) = (values(&measured[0]), values(&measured[1]));
            let figure = |values, pending| {
                Figure::new("lateness", name, Unit::Milliseconds, values)
                    .with("rate", rate)
                    .with("pending", pending)
            };
            figures.push(figure(empty.clone(), 0));
            figures.push(figure(full, backlog).beside("nothing_pending", empty));
        }
    }
    Ok(figures)
}

async fn once(lab: &Lab<'_>, queue: &str, rate: u64, round: Round) -> anyhow::Result<Percentiles> {
    let queue = lab.rig.queue(queue).await?;
    let span = round.span(lab.plan.span);
    let count = ((rate as f64 * span.as_secs_f64()) as u64).max(1);
    ahead::fill(lab, &queue, count, span, round.seed, Duration::ZERO).await?;

    let clock = Clock::of(queue.redis()).await?;
    let latencies = Arc::new(Latencies::new());
    let handler = Noting { clock, latencies: Arc::clone(&latencies) };
    Schedulers::start(vec![queue], &lab.settings(), handler, count).finish(lab.bar).await?;
    let drift = clock.drift(lab.rig.redis()).await?;
    if drift > DRIFT_SHOWN {
        lab.bar
            .suspend(|| eprintln!("note: a clock was set by {drift:?} meanwhile, which is in the figures"));
    }
    Ok(latencies.percentiles())
}
