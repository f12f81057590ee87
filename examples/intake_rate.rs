//! Orders per second: created one at a time, as a shop does that waits for each, and accepted by the intake and created
//! in batches. On a throw-away Redis of its own, medians of three runs.
//!
//! ```text
//! cargo run --release --example intake_rate -- [ORDERS, 20000 unless given]
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    env,
    time::{Duration, Instant},
};

use overdue::{
    order::{Fields, Intake, NewOrder, Orders, Submitted},
    queue::{Due, Queue},
    redis::{Redis, Timeouts, embedded::Embedded},
    scheduler::Settings,
};
use tokio_util::sync::CancellationToken;

const RUNS: usize = 3;
/// How many orders a caller that collects them sends together.
const BATCH: usize = 250;

#[derive(Clone, Copy)]
enum Way {
    Create(usize),
    Submit(usize),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let count = env::args().nth(1).map_or(Ok(20_000), |count| count.parse())?;
    let embedded = Embedded::ephemeral().await?;
    let redis = Redis::open(embedded.url(), Timeouts::default())?;
    println!("{:24} {:>10} {:>8}", "", "orders/s", "ratio");
    let mut first = None;
    for (name, way) in [
        ("create one at a time", Way::Create(1)),
        ("create 250 at a time", Way::Create(BATCH)),
        ("intake, one at a time", Way::Submit(1)),
        ("intake, 250 at a time", Way::Submit(BATCH)),
    ] {
        let mut rates = Vec::new();
        for run in 0..RUNS {
            let orders =
                Orders::new(Queue::new(redis.clone(), &format!("run{run}-{name}"), "orders".parse()?));
            rates.push(count as f64 / measure(orders, way, count).await?.as_secs_f64());
        }
        rates.sort_by(f64::total_cmp);
        let median = rates[RUNS / 2];
        println!("{name:24} {median:10.0} {:8.2}", median / *first.get_or_insert(median));
    }
    embedded.stop().await?;
    Ok(())
}

/// How long it takes until all orders exist.
async fn measure(orders: Orders, way: Way, count: usize) -> anyhow::Result<Duration> {
    let due = Due::In(Duration::from_secs(1800));
    let fields = Fields::new([("amount", "100.00"), ("customer", "7")])?;
    let new = |n| Ok(NewOrder { id: format!("order-{n}").parse()?, due, fields: fields.clone() });
    let all = (0..count).map(new).collect::<Result<Vec<NewOrder>, overdue::Error>>()?;
    let stop = CancellationToken::new();
    let intake = tokio::spawn(Intake::new(orders.clone()).run(Settings::default(), stop.clone()));

    let begun = Instant::now();
    match way {
        Way::Create(step) => {
            for step in all.chunks(step) {
                orders.create(step).await?;
            }
        }
        Way::Submit(step) => {
            for step in all.chunks(step) {
                while orders.submit(step).await?.contains(&Submitted::Full) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            while orders.queue().counts().await?.scheduled < count as u64 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }
    let took = begun.elapsed();
    stop.cancel();
    intake.await?;
    Ok(took)
}
