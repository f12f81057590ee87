//! Shards that change while clients register and cancel, and both those who move ids and those who deliver them die.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use overdue::{
    Id,
    queue::{Cancelled, Due, Expected, Mode, Registration},
};

use super::{
    clients::Workload,
    fleet::{Fleet, section},
    recorder::{Policy, Recorder},
    run::{Run, Terms, scaled},
};
use crate::support::{
    group::{Clustered, patiently},
    id,
    process::Place,
};

/// The steps of a `reshard` at which it is killed, one each time, and to how many shards it was to go then.
const STEPS: [(&str, u16); 8] = [
    ("before:depart", 4),
    ("after:depart", 2),
    ("before:arrive", 5),
    ("after:arrive", 1),
    ("before:departed", 3),
    ("after:departed", 4),
    ("before:shards", 1),
    ("after:shards", 2),
];
/// A receiver as they are: some calls fail, some take their time.
const RECEIVER: Policy = Policy { failing: 0.05, slow: (0.02, Duration::from_millis(300)), gone: 0.0 };
/// How long the clients are at work for each of the steps.
const EACH: Duration = Duration::from_millis(700);
/// Ids that are not due for long: they have to be moved, and all be there at the end.
const FAR: usize = 3000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_may_change_and_anybody_may_die_at_it() {
    let mut run = Run::begin("reshard, kill -9 of movers and schedulers");
    let group = Clustered::start(2, 0, &[]).await;
    let queue = group.queue("orders");
    let recorder = Recorder::start(&run.history, RECEIVER, run.seed).await;
    let place = Place::new(&format!("{}{}", group.config(), section(queue.name(), &recorder.handler(), "")));
    let mut fleet = Fleet::start(&place, 2);
    fleet.is_up().await;
    let far: Vec<Id> = (0..FAR).map(|n| id(&format!("far-{n}"))).collect();
    let registrations: Vec<_> = far
        .iter()
        .map(|id| Registration { id: id.clone(), due: Due::In(Duration::from_secs(3600)), payload: None })
        .collect();
    queue.schedule(&registrations, Mode::Replace, Expected::Anything).await.expect("registered");

    let rounds = scaled(1);
    let over = EACH * (rounds * STEPS.len()) as u32;
    let load = Workload { ids: scaled(2000), over, cancelled: 0.1 };
    let (history, mut dice) = (Arc::clone(&run.history), run.fork());
    let resharding = async {
        let mut in_hand = 0;
        for (step, homes) in STEPS.iter().cycle().take(rounds * STEPS.len()) {
            let (homes, fault) = (homes.to_string(), format!("{step}#1"));
            let arguments = ["queue", "reshard", "orders", &homes];
            let mut mover = place.start(&arguments, &[("OVERDUE_FAULT_KILL", &fault)]);
            assert_eq!(mover.ended().await, None, "it dies at {step}: {:?}", mover.log());
            history.struck(format!("kill -9 {step}"));
            in_hand += fleet.kill_one(&queue, &history, &mut dice).await;
        }
        in_hand
    };
    let client = group.queue("orders");
    let ((), in_hand) = tokio::join!(load.run(&client, &run.history, &mut run.dice), resharding);

    let begun = Instant::now();
    let done = queue.reshard(3, |_| {}).await.expect("nobody else is at it");
    run.measure_ms("reshard_ms", begun.elapsed());
    assert_eq!((done.shards.homes(), done.shards.all(), done.shards.is_moving()), (3, 3, false));
    patiently("all but those that are not due are handled", async || {
        let counts = queue.counts().await.ok()?;
        (counts.scheduled == FAR as u64 && counts.leased == 0).then_some(())
    })
    .await;
    let cancelled = queue.cancel(&far).await.expect("cancelled");
    assert!(cancelled.iter().all(|cancelled| matches!(cancelled, Cancelled::Cancelled { .. })));
    fleet.drain(&queue).await;
    assert_eq!(
        tokio::task::block_in_place(|| place.run(&["verify", "orders", "-o", "json"])).json(),
        serde_json::json!([])
    );
    let faults = STEPS.map(|(step, _)| format!("kill -9 {step}"));
    run.finish(Terms::struck_by(faults.into_iter().chain(["kill -9".to_owned()])).duplicates(in_hand));
}
