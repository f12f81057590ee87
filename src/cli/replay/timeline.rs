//! What happened to the orders, in the order of time.

use super::orders::Order;
use crate::types::DueAt;

/// Something that happened to an order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Event {
    pub(super) at: DueAt,
    pub(super) kind: Kind,
    /// Its place among the orders.
    pub(super) order: usize,
}

/// Sorted so that an order that is paid in the instant of its creation is created first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Created,
    Paid,
}

/// All creations and payments, the earliest first.
pub(super) fn timeline(orders: &[Order]) -> Vec<Event> {
    let mut events = Vec::with_capacity(2 * orders.len());
    for (order, Order { created_at, paid_at, .. }) in orders.iter().enumerate() {
        events.push(Event { at: *created_at, kind: Kind::Created, order });
        events.extend(paid_at.map(|at| Event { at, kind: Kind::Paid, order }));
    }
    events.sort_unstable();
    events
}
