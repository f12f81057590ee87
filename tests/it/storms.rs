//! What keeps a storm from doing harm: the list sink, pause, rate limit, circuit breaker, handler time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use overdue::{
    DueAt, ServerTime,
    handler::{Delivery, Outcome, handler_fn},
    queue::{ClaimOptions, Settled, Sink, SinkKind},
    scheduler::{Scheduler, Settings},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::support::{LEASE, NOTHING, RedisServer, Rig, STREAM, T0, eventually, id, many, process::Place};

const LIST: Sink = Sink { kind: SinkKind::List, max_len: None };

async fn list_of(rig: &Rig) -> Vec<Value> {
    let elements: Vec<String> = rig.on_key("LRANGE", "fired", (0, -1)).await;
    elements.iter().map(|element| serde_json::from_str(element).expect("JSON")).collect()
}

#[tokio::test]
async fn the_list_gets_each_id_once_as_json_and_large_numbers_stay_whole() {
    let rig = Rig::new().await;
    rig.put("a", T0, r#"{"amount":12345678901234567890}"#).await;
    rig.put("b \"quoted\"", T0 + 1, "plain \"text\"").await;
    rig.put("c", T0 + 2, "").await;
    let fired = rig.when(T0 + 5).fire(LIST, 10, None).await.unwrap();
    assert_eq!((fired.count, fired.next), (3, None));
    assert_eq!(rig.when(T0 + 5).fire(LIST, 10, None).await.unwrap().count, 0);

    let raw: Vec<String> = rig.on_key("LRANGE", "fired", (-1, -1)).await;
    assert!(raw[0].contains("12345678901234567890"), "{raw:?}");
    let list = list_of(&rig).await;
    assert_eq!(list[0], json!({"id": "c", "due_at": T0 + 2, "fired_at": T0 + 5}));
    assert_eq!(list[1]["id"], "b \"quoted\"");
    assert_eq!(list[1]["payload"], "plain \"text\"");
    assert_eq!(rig.keys().await, ["fired", "meta"]);
}

#[tokio::test]
async fn leftovers_of_another_handler_go_to_the_list_with_their_deadline_and_payload() {
    let rig = Rig::new().await;
    rig.leased("a", "kept").await;
    assert_eq!(rig.when(T0 + 1).fire(LIST, 10, None).await.unwrap().count, 0);
    let later = T0 + LEASE.as_millis() as i64;
    assert_eq!(rig.when(later).fire(LIST, 10, None).await.unwrap().count, 1);
    assert_eq!(list_of(&rig).await, [json!({"id": "a", "due_at": T0, "fired_at": later, "payload": "kept"})]);
    assert_eq!(rig.keys().await, ["fired", "meta"]);
}

#[tokio::test]
async fn sinks_keep_all_unless_a_length_is_set() {
    for (kind, length) in [(SinkKind::List, "LLEN"), (SinkKind::Stream, "XLEN")] {
        let rig = Rig::new().await;
        rig.schedule_all(&many(1000)).await;
        rig.when(T0).fire(Sink { kind, max_len: None }, 1000, None).await.unwrap();
        assert_eq!(rig.on_key::<usize>(length, "fired", NOTHING).await, 1000);
        rig.schedule_all(&many(1)).await;
        rig.when(T0).fire(Sink { kind, max_len: Some(100) }, 1000, None).await.unwrap();
        // A stream is cut at a whole node, of 100 entries by default.
        assert!(rig.on_key::<usize>(length, "fired", NOTHING).await <= 200);
    }
}

#[tokio::test]
async fn a_key_of_another_type_than_the_sink_is_named() {
    let rig = Rig::new().await;
    rig.put("a", T0, "").await;
    rig.when(T0).fire(STREAM, 10, None).await.unwrap();
    rig.put("b", T0, "").await;
    let error = rig.when(T0).fire(LIST, 10, None).await.unwrap_err().to_string();
    assert!(
        error.contains(&rig.key("fired")) && error.contains("stream") && error.contains("list"),
        "{error}"
    );
    assert_eq!(rig.members("scheduled").await, ["b"]);
}

#[tokio::test]
async fn a_paused_queue_claims_nothing_and_goes_on_when_resumed() {
    let rig = Rig::new().await;
    let leased = rig.leased("leased", "").await.lease();
    assert!(rig.pause(true).await.unwrap());
    assert!(!rig.pause(true).await.unwrap());
    rig.put("a", T0, "").await;
    let later = T0 + 2 * LEASE.as_millis() as i64;
    let claim = rig.claim_at(later, 10).await;
    assert_eq!((claim.deliveries.len(), claim.next, claim.token), (0, None, None));
    assert_eq!(rig.when(later).fire(STREAM, 10, None).await.unwrap().count, 0);
    assert!(rig.counts().await.unwrap().paused);
    rig.ack(&[leased]).await.unwrap();

    assert!(rig.pause(false).await.unwrap());
    assert_eq!(rig.claimed(later).await, ["a"]);
    assert!(!rig.counts().await.unwrap().paused);
}

fn at_most_100_a_second() -> ClaimOptions {
    ClaimOptions { limit: 1000, lease: LEASE, rate_limit: Some(100), max_crashes: None }
}

#[tokio::test]
async fn an_id_that_kills_its_process_is_set_aside_and_bystanders_are_not() {
    let rig = Rig::new().await;
    rig.put("killer", T0, "kept").await;
    rig.put("bystander", T0, "").await;
    let mut now_ms = T0;
    let mut begun = 0;
    while rig.counts().await.unwrap().dead == 0 {
        let options = ClaimOptions { max_crashes: Some(3), rate_limit: None, ..at_most_100_a_second() };
        let claim = rig.when(now_ms).claim_with(options).await.unwrap();
        for delivery in &claim.deliveries {
            // Before it was lost once there is no record to note it in.
            let watched = delivery.attempt > 1;
            if delivery.id.as_str() == "killer" {
                let noted = rig.begin(&delivery.lease()).await.unwrap();
                assert_eq!(noted == Settled::Done, watched);
                begun += u32::from(watched);
                assert_eq!(delivery.kills, begun.saturating_sub(1));
            }
        }
        // The process dies, and the leases run out.
        now_ms += LEASE.as_millis() as i64;
        assert!(begun <= 3, "it should be dead by now");
    }
    let dead = rig.shown("killer").await.unwrap();
    assert_eq!(
        (dead.reason.as_deref(), dead.crashes, dead.payload.is_some()),
        (Some("max_crashes"), 4, true)
    );
    assert!(rig.shown("bystander").await.unwrap().lease.is_some());
    rig.retry_dead(&[id("killer")]).await.unwrap();
    assert_eq!(rig.shown("killer").await.unwrap().crashes, 0);
}

#[tokio::test]
async fn suspects_run_one_at_a_time_and_hold_up_no_others() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(3)).await;
    let mut now_ms = T0;
    for _ in 0..2 {
        for delivery in rig.claim_at(now_ms, 10).await.deliveries {
            rig.begin(&delivery.lease()).await.unwrap();
        }
        now_ms += LEASE.as_millis() as i64;
    }
    // All three were running twice when their process died, but the first time nobody knew.
    let (gate, running) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (wait, count) = (Arc::clone(&gate), Arc::clone(&running));
    let handler = handler_fn(move |delivery: Delivery| {
        let (wait, count) = (Arc::clone(&wait), Arc::clone(&count));
        async move {
            if delivery.kills > 0 {
                count.fetch_add(1, Ordering::SeqCst);
                wait.acquire().await.unwrap().forget();
                count.fetch_sub(1, Ordering::SeqCst);
            }
            Outcome::Done
        }
    });
    let stop = CancellationToken::new();
    let task = tokio::spawn(Scheduler::new((*rig).clone(), settings(), handler).run(stop.clone()));
    for left in [2, 1, 0] {
        eventually("one suspect runs", async || (running.load(Ordering::SeqCst) == 1).then_some(())).await;
        rig.put("other", T0, "").await;
        eventually("another id is done meanwhile", async || rig.shown("other").await.is_none().then_some(()))
            .await;
        assert_eq!(running.load(Ordering::SeqCst), 1);
        gate.add_permits(1);
        eventually("it ends", async || (rig.members("leased").await.len() == left).then_some(())).await;
    }
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_rate_limit_holds_over_all_claims_and_tells_when_to_come_back() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(500)).await;
    // 100 a second in steps of 5 ms, by two processes in turn.
    let (mut taken, mut now_ms) = (0, T0);
    for step in 0..200 {
        let queue = rig.queue_at_us(T0 * 1000 + step * 5000);
        let claim = queue.claim_with(at_most_100_a_second()).await.unwrap();
        now_ms = claim.now.as_ms();
        taken += claim.deliveries.len();
        assert!(claim.next.is_some_and(|next| next.as_ms() > now_ms), "{claim:?}");
    }
    let elapsed_ms = (now_ms - T0) as usize;
    // One second's worth, and a tenth of one at the beginning.
    assert!((elapsed_ms / 10..=elapsed_ms / 10 + 11).contains(&taken), "{taken} in {elapsed_ms} ms");
}

#[tokio::test]
async fn under_a_rate_limit_too_a_blocked_id_hides_no_deadline_and_asks_for_no_polls() {
    let rig = Rig::new().await;
    rig.leased("a", "").await;
    rig.put("a", T0, "anew").await;
    rig.put("next", T0 + 5000, "").await;
    let claim = rig.when(T0 + 1).claim_with(at_most_100_a_second()).await.unwrap();
    assert_eq!((claim.deliveries.len(), claim.more), (0, false));
    assert_eq!(claim.next.map(DueAt::as_ms), Some(T0 + 5000));
}

#[tokio::test]
async fn a_rate_limit_survives_a_clock_that_steps_back() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(100)).await;
    let hour_ms = 3_600_000;
    for (now_ms, most) in [(T0 + hour_ms, 10), (T0, 10), (T0 + 200, 10)] {
        let claim = rig.when(now_ms).claim_with(at_most_100_a_second()).await.unwrap();
        assert!(claim.deliveries.len() <= most + 1);
        assert!(claim.next.is_some_and(|next| next.as_ms() <= now_ms + 100), "{claim:?}");
    }
    assert!(rig.counts().await.unwrap().scheduled < 90);
}

fn settings() -> Settings {
    let mut settings = Settings { poll_interval: Duration::from_millis(20), ..Settings::default() };
    settings.backoff.initial = Duration::from_millis(1);
    settings.backoff.max = Duration::from_millis(5);
    settings.circuit_breaker.pause = Duration::from_millis(10);
    settings
}

#[tokio::test]
async fn an_endpoint_that_is_down_for_long_kills_no_id() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(300)).await;
    let (up, attempts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (is_up, count) = (Arc::clone(&up), Arc::clone(&attempts));
    let handler = handler_fn(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let outcome = if is_up.load(Ordering::SeqCst) { Outcome::Done } else { Outcome::retry("down") };
        std::future::ready(outcome)
    });
    let stop = CancellationToken::new();
    let scheduler = Scheduler::new((*rig).clone(), Settings { concurrency: 4, ..settings() }, handler);
    let task = tokio::spawn(scheduler.run(stop.clone()));
    // Probes go on while it is down: far more attempts than the 20 that open the breaker.
    eventually("it has been probed", async || (attempts.load(Ordering::SeqCst) > 60).then_some(())).await;
    let counts = rig.counts().await.unwrap();
    assert_eq!((counts.dead, counts.scheduled + counts.leased), (0, 300));
    up.store(true, Ordering::SeqCst);
    eventually("all is done", async || (rig.keys().await == ["meta"]).then_some(())).await;
    stop.cancel();
    task.await.unwrap();
    assert!(attempts.load(Ordering::SeqCst) < 300 + 1000, "no storm of retries");
}

#[tokio::test]
async fn a_handler_that_hangs_is_a_failed_attempt() {
    let rig = Rig::new().await;
    rig.put("a", T0, "kept").await;
    let settings = Settings { max_handler_time: Duration::from_millis(20), max_attempts: 2, ..settings() };
    let stop = CancellationToken::new();
    let scheduler = Scheduler::new((*rig).clone(), settings, handler_fn(|_| std::future::pending()));
    let task = tokio::spawn(scheduler.run(stop.clone()));
    let dead =
        eventually("it is dead", async || rig.shown("a").await.filter(|row| row.reason.is_some())).await;
    assert!(dead.error.unwrap().contains("max_handler_time (20ms)"));
    assert_eq!((dead.failures, dead.payload.unwrap().as_str()), (2, "kept"));
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn serve_pauses_resumes_and_fires_into_a_list() {
    let rig = Rig::new().await;
    let (url, queue) = (RedisServer::shared().url(), rig.name().as_str());
    let place = Place::new(&format!(
        "[redis]\nurl = \"{url}\"\n[queue.{queue}]\npoll_interval = \"20ms\"\nhandler = {{ type = \"list\" }}\n"
    ));
    assert!(place.run(&["queue", "pause", queue]).ok().contains("paused"));
    let serve = place.serve().await;
    place.run(&["schedule", queue, "a", "--in", "1ms"]).ok();
    assert_eq!(place.run(&["stats", queue, "-o", "json"]).json()[0]["paused"], true);
    place.run(&["queue", "resume", queue]).ok();
    eventually("it is fired", async || (list_of(&rig).await.len() == 1).then_some(())).await;
    serve.stop().await;

    place.run(&["schedule", queue, "b", "--in", "1h"]).ok();
    place.run(&["queue", "purge", queue]).fails(1, &["1 scheduled", "--yes"]);
    place.run(&["queue", "purge", queue, "--yes"]).ok();
    place.run(&["show", queue, "b"]).fails(3, &[]);
    assert_eq!(rig.keys().await, ["fired", "meta"]);
    place.run(&["queue", "resume", "nowhere"]).fails(3, &["nowhere"]);
}

impl Rig {
    fn queue_at_us(&self, now_us: i64) -> overdue::queue::Queue {
        self.at(ServerTime::from_us(now_us))
    }
}
