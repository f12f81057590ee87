//! Each script tried on scratch keys: a right that is missing is found here rather than at three in the morning.

use std::time::Duration;

use super::{Finding, Level};
use crate::{
    error::{Error, TroubleKind},
    lock,
    order::{Fields, NewOrder, Orders, Status},
    queue::{Due, Expected, Lease, Mode, Queue, Registration, Rejected, Retry, Sink, SinkKind, State},
    redis::Redis,
    types::{DueAt, Id, Payload, QueueName, ServerTime, Token},
};

const CHECK: &str = "rights";
const LEASE: Duration = Duration::from_secs(10);
const RETAIN: Duration = Duration::from_secs(3600);
/// An instant of virtual time, so that the trial does not wait: 2026-01-01T00:00:00Z.
const NOW_MS: i64 = 1_767_225_600_000;

/// What was refused, by the verb that was tried.
#[derive(Default)]
struct Trial {
    refused: Vec<(&'static str, Error)>,
    tried: usize,
}

impl Trial {
    fn note<T>(&mut self, verb: &'static str, answer: Result<T, Error>) -> Option<T> {
        self.tried += 1;
        answer.map_err(|error| self.refused.push((verb, error))).ok()
    }
}

/// Tries them all. The keys are removed again.
pub(super) async fn examine(redis: &Redis, prefix: &str) -> Vec<Finding> {
    let name = QueueName::new(format!("doctor-{:016x}", rand::random::<u64>())).expect("letters and digits");
    let queue = Queue::new(redis.clone(), prefix, name);
    let mut trial = Trial::default();
    deadlines(&mut trial, &queue.at(ServerTime::from_ms(NOW_MS))).await;
    let retained = Orders::new(queue.at(ServerTime::from_ms(NOW_MS))).retain(Some(RETAIN));
    orders(&mut trial, &retained).await;
    let key = queue.name().as_str().parse().expect("letters and digits");
    for (verb, answer) in lock::try_verbs(redis, prefix, key).await {
        trial.note(verb, answer);
    }
    trial.note("unlink", queue.remove_scratch(&ids(&["o1", "o2", "o3"])).await);
    if trial.refused.is_empty() {
        return vec![Finding::ok(CHECK, format!("all {} verbs work", trial.tried))];
    }
    trial.refused.into_iter().map(|(verb, error)| refusal(verb, &error)).collect()
}

fn refusal(verb: &str, error: &Error) -> Finding {
    let found = format!("`{verb}` is refused: {error}");
    let lacks_right = matches!(error, Error::Redis(trouble) if trouble.kind == TroubleKind::NoPerm);
    if lacks_right {
        let consequence = "whatever needs this verb fails; nothing is lost by it";
        return Finding::new(
            Level::Error,
            CHECK,
            found,
            consequence,
            "ACL SETUSER, with the line of docs/servers.md",
        );
    }
    Finding::new(Level::Error, CHECK, found, "whatever needs this verb fails", "see what Redis says")
}

fn ids(texts: &[&str]) -> Vec<Id> {
    texts.iter().map(|text| Id::new(text).expect("letters and digits")).collect()
}

fn due(ms: i64) -> Due {
    Due::At(DueAt::from_ms(ms).expect("in range"))
}

async fn deadlines(trial: &mut Trial, queue: &Queue) {
    let names = ids(&["a", "b", "c", "d", "e", "f"]);
    let register = async |at: i64| {
        let payload = Payload::new("{}").ok();
        let all: Vec<Registration> = names
            .iter()
            .map(|id| Registration { id: id.clone(), due: due(at), payload: payload.clone() })
            .collect();
        queue.schedule(&all, Mode::Replace, Expected::Anything).await
    };
    trial.note("schedule", register(NOW_MS).await);
    trial.note("reschedule", queue.reschedule(&names[0], due(NOW_MS), Expected::Anything).await);
    trial.note("cancel", queue.cancel(&names[..1]).await);
    trial.note("watch", queue.watch().await);
    let claim = trial.note("claim", queue.claim(100, LEASE).await);
    // Where nothing could be claimed, nobody holds these, and the verbs are tried all the same.
    let token = claim.and_then(|claim| claim.token).unwrap_or_else(|| Token::new(1));
    let lease = |number: usize| Lease { id: names[number].clone(), token };
    trial.note("begin", queue.begin(&lease(1)).await);
    trial.note("extend", queue.extend(&[token], LEASE).await);
    trial.note("ack", queue.ack(&[lease(1)]).await);
    let retry = Retry { lease: lease(2), delay: LEASE, error: "tried".to_owned() };
    trial.note("retry", queue.retry(&[retry], 3).await);
    trial.note("release", queue.release(&[lease(3)]).await);
    let id = names[4].as_str().as_bytes().to_vec();
    let rejected = Rejected { id, token, reason: "rejected", error: "tried".to_owned() };
    trial.note("bury", queue.bury(&[rejected]).await);
    trial.note("retry_dead", queue.retry_dead(&names[4..5]).await);
    trial.note("delete_dead", queue.delete_dead(&names[4..5]).await);
    trial.note("trim_dead", queue.trim_dead(LEASE).await);
    trial.note("reject", queue.reject().await);
    trial.note("show", queue.show(&names[2]).await);
    trial.note("list", queue.list(State::Scheduled, 10, None).await);
    trial.note("counts", queue.counts().await);
    trial.note("coming", queue.coming(1, LEASE).await);
    trial.note("pause", queue.pause(true).await);
    trial.note("pause", queue.pause(false).await);
    trial.note("schedule", register(NOW_MS).await);
    trial.note("fire_stream", queue.fire(Sink { kind: SinkKind::Stream, max_len: Some(1) }, 1, None).await);
    trial.note("unlink", queue.remove_scratch(&[]).await);
    trial.note("schedule", register(NOW_MS).await);
    trial.note("fire_list", queue.fire(Sink { kind: SinkKind::List, max_len: Some(1) }, 1, None).await);
    trial.note("unlink", queue.remove_scratch(&[]).await);
    shards(trial, queue, &names).await;
}

/// Last, since the queue has two of them from then on.
async fn shards(trial: &mut Trial, queue: &Queue, names: &[Id]) {
    let far = DueAt::from_ms(NOW_MS).expect("in range").saturating_add(RETAIN);
    let registration = |id: &Id| Registration { id: id.clone(), due: Due::At(far), payload: None };
    let all: Vec<Registration> = names.iter().map(registration).collect();
    trial.note("schedule", queue.schedule(&all, Mode::Replace, Expected::Anything).await);
    trial.note("reshard", queue.reshard(2, |_| {}).await);
    trial.note("cancel", queue.cancel(names).await);
    for shard in 0..2 {
        trial.note("unlink", queue.shard(shard).remove_scratch(&[]).await);
    }
}

async fn orders(trial: &mut Trial, orders: &Orders) {
    let names = ids(&["o1", "o2", "o3"]);
    let fields = Fields::new([("amount", "1")]).expect("a field");
    let new = |id: &Id, at: i64| NewOrder { id: id.clone(), due: due(at), fields: fields.clone() };
    let all = [new(&names[0], NOW_MS + 1000), new(&names[1], NOW_MS + 1000)];
    trial.note("order_create", orders.create(&all).await);
    trial.note("order_submit", orders.submit(&[new(&names[2], NOW_MS)]).await);
    trial.note("order_pay", orders.pay(&names[0], &Fields::default()).await);
    trial.note("order_cancel", orders.cancel(&names[1], &Fields::default()).await);
    trial.note("order_create", orders.create(&[new(&names[2], NOW_MS)]).await);
    trial.note("order_extend", orders.extend(&names[2], crate::order::Extension::By(LEASE)).await);
    let later = orders.at(ServerTime::from_ms(NOW_MS + 60_000));
    trial.note("order_expire", later.expire_due(true).await);
    trial.note("order_get", orders.get(&names[0]).await);
    trial.note("order_list", orders.list(Status::Created, 10, None).await);
    trial.note("order_counts", orders.counts().await);
    trial.note("order_trim", later.trim(Some(1)).await);
    trial.note("xrange", orders.events(None, 1).await);
    trial.note("xrevrange", orders.last_event().await);
    trial.note("unlink", orders.intake().remove_scratch(&[]).await);
}
