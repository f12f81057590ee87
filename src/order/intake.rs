//! Creates what was submitted: claims a batch of the intake, creates all of it in one script, acks it.

use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Created, Fields, NewOrder, Orders, lifecycle::MAX_ORDERS_PER_CALL};
use crate::{
    error::Result,
    queue::{Claim, ClaimOptions, Delivery, Due, Lease, Rejected, Unreadable},
    scheduler::{self, Pulse, Settings, Source, Ticked},
    types::{DueAt, Token},
};

/// Creates submitted orders until it is told to stop. Any number of processes can run it: a claim keeps them apart,
/// and since creating twice is creating once, one that dies in the middle does no harm.
pub struct Intake {
    orders: Orders,
    pulse: Pulse,
}

impl Intake {
    /// Creates what was submitted to `orders`.
    #[must_use]
    pub fn new(orders: Orders) -> Self {
        Self { orders, pulse: Pulse::default() }
    }

    /// Shows whether it polls with success, while it runs.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Runs until `stop` is cancelled, through every error of Redis.
    pub async fn run(self, settings: Settings, stop: CancellationToken) {
        self.watching(scheduler::fixed(settings), stop).await;
    }

    /// The same with settings that may change while it runs.
    pub(crate) async fn watching(self, settings: watch::Receiver<Settings>, stop: CancellationToken) {
        let (intake, pulse) = (self.orders.intake().clone(), self.pulse());
        scheduler::poll(self, intake, settings, pulse, stop).await;
    }

    /// Creates what can be read, and sets the rest aside.
    async fn admit(&self, token: Token, deliveries: &[Delivery], unreadable: Vec<Unreadable>) -> Result<()> {
        let mut rejected: Vec<Rejected> = unreadable
            .into_iter()
            .map(|Unreadable { id, error, reason }| Rejected { id, token, reason, error })
            .collect();
        let (mut new, mut leases) = (Vec::with_capacity(deliveries.len()), Vec::new());
        for delivery in deliveries {
            match read(delivery) {
                Ok(order) => {
                    new.push(order);
                    leases.push(delivery.lease());
                }
                Err(error) => rejected.push(reject(&delivery.lease(), "invalid_payload", error)),
            }
        }
        let mut done = Vec::with_capacity(new.len());
        for (lease, created) in leases.into_iter().zip(self.orders.create(&new).await?) {
            match created {
                Created::Created(_) | Created::Exists(_) => done.push(lease),
                Created::Conflict(_) => {
                    let error = "an order of this id exists with other fields".to_owned();
                    rejected.push(reject(&lease, "conflict", error));
                }
                Created::NotAnOrder => {
                    let error = "the key of the order holds something else".to_owned();
                    rejected.push(reject(&lease, "not_an_order", error));
                }
            }
        }
        let intake = self.orders.intake();
        intake.ack(&done).await?;
        if !rejected.is_empty() {
            tracing::warn!(queue = %intake.name(), moved = rejected.len(), "cannot be created; now in the dead set");
            intake.bury(&rejected).await?;
        }
        Ok(())
    }
}

impl Source for Intake {
    async fn room(&mut self, settings: &Settings) -> usize {
        settings.batch_size.min(MAX_ORDERS_PER_CALL)
    }

    async fn tick(&mut self, limit: usize, settings: &Settings) -> Result<Ticked> {
        let options = ClaimOptions { limit, lease: settings.lease, rate_limit: None, max_crashes: None };
        let claim = self.orders.intake().claim_with(options).await?;
        if let Some(token) = claim.token {
            // On an error the lease runs out, and the entries come back.
            self.admit(token, &claim.deliveries, claim.unreadable).await?;
        }
        let taken = claim.deliveries.len();
        let Claim { now, more, next, impossible, canary, .. } = claim;
        // Nobody waits for a deadline here, so none of them is late.
        let (handed_over, earliest) = (taken as u64, None);
        Ok(Ticked { now, taken, more, next, impossible, canary, handed_over, earliest })
    }
}

/// What `order_submit.lua` writes.
#[derive(Deserialize)]
struct Entry {
    due_at: String,
    /// Name, value, …; left out if there is none.
    #[serde(default)]
    fields: Vec<String>,
}

pub(super) fn read(delivery: &Delivery) -> Result<NewOrder, String> {
    let text = delivery.payload.as_ref().ok_or("it has no payload; use `order submit`")?.as_str();
    let entry: Entry =
        serde_json::from_str(text).map_err(|cause| format!("no entry of the intake: {cause}"))?;
    let due_at: DueAt = entry.due_at.parse().map_err(|cause: crate::error::Invalid| cause.to_string())?;
    if entry.fields.len() % 2 == 1 {
        return Err("no entry of the intake: a field without a value".to_owned());
    }
    let pairs = entry.fields.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str()));
    let fields = Fields::new(pairs).map_err(|cause| cause.to_string())?;
    Ok(NewOrder { id: delivery.id.clone(), due: Due::At(due_at), fields })
}

fn reject(lease: &Lease, reason: &'static str, error: String) -> Rejected {
    Rejected { id: lease.id.as_str().as_bytes().to_vec(), token: lease.token, reason, error }
}
