//! What the engine answers, counted.

use std::time::Duration;

use anyhow::{bail, ensure};

use crate::{
    queue::{Cancelled, Expected, Mode, Queue, Registration, Scheduled},
    types::Id,
};

/// The result of a replay, as it grows.
#[derive(Default)]
pub(super) struct Tally {
    created: usize,
    pub(super) paid_in_time: usize,
    /// In the order they fired.
    pub(super) expired: Vec<Id>,
    pub(super) peak_pending: usize,
    /// By how much each of the expired fired late; empty in virtual time.
    pub(super) latenesses: Vec<Duration>,
}

impl Tally {
    /// Registers new orders.
    pub(super) async fn register(&mut self, queue: &Queue, orders: &[Registration]) -> anyhow::Result<()> {
        for (order, answer) in
            orders.iter().zip(queue.schedule(orders, Mode::Replace, Expected::Anything).await?)
        {
            let Scheduled::Created { .. } = answer else {
                bail!("the engine disagrees: `{}` is new, and registering it answered {answer:?}", order.id);
            };
            self.created += 1;
        }
        self.peak_pending = self.peak_pending.max(self.created - self.settled());
        Ok(())
    }

    /// Cancels paid orders. What is not there any more has expired, and is counted where it fires.
    pub(super) async fn cancel(&mut self, queue: &Queue, ids: &[Id]) -> anyhow::Result<()> {
        let answers = queue.cancel(ids).await?;
        let cancelled = |answer: &&Cancelled| matches!(answer, Cancelled::Cancelled { .. });
        self.paid_in_time += answers.iter().filter(cancelled).count();
        Ok(())
    }

    /// How many orders have come to their end.
    pub(super) fn settled(&self) -> usize {
        self.paid_in_time + self.expired.len()
    }

    /// Every order must have been registered, and then either been cancelled or fired, once.
    pub(super) fn check(&self, orders: usize) -> anyhow::Result<()> {
        ensure!(
            self.created == orders && self.settled() == orders,
            "the engine disagrees: of {orders} orders it registered {}, cancelled {} and fired {}",
            self.created,
            self.paid_in_time,
            self.expired.len()
        );
        Ok(())
    }
}
