//! The replay in virtual time: the scripts get the instant passed in, so that years take a second.

use std::time::Duration;

use anyhow::ensure;
use indicatif::ProgressBar;

use super::{
    orders::Order,
    tally::Tally,
    timeline::{Event, Kind, timeline},
};
use crate::{
    duration,
    queue::{Delivery, Due, Lease, MAX_IDS_PER_CALL, Queue, Registration, Settled},
    types::{DueAt, Id, ServerTime},
};

/// What is claimed is acked at once, so a lease only has to outlast any step of virtual time.
const LEASE: Duration = duration::MAX;

/// Plays all orders on the queue, which is empty.
pub(super) async fn play(queue: &Queue, orders: &[Order], bar: &ProgressBar) -> anyhow::Result<Tally> {
    let events = timeline(orders);
    bar.set_length(events.len() as u64);
    let mut player = Player { queue, orders, tally: Tally::default(), next: None };
    let mut rest = events.as_slice();
    while let Some(first) = rest.first() {
        player.fire_before(Some(first.at)).await?;
        let (step, later) = rest.split_at(player.step_len(rest));
        player.step(step).await?;
        bar.inc(step.len() as u64);
        rest = later;
    }
    player.fire_before(None).await?;
    Ok(player.tally)
}

struct Player<'a> {
    queue: &'a Queue,
    orders: &'a [Order],
    tally: Tally,
    /// The earliest deadline, as far as the last claim and the registrations since tell. It may have been
    /// cancelled: then the claim at that instant takes nothing and answers the next one.
    next: Option<DueAt>,
}

impl Player<'_> {
    /// Fires every deadline before `end`, each at its instant. One at `end` itself waits, so that a payment
    /// at the very deadline is in time.
    async fn fire_before(&mut self, end: Option<DueAt>) -> anyhow::Result<()> {
        while let Some(due_at) = self.next
            && end.is_none_or(|end| due_at < end)
        {
            let queue = self.at(due_at);
            let claim = queue.claim(MAX_IDS_PER_CALL, LEASE).await?;
            ensure!(
                claim.deliveries.iter().all(|delivery| delivery.due_at == due_at),
                "the engine disagrees: at {due_at} it fired other deadlines"
            );
            let leases: Vec<Lease> = claim.deliveries.iter().map(Delivery::lease).collect();
            let settled = queue.ack(&leases).await?;
            ensure!(
                settled.iter().all(|settled| *settled == Settled::Done),
                "the engine disagrees: at {due_at} it refused an ack"
            );
            self.tally.expired.extend(leases.into_iter().map(|lease| lease.id));
            if !claim.more {
                self.next = claim.next;
            }
        }
        Ok(())
    }

    /// How many of the events go in one call: neighbours of the same kind with no deadline between them.
    fn step_len(&self, events: &[Event]) -> usize {
        let kind = events[0].kind;
        let mut next = self.next;
        let fits = |event: &&Event| {
            let fits = event.kind == kind && next.is_none_or(|next| event.at <= next);
            if kind == Kind::Created {
                next = earlier(next, self.orders[event.order].due_at);
            }
            fits
        };
        events.iter().take_while(fits).count()
    }

    /// Registers or cancels the orders of events of one kind, at the instant of the last.
    async fn step(&mut self, events: &[Event]) -> anyhow::Result<()> {
        let Some(Event { at, kind, .. }) = events.last() else { return Ok(()) };
        let queue = self.at(*at);
        let orders = events.iter().map(|event| &self.orders[event.order]);
        match kind {
            Kind::Created => {
                self.next = orders.clone().fold(self.next, |next, order| earlier(next, order.due_at));
                let registration = |order: &Order| Registration {
                    id: order.id.clone(),
                    due: Due::At(order.due_at),
                    payload: None,
                };
                self.tally.register(&queue, &orders.map(registration).collect::<Vec<_>>()).await
            }
            Kind::Paid => {
                let ids: Vec<Id> = orders.map(|order| order.id.clone()).collect();
                self.tally.cancel(&queue, &ids).await
            }
        }
    }

    fn at(&self, instant: DueAt) -> Queue {
        self.queue.at(ServerTime::from_ms(instant.as_ms()))
    }
}

fn earlier(next: Option<DueAt>, due_at: DueAt) -> Option<DueAt> {
    Some(next.map_or(due_at, |next| next.min(due_at)))
}
