//! The verbs of those who look at orders: get, list, counts, events.

use super::{
    Event, EventPage, Order, OrderCounts, OrderPage, Orders, Status,
    lifecycle::{MAX_ORDERS_PER_CALL, with_deadline},
};
use crate::{
    error::{Error, Result},
    queue::{Cursor, MAX_IDS_PER_CALL, reply::Reply, scripts},
    redis::Call,
    types::{DueAt, Id},
};

impl Orders {
    /// One order; none if it never was, or its time of retention is over.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn get(&self, id: &Id) -> Result<Option<Order>> {
        Ok(self.get_all(std::slice::from_ref(id)).await?.pop().flatten())
    }

    /// Orders by their ids, in order.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn get_all(&self, ids: &[Id]) -> Result<Vec<Option<Order>>> {
        let mut orders = Vec::with_capacity(ids.len());
        for step in ids.chunks(MAX_ORDERS_PER_CALL) {
            let names = || step.iter().map(Id::as_str);
            let call = Call::new(&scripts::ORDER_GET, &self.queue.order_keys(names())).args(names());
            let mut reply = Reply::new("order_get", self.queue.call_order(call).await?)?;
            for id in step {
                let due_at = DueAt::from_ms(reply.int()?).ok();
                let order = Order::from_pairs(self.queue.name(), id, reply.nested()?.pairs()?);
                orders.push(order.map(|order| with_deadline(order, due_at)));
            }
        }
        Ok(orders)
    }

    /// One page of the orders with a status, continued behind `after`. A page may be shorter than `limit` (at most
    /// 100) while more follow.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn list(&self, status: Status, limit: usize, after: Option<&Cursor>) -> Result<OrderPage> {
        let (ids, next) = self.listed(status, limit, after).await?;
        // What a foreign client wrote may be no id: there is no order of it.
        let ids: Vec<Id> = ids.iter().filter_map(|id| Id::new(std::str::from_utf8(id).ok()?).ok()).collect();
        // Between the two calls an order may have come to its end, or to that of its retention.
        let found = self.get_all(&ids).await?.into_iter().flatten();
        Ok(OrderPage { orders: found.filter(|order| order.status == status).collect(), next })
    }

    /// The ids of a page as they stand in Redis, and where the next one starts.
    pub(super) async fn listed(
        &self,
        status: Status,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<(Vec<Vec<u8>>, Option<Cursor>)> {
        let call = Call::new(&scripts::ORDER_LIST, &self.queue.order_keys(std::iter::empty()))
            .arg(status.word())
            .arg(limit.clamp(1, MAX_ORDERS_PER_CALL));
        let call = match after {
            Some(cursor) => call.arg(cursor.score()).arg(cursor.id()),
            None => call.arg("").arg(""),
        };
        let mut reply = Reply::new("order_list", self.queue.call_order(call).await?)?;
        let more = reply.int()? == 1;
        let mut rows = reply.nested()?;
        let (mut ids, mut last) = (Vec::new(), None);
        while rows.len() > 0 {
            let (id, score) = (rows.string()?, rows.string()?);
            last = Some(Cursor::new(&score, id.clone()));
            ids.push(id);
        }
        Ok((ids, last.filter(|_| more)))
    }

    /// How many orders have come to which end.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn counts(&self) -> Result<OrderCounts> {
        let call = Call::new(&scripts::ORDER_COUNTS, &self.queue.order_keys(std::iter::empty()));
        let mut reply = Reply::new("order_counts", self.queue.call_order(call).await?)?;
        let (paid, cancelled, expired) = (reply.count()?, reply.count()?, reply.count()?);
        Ok(OrderCounts { paid, cancelled, expired, events: reply.count()? })
    }

    /// The events behind the one with the id `after`, oldest first, at most `limit`; from the beginning with none.
    ///
    /// # Errors
    /// If Redis does not answer, or `after` is no id of an event.
    pub async fn events(&self, after: Option<&str>, limit: usize) -> Result<EventPage> {
        let limit = limit.clamp(1, MAX_IDS_PER_CALL);
        let mut command = redis::cmd("XRANGE");
        let from = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        command.arg(self.queue.events_key()).arg(from).arg("+").arg("COUNT").arg(limit);
        let mut entries = Reply::new("XRANGE", self.queue.redis().run(&command).await?)?;
        let more = entries.len() == limit;
        let (mut events, mut last) = (Vec::with_capacity(entries.len()), None);
        while entries.len() > 0 {
            let mut entry = entries.nested()?;
            let event_id = read_event_id("XRANGE", &mut entry)?;
            events.extend(event(&event_id, &entry.nested()?.pairs()?));
            last = Some(event_id);
        }
        Ok(EventPage { events, last, more })
    }

    /// The id of the latest event; none if there is none yet.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn last_event(&self) -> Result<Option<String>> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(self.queue.events_key()).arg("+").arg("-").arg("COUNT").arg(1);
        let mut entries = Reply::new("XREVRANGE", self.queue.redis().run(&command).await?)?;
        if entries.len() == 0 {
            return Ok(None);
        }
        read_event_id("XREVRANGE", &mut entries.nested()?).map(Some)
    }
}

/// True for what Redis numbers the entries of a stream with: one or two numbers of 64 bits.
pub(crate) fn is_event_id(text: &str) -> bool {
    let number = |part: &str| part.parse::<u64>().is_ok() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('-').map_or_else(|| number(text), |(ms, count)| number(ms) && number(count))
}

fn read_event_id(script: &'static str, entry: &mut Reply) -> Result<String> {
    let id = String::from_utf8(entry.string()?).ok().filter(|id| is_event_id(id));
    id.ok_or_else(|| Error::Reply { script, detail: "an entry without an id".to_owned() })
}

/// None for an entry that somebody else wrote.
fn event(event_id: &str, pairs: &[(String, String)]) -> Option<Event> {
    let of = |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    Some(Event {
        event_id: event_id.to_owned(),
        r#type: Status::from_word(of("type")?)?,
        id: Id::new(of("id")?).ok()?.to_string(),
        at: of("at").and_then(|at| DueAt::from_ms(at.parse().ok()?).ok()),
    })
}
