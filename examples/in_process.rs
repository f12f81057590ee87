//! Deadlines that fire inside your own program: no `overdue serve`, only the crate and a Redis.
//!
//! ```text
//! cargo run --example in_process                              on a throw-away Redis of its own
//! cargo run --example in_process -- redis://127.0.0.1:6379    on yours; or set REDIS_URL
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{env, time::Duration};

use overdue::{
    config::Backoff,
    handler::{Delivery, Handler, Outcome},
    queue::{Due, Expected, Mode, Queue, Registration},
    redis::{Redis, Timeouts, embedded::Embedded},
    scheduler::{Scheduler, Settings},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What to do about an unpaid order. A delivery can come twice, so make it safe to repeat:
/// `update … set status = 'expired' where status = 'unpaid'`.
struct CancelUnpaid(mpsc::UnboundedSender<String>);

impl Handler for CancelUnpaid {
    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let Delivery { id, attempt, .. } = delivery;
        if id.as_str() == "order-3" && *attempt == 1 {
            println!("{id} failed, attempt 1: it comes again after the backoff");
            return Outcome::retry("the database did not answer");
        }
        let payload = delivery.payload.as_ref().map_or("none", |payload| payload.as_str());
        println!("{id} expired, attempt {attempt}, {:.0?} late, payload {payload}", delivery.lateness());
        let _ = self.0.send(id.to_string());
        Outcome::Done // the scheduler acks it; a crash before the ack brings it back
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = env::args().nth(1).or_else(|| env::var("REDIS_URL").ok());
    let embedded = if url.is_none() { Some(Embedded::ephemeral().await?) } else { None };
    let url = url.as_deref().or(embedded.as_ref().map(Embedded::url)).expect("one of both is there");
    let queue = Queue::new(Redis::open(url, Timeouts::default())?, "overdue", "in-process-example".parse()?);

    // Five orders, due within the next second. A plain ZADD from any client would do as well.
    for n in 1..=5_u64 {
        let payload = format!(r#"{{"amount":"{n}0.00"}}"#).parse()?;
        let due = Due::In(Duration::from_millis(200 * n));
        let order = Registration { id: format!("order-{n}").parse()?, due, payload: Some(payload) };
        queue.schedule(&[order], Mode::Replace, Expected::Anything).await?;
    }
    // `Cancelled` is a promise: order-2 never fires. A delivery that had begun would answer `InFlight`.
    println!("order-2 is paid: {:?}", queue.cancel(&["order-2".parse()?]).await?[0]);

    // The scheduler runs beside the rest of your program, until `stop` is cancelled.
    let (expired, mut expiries) = mpsc::unbounded_channel();
    let backoff = Backoff { initial: Duration::from_millis(300), ..Settings::default().backoff };
    let settings = Settings { backoff, ..Settings::default() }; // the defaults are those of config/overdue.toml
    let stop = CancellationToken::new();
    let scheduler =
        tokio::spawn(Scheduler::new(queue.clone(), settings, CancelUnpaid(expired)).run(stop.clone()));
    for _ in 0..4 {
        expiries.recv().await;
    }
    stop.cancel(); // running handlers finish, their acks go out, what was not started is given back
    scheduler.await?;

    let left = queue.counts().await?;
    println!("left: {} scheduled, {} leased, {} dead", left.scheduled, left.leased, left.dead);
    queue.purge().await?;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    Ok(())
}
