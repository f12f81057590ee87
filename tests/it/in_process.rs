//! The library: a handler in this process, driven by a real queue.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use overdue::{
    handler::{Delivery, Handler, Outcome, handler_fn},
    queue::{Due, Expected, Mode, Registration},
    scheduler::{Scheduler, Settings},
};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::support::{LEASE, Rig, T0, eventually, leases, many, registration};

fn settings() -> Settings {
    let mut settings = Settings { poll_interval: Duration::from_millis(20), ..Settings::default() };
    settings.backoff.initial = Duration::from_millis(10);
    settings.backoff.max = Duration::from_millis(20);
    settings.max_attempts = 3;
    settings
}

/// For tests that wait for the end of a lease. A machine that stands still for as long loses it, so the others
/// have the usual ten seconds.
fn with_lease(lease: Duration) -> Settings {
    Settings { lease, ..settings() }
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn run(rig: &Rig, settings: Settings, handler: impl Handler) -> Running {
    run_with(rig, settings, handler, Duration::from_secs(20))
}

fn run_with(rig: &Rig, settings: Settings, handler: impl Handler, drain_timeout: Duration) -> Running {
    let stop = CancellationToken::new();
    let queue = (**rig).clone();
    let scheduler = Scheduler::new(queue, settings, handler).drain_timeout(drain_timeout);
    Running { task: tokio::spawn(scheduler.run(stop.clone())), stop }
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the scheduler does not panic");
    }
}

/// Which attempts of which ids were seen.
type Seen = Arc<Mutex<HashMap<String, Vec<Delivery>>>>;

fn note(seen: &Seen, delivery: &Delivery) -> usize {
    let mut seen = seen.lock().unwrap();
    let attempts = seen.entry(delivery.id.to_string()).or_default();
    attempts.push(delivery.clone());
    attempts.len()
}

async fn is_empty(rig: &Rig) {
    eventually("all is done", async || (rig.keys().await == ["meta"]).then_some(())).await;
}

#[tokio::test]
async fn a_failed_attempt_is_tried_again_with_all_that_belongs_to_it() {
    let rig = Rig::new().await;
    let seen = Seen::default();
    let notes = Arc::clone(&seen);
    let handler = handler_fn(move |delivery: Delivery| {
        let attempt = note(&notes, &delivery);
        async move { if attempt < 3 { Outcome::retry("not yet") } else { Outcome::Done } }
    });
    rig.put("a", T0, "{\"amount\":\"100.00\"}").await;
    let running = run(&rig, settings(), handler);
    is_empty(&rig).await;
    running.stop().await;

    let seen = seen.lock().unwrap();
    let attempts = &seen["a"];
    assert_eq!(attempts.iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(attempts.iter().all(|delivery| delivery.due_at.as_ms() == T0));
    assert!(attempts.iter().all(|delivery| delivery.first_token == attempts[0].token));
    assert!(
        attempts.iter().all(|delivery| delivery.payload == attempts[0].payload && delivery.payload.is_some())
    );
    assert!(attempts.windows(2).all(|pair| pair[0].token < pair[1].token));
}

#[tokio::test]
async fn panics_and_failures_spend_attempts_and_a_verdict_buries_at_once() {
    let rig = Rig::new().await;
    let seen = Seen::default();
    let notes = Arc::clone(&seen);
    let handler = handler_fn(move |delivery: Delivery| {
        note(&notes, &delivery);
        async move {
            match delivery.id.as_str() {
                "n0" => panic!("the handler is broken"),
                "n1" => Outcome::retry("the endpoint is down"),
                "n2" => Outcome::dead("no such customer"),
                _ => Outcome::Done,
            }
        }
    });
    rig.schedule_all(&many(10)).await;
    let running = run(&rig, settings(), handler);
    eventually("three are dead", async || (rig.counts().await.unwrap().dead == 3).then_some(())).await;
    eventually("the others are done", async || rig.members("leased").await.is_empty().then_some(())).await;
    running.stop().await;

    let attempts = |name: &str| seen.lock().unwrap()[name].len();
    assert_eq!([attempts("n0"), attempts("n1"), attempts("n2"), attempts("n3")], [3, 3, 1, 1]);
    let error = |shown: Option<overdue::queue::Shown>| shown.unwrap().error.unwrap();
    assert!(error(rig.shown("n0").await).contains("panicked: the handler is broken"));
    assert_eq!(rig.shown("n1").await.unwrap().reason.as_deref(), Some("attempts_spent"));
    let rejected = rig.shown("n2").await.unwrap();
    assert_eq!(
        (rejected.reason.as_deref(), error(Some(rejected.clone()))),
        (Some("rejected"), "no such customer".to_owned())
    );
}

#[tokio::test]
async fn leases_are_extended_while_a_handler_runs() {
    let rig = Rig::new().await;
    let (gate, handler) = gated(Outcome::Done);
    rig.put("a", T0, "").await;
    let settings = with_lease(Duration::from_millis(400));
    let running = run(&rig, settings.clone(), handler);
    let lease = async || rig.shown("a").await?.lease;
    let mut first = eventually("it is in flight", lease).await;
    eventually("it outlasts three leases", async || {
        let lease = lease().await?;
        if lease.token != first.token {
            first = lease; // this machine stood still for longer than the lease: from the start
        }
        let extended_ms = lease.expires_at?.as_ms() - first.expires_at?.as_ms();
        (extended_ms > 3 * settings.lease.as_millis() as i64).then_some(())
    })
    .await;
    gate.add_permits(100);
    is_empty(&rig).await;
    running.stop().await;
}

#[tokio::test]
async fn no_more_handlers_run_at_once_than_allowed() {
    let rig = Rig::new().await;
    let (now, most) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let (counter, maximum) = (Arc::clone(&now), Arc::clone(&most));
    let handler = handler_fn(move |_| {
        let (counter, maximum) = (Arc::clone(&counter), Arc::clone(&maximum));
        async move {
            let running = {
                let mut now = counter.lock().unwrap();
                *now += 1;
                *now
            };
            {
                let mut most = maximum.lock().unwrap();
                *most = running.max(*most);
            }
            tokio::task::yield_now().await;
            *counter.lock().unwrap() -= 1;
            Outcome::Done
        }
    });
    rig.schedule_all(&many(500)).await;
    let running = run(&rig, Settings { concurrency: 3, ..settings() }, handler);
    is_empty(&rig).await;
    running.stop().await;
    assert!((1..=3).contains(&*most.lock().unwrap()));
}

/// A handler that waits for a permit of the gate before it answers.
fn gated(outcome: Outcome) -> (Arc<Semaphore>, impl Handler) {
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let handler = handler_fn(move |_| {
        let (wait, outcome) = (Arc::clone(&wait), outcome.clone());
        async move {
            wait.acquire().await.unwrap().forget();
            outcome
        }
    });
    (gate, handler)
}

#[tokio::test]
async fn a_stop_lets_running_handlers_finish() {
    let rig = Rig::new().await;
    let (gate, handler) = gated(Outcome::Done);
    rig.schedule_all(&many(5)).await;
    let running = run(&rig, Settings { concurrency: 2, ..settings() }, handler);
    eventually("two are in flight", async || (rig.members("leased").await.len() >= 2).then_some(())).await;
    running.stop.cancel();
    eventually("the others are given back", async || (rig.members("leased").await.len() == 2).then_some(()))
        .await;
    gate.add_permits(2);
    running.task.await.expect("no panic");
    assert_eq!((rig.members("scheduled").await.len(), rig.members("leased").await.len()), (3, 0));
}

#[tokio::test]
async fn a_handler_that_outlasts_the_drain_has_spent_an_attempt_and_keeps_its_registration() {
    let rig = Rig::new().await;
    rig.put("a", T0, "kept").await;
    let settings = with_lease(Duration::from_secs(2));
    let running = run_with(&rig, settings, handler_fn(|_| pending()), Duration::from_millis(50));
    let first = eventually("it is in flight", async || rig.shown("a").await?.lease).await;
    running.stop().await;

    let again =
        eventually("its lease runs out", async || rig.claim(1, LEASE).await.unwrap().deliveries.pop()).await;
    assert_eq!((again.attempt, again.failures, again.first_token), (2, 0, first.token));
    assert_eq!(again.payload.unwrap().as_str(), "kept");
}

#[tokio::test]
async fn a_panic_before_the_handler_has_made_its_future_is_a_failed_attempt_too() {
    let rig = Rig::new().await;
    rig.schedule_all(&many(5)).await;
    let handler = handler_fn(|delivery: Delivery| {
        assert!(delivery.id.as_str() == "sound", "broken before the first await");
        std::future::ready(Outcome::Done)
    });
    let running = run(&rig, Settings { concurrency: 5, ..settings() }, handler);
    eventually("they are dead", async || (rig.counts().await.unwrap().dead == 5).then_some(())).await;
    rig.put("sound", T0, "").await;
    eventually("the queue goes on", async || rig.shown("sound").await.is_none().then_some(())).await;
    running.stop().await;
}

#[tokio::test]
async fn p8_an_id_that_waits_for_its_earlier_delivery_does_not_hide_the_next_deadline() {
    let rig = Rig::new().await;
    // With an hour between polls only the exact wake-up can fire "next" in the time of a test.
    let hour = Duration::from_secs(3600);
    rig.put("slow", T0, "").await;
    let held = rig.claim(1, hour).await.unwrap();
    rig.put("slow", T0, "anew").await;
    let next = Registration { due: Due::In(Duration::from_millis(300)), ..registration("next", T0, "") };
    rig.schedule(&[next], Mode::Replace, Expected::Anything).await.unwrap();
    let wait_free = handler_fn(|_| std::future::ready(Outcome::Done));
    let running = run(&rig, Settings { poll_interval: hour, lease: 3 * hour, ..settings() }, wait_free);
    eventually("it fires", async || rig.shown("next").await.is_none().then_some(())).await;
    assert_eq!(rig.ack(&leases(&held)).await.unwrap().len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn an_id_cancelled_in_flight_gets_no_further_attempt() {
    let rig = Rig::new().await;
    let (gate, handler) = gated(Outcome::retry("failed after the cancel"));
    rig.put("a", T0, "").await;
    let running = run(&rig, settings(), handler);
    eventually("it is in flight", async || rig.shown("a").await.filter(|shown| shown.lease.is_some())).await;
    let answer = rig.cancel(&crate::support::ids(&["a"])).await.unwrap()[0];
    assert!(matches!(answer, overdue::queue::Cancelled::InFlight { .. }), "{answer:?}");
    gate.add_permits(10);
    running.stop().await;
    assert!(rig.shown("a").await.is_none());
}

#[tokio::test]
async fn a_handler_may_register_its_id_anew() {
    let rig = Rig::new().await;
    let queue = (*rig).clone();
    let seen = Seen::default();
    let notes = Arc::clone(&seen);
    let handler = handler_fn(move |delivery: Delivery| {
        let times = note(&notes, &delivery);
        let queue = queue.clone();
        async move {
            if times < 4 {
                let next = registration("tick", T0 + times as i64, "again");
                queue.schedule(&[next], Default::default(), Default::default()).await.unwrap();
            }
            Outcome::Done
        }
    });
    rig.put("tick", T0, "first").await;
    let running = run(&rig, settings(), handler);
    is_empty(&rig).await;
    running.stop().await;
    let seen = seen.lock().unwrap();
    let told: Vec<(i64, u32)> =
        seen["tick"].iter().map(|delivery| (delivery.due_at.as_ms() - T0, delivery.attempt)).collect();
    assert_eq!(told, [(0, 1), (1, 1), (2, 1), (3, 1)]);
}

#[tokio::test]
async fn one_that_waits_keeps_nobody_waiting_whatever_it_was_begun_with() {
    let rig = Rig::new().await;
    let open = Arc::new(Semaphore::new(0));
    let door = Arc::clone(&open);
    // All but one are done at once, so that they share tasks.
    let handler = handler_fn(move |delivery: Delivery| {
        let door = Arc::clone(&door);
        async move {
            if delivery.id.as_str() == "n150" {
                door.acquire().await.unwrap().forget();
            }
            Outcome::Done
        }
    });
    rig.schedule_all(&many(200)).await;
    let running = run(&rig, settings(), handler);
    eventually("only the one that waits is left", async || {
        let counts = rig.counts().await.unwrap();
        (counts.leased == 1 && counts.scheduled == 0).then_some(())
    })
    .await;
    open.add_permits(1);
    is_empty(&rig).await;
    running.stop().await;
}

#[tokio::test]
async fn what_fails_among_quick_ones_fails_alone() {
    let rig = Rig::new().await;
    let seen = Seen::default();
    let notes = Arc::clone(&seen);
    let handler = handler_fn(move |delivery: Delivery| {
        let attempt = note(&notes, &delivery);
        async move {
            match (delivery.id.as_str(), attempt) {
                ("n100", 1) => panic!("the handler is broken"),
                ("n120", 1) => Outcome::retry("not yet"),
                _ => Outcome::Done,
            }
        }
    });
    rig.schedule_all(&many(200)).await;
    let running = run(&rig, settings(), handler);
    is_empty(&rig).await;
    running.stop().await;
    let seen = seen.lock().unwrap();
    let twice: Vec<_> = seen.iter().filter(|(_, attempts)| attempts.len() > 1).collect();
    assert_eq!((seen.len(), twice.len()), (200, 2));
    for name in ["n100", "n120"] {
        assert_eq!(seen[name].iter().map(|delivery| delivery.attempt).collect::<Vec<_>>(), [1, 2]);
    }
}

#[tokio::test]
async fn handlers_that_wait_run_side_by_side() {
    let rig = Rig::new().await;
    // Two at a time have to meet: one that waited for the end of another would wait for ever.
    let pair = Arc::new(std::sync::Barrier::new(2));
    let handler = handler_fn(move |_| {
        let pair = Arc::clone(&pair);
        async move {
            tokio::task::spawn_blocking(move || pair.wait()).await.unwrap();
            Outcome::Done
        }
    });
    rig.schedule_all(&many(40)).await;
    let running = run(&rig, settings(), handler);
    is_empty(&rig).await;
    running.stop().await;
}
