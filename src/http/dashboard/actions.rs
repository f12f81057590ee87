//! What can be done to a queue and to an id. Pages of other sites cannot send these forms: browsers name the origin of
//! every POST, and `auth` refuses any other than ours before a form is read.

use std::time::Duration;

use axum::{extract::State, response::Response};

use super::{Failed, Form, On, Viewer, id, words};
use crate::{
    duration,
    http::{
        Api, Served,
        problem::{Kind, Problem},
    },
    queue::{Cancelled, Due, Expected, Rescheduled, Settled},
    types::{DueAt, Id},
};

/// `pause` and `resume`.
pub(super) async fn on_queue(
    State(api): State<Api>,
    viewer: Viewer,
    On { served, params }: On,
    Form(mut form): Form,
) -> Result<Response, Failed> {
    viewer.check_may_act()?;
    params.no_more()?;
    let action = form.words("action", 20)?.unwrap_or_default();
    form.no_more()?;
    let paused = match action.as_str() {
        "pause" => true,
        "resume" => false,
        _ => return Err(no_such_action(&action).into()),
    };
    let changed = served.queue.pause(paused).await?;
    let queue = served.name();
    tracing::info!(who = viewer.who(), %queue, action, changed, "dashboard");
    let done = match (paused, changed) {
        (true, true) => "Paused: nothing is claimed until it is resumed.",
        (true, false) => "It was paused already.",
        (false, true) => "Resumed.",
        (false, false) => "It was not paused.",
    };
    Ok(words::see_other(&api.flash.url(&format!("/queues/{queue}"), &[], done)))
}

/// `fire`, `reschedule`, `cancel`, `retry` and `delete`.
pub(super) async fn on_id(
    State(api): State<Api>,
    viewer: Viewer,
    On { served, mut params }: On,
    Form(mut form): Form,
) -> Result<Response, Failed> {
    viewer.check_may_act()?;
    let id = Id::new(params.words("id", 300)?.unwrap_or_default())?;
    params.no_more()?;
    let action = form.words("action", 20)?.unwrap_or_default();
    let (delay, seen) = (form.words("in", 50)?, form.take::<DueAt>("seen")?);
    form.no_more()?;
    // As under `/v1`: what is dead is retried and deleted in queues of orders, too.
    if !matches!(action.as_str(), "retry" | "delete") {
        served.check_writable()?;
    }
    let done = match action.as_str() {
        "fire" => reschedule(&served, &id, Duration::ZERO, seen).await?,
        "reschedule" => {
            let delay = delay.unwrap_or_default();
            let delay = duration::parse(delay.trim())
                .map_err(|cause| Problem::new(Kind::InvalidValue, cause).field("in"))?;
            reschedule(&served, &id, delay, seen).await?
        }
        "cancel" => cancel(&served, &id).await?,
        "retry" => settled(&served.queue.retry_dead(std::slice::from_ref(&id)).await?, "It is due now."),
        "delete" => settled(&served.queue.delete_dead(std::slice::from_ref(&id)).await?, "Deleted."),
        _ => return Err(no_such_action(&action).into()),
    };
    tracing::info!(who = viewer.who(), queue = %served.name(), %id, action, done, "dashboard");
    Ok(words::see_other(&api.flash.url(&id::path(&served), &[("id", id.as_str())], done)))
}

async fn reschedule(
    served: &Served,
    id: &Id,
    delay: Duration,
    seen: Option<DueAt>,
) -> Result<&'static str, Failed> {
    let expected = seen.map_or(Expected::Anything, Expected::At);
    Ok(match served.queue.reschedule(id, Due::In(delay), expected).await? {
        Rescheduled::Moved { .. } if delay.is_zero() => "It is due now.",
        Rescheduled::Moved { .. } => "Rescheduled.",
        Rescheduled::NotFound => "It is no longer in the queue.",
        Rescheduled::InFlight => "It is in flight: nothing was changed.",
        Rescheduled::Dead => "It is dead: nothing was changed.",
        Rescheduled::Conflict { .. } => "Somebody else has moved it: nothing was changed.",
    })
}

async fn cancel(served: &Served, id: &Id) -> Result<&'static str, Failed> {
    let answers = served.queue.cancel(std::slice::from_ref(id)).await?;
    Ok(match answers.first() {
        Some(Cancelled::Cancelled { .. }) => "Cancelled: it will not fire.",
        Some(Cancelled::InFlight { .. }) => {
            "A delivery is under way and may succeed; it is the last attempt."
        }
        Some(Cancelled::Dead) => "It is dead: delete it instead.",
        Some(Cancelled::NotFound) | None => "It is no longer in the queue.",
    })
}

fn settled(answers: &[Settled], done: &'static str) -> &'static str {
    if answers == [Settled::Done] { done } else { "It is not dead: nothing was changed." }
}

pub(super) fn no_such_action(action: &str) -> Problem {
    Problem::new(Kind::InvalidValue, format_args!("there is no action `{}`", action.escape_debug()))
        .field("action")
}
