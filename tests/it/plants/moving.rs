//! Ids that go from shard to shard. The state machine plays with one shard.

use overdue::{
    Payload,
    error::Result,
    queue::{Expected, Lease, Mode, Queue, Registration, Scheduled, Settled, Shown, State},
};
use proptest::{
    prelude::*,
    test_runner::{TestCaseError, TestCaseResult},
};

use super::drills::{at, refused};
use crate::{
    model::Stage,
    support::{LEASE, Rig, T0, at_ms, id, ids, leases, registration, rejected, retry_of},
};

/// An hour before most deadlines.
const EARLY: i64 = T0 - 3_600_000;
const PAYLOAD: &str = "it matters";
/// They have homes of all kinds among four.
const WAITING: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
/// A token that is ahead of the clock.
const TOKEN: i64 = 9_000_000_000_000_000;

/// Ids in every state are what they were when their queue is spread, and who knows nothing of it finds them.
pub(super) async fn shards(stage: &Stage) -> TestCaseResult {
    let rig = stage.rig().await;
    let handle = || Queue::new(rig.redis().clone(), "overdue", rig.name().clone()).at(at(EARLY));
    let held = furnish(&rig).await.map_err(refused)?;
    // Somebody polls it, so what is due soon has to stay.
    for shard in 0..4 {
        rig.shard(shard).watch().await.map_err(refused)?;
    }
    let queue = handle();
    queue.reshard(4, |_| {}).await.map_err(refused)?;
    let counts = queue.counts().await.map_err(refused)?;
    prop_assert_eq!((counts.scheduled, counts.leased, counts.dead), (11, 2, 1), "P1: after the spread");

    let mut all = WAITING.to_vec();
    all.extend(["retried", "dead"]);
    for name in all {
        let home = queue.shards().home_of(name.as_bytes());
        let shown = queue.shard(home).show(&id(name)).await.map_err(refused)?;
        let Some(Shown { state, due_at, failures, next_attempt_at, payload, .. }) = shown else {
            return Err(TestCaseError::fail(format!("P1: {name} is not at home")));
        };
        prop_assert_eq!(payload.as_ref().map(Payload::as_str), Some(PAYLOAD), "the payload of {}", name);
        let expected = match name {
            "dead" => (State::Dead, Some(at_ms(EARLY)), 1, None),
            "retried" => (State::Scheduled, Some(at_ms(EARLY)), 1, Some(at_ms(T0))),
            _ => (State::Scheduled, Some(at_ms(T0)), 0, None),
        };
        prop_assert_eq!((state, due_at, failures, next_attempt_at), expected, "P1: {}", name);
    }
    for name in ["soon", "leased", "both"] {
        let shown = queue.shard(0).show(&id(name)).await.map_err(refused)?;
        prop_assert!(shown.is_some(), "P1: {} has to stay where it is", name);
        let home = queue.shards().home_of(name.as_bytes());
        prop_assert!(home != 0, "{} is at home: the drill shows nothing of it", name);
        let elsewhere = queue.shard(home).show(&id(name)).await.map_err(refused)?;
        prop_assert!(elsewhere.is_none(), "{} is in two shards", name);
    }

    let soon = [id("soon")];
    prop_assert!(queue.show(&soon[0]).await.map_err(refused)?.is_some(), "P1: soon is not found");
    // It is there, and not dead.
    prop_assert_eq!(queue.retry_dead(&soon).await.map_err(refused)?, [Settled::Stale]);

    let again = |name: &str| [Registration { payload: None, ..registration(name, T0, "") }];
    for name in WAITING {
        let answers = handle().schedule(&again(name), Mode::Replace, Expected::Anything).await;
        let is_replaced = matches!(answers.map_err(refused)?[0], Scheduled::Replaced { .. });
        prop_assert!(is_replaced, "{} is registered beside itself", name);
    }
    let kept = handle().schedule(&again("leased"), Mode::Keep, Expected::Anything).await.map_err(refused)?;
    prop_assert_eq!(kept[0], Scheduled::Kept { due_at: None, state: State::Leased });
    prop_assert_eq!(queue.ack(&held).await.map_err(refused)?.len(), 2);

    let late = handle().at(at(T0));
    let mut taken = 0;
    for _ in 0..8 {
        let claim = late.claim(100, LEASE).await.map_err(refused)?;
        taken += claim.deliveries.len();
        let is_newer = claim.token.is_none_or(|token| token.get() > TOKEN as u64);
        prop_assert!(is_newer, "P4: {:?} after {}", claim.token, TOKEN);
    }
    prop_assert_eq!(taken, 11, "P1: all that is scheduled can be claimed");
    Ok(())
}

/// In the one shard that there is: eight that wait, one of them due soon, `retried` after a failure, `dead`, `leased`, and
/// `both` leased and registered anew. Answers the leases of the last two.
async fn furnish(rig: &Rig) -> Result<Vec<Lease>> {
    let early = rig.when(EARLY);
    let now = ["retried", "dead", "leased", "both"].map(|name| registration(name, EARLY, PAYLOAD));
    early.schedule(&now, Mode::Replace, Expected::Anything).await?;
    let held = leases(&early.claim(10, LEASE).await?);
    let of = |name: &str| held.iter().find(|lease| lease.id == id(name)).expect("it was claimed");
    early.retry(&[retry_of(of("retried"), 3_600_000)], 9).await?;
    early.bury(&[rejected(of("dead"))]).await?;
    let waiting = WAITING.iter().chain(&["both"]).map(|name| registration(name, T0, PAYLOAD));
    let soon = registration("soon", EARLY + 5000, PAYLOAD);
    let all: Vec<_> = waiting.chain([soon]).collect();
    early.schedule(&all, Mode::Replace, Expected::Anything).await?;
    let _: i64 = rig.on_key("HSET", "meta", vec!["token".to_owned(), TOKEN.to_string()]).await;
    Ok(vec![of("leased").clone(), of("both").clone()])
}

/// What the drill of deaths does with ids that are to go to another shard.
pub(super) async fn spread(queue: &Queue) -> Result<()> {
    queue.at(at(EARLY)).reshard(4, |_| {}).await.map(drop)
}

/// Brings in what is on its way, as every scheduler does.
pub(super) async fn seek(rig: &Rig, names: &[&str]) -> TestCaseResult {
    for id in ids(names) {
        prop_assert!(rig.show(&id).await.map_err(refused)?.is_some(), "{} is not found", id);
    }
    Ok(())
}

#[test]
fn the_ids_have_different_homes() {
    let shards: Vec<u16> = WAITING.iter().map(|name| overdue::redis::slot_of(name) % 4).collect();
    assert!((0..4).all(|home| shards.contains(&home)), "{shards:?}");
}
