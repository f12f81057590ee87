//! The verbs on orders: one method for each script.

use std::time::Duration;

use super::{
    Created, Event, EventPage, Extended, Extension, NewOrder, Order, OrderCounts, OrderPage, Orders, Status,
    Submitted, Verdict, answers::Expired, fields::Fields,
};
use crate::{
    error::{Error, Result},
    queue::{
        Cursor, MAX_FAILURES_PER_CALL, MAX_IDS_PER_CALL, due_argument,
        reply::{Reply, unknown},
        scripts,
    },
    redis::{Call, Script},
    types::{DueAt, Id, ServerTime},
};

/// Orders in one call: a quarter of the usual step, since each is a hash, a deadline and an event.
const MAX_ORDERS_PER_CALL: usize = MAX_FAILURES_PER_CALL;
/// One call carries at most this much of fields, so that it does not keep Redis from others for long.
const MAX_BYTES_PER_CALL: usize = 4 << 20;

impl Orders {
    /// Creates orders, each with its deadline and the event `created`; answers for each in order. Creating one twice
    /// is creating it once: what decides is the fields.
    ///
    /// # Errors
    /// If Redis refuses, as it does when it is full: nothing of that step was written then.
    pub async fn create(&self, orders: &[NewOrder]) -> Result<Vec<Created>> {
        let mut answers = Vec::with_capacity(orders.len());
        for step in steps(orders) {
            let ids = step.iter().map(|order| order.id.as_str());
            let call = with_new_orders(self.queue.order_script(&scripts::ORDER_CREATE, ids), step);
            let mut reply = Reply::new("order_create", self.queue.call_order(call).await?)?;
            let now = DueAt::from_ms(reply.int()?)?;
            for order in step {
                answers.push(self.created(order, now, &mut reply)?);
            }
        }
        Ok(answers)
    }

    fn created(&self, new: &NewOrder, now: DueAt, reply: &mut Reply) -> Result<Created> {
        let (code, due_at) = (reply.int()?, DueAt::from_ms(reply.int()?).ok());
        let pairs = reply.nested()?.pairs()?;
        let existing = |pairs| {
            let order = Order::expected("order_create", self.queue.name(), &new.id, pairs)?;
            Ok::<_, Error>(with_deadline(order, due_at))
        };
        Ok(match code {
            1 => Created::Created(Order {
                id: new.id.clone(),
                queue: self.queue.name().clone(),
                status: Status::Created,
                created_at: Some(now),
                due_at,
                paid_at: None,
                cancelled_at: None,
                expired_at: None,
                fields: new.fields.clone(),
            }),
            2 => Created::Exists(existing(pairs)?),
            3 => Created::Conflict(existing(pairs)?),
            4 => Created::NotAnOrder,
            code => return Err(unknown("order_create", code)),
        })
    }

    /// Accepts orders that are created a little later by whoever runs the [`Intake`](super::Intake); answers for
    /// each in order. Cheaper than [`Orders::create`] for the caller, and refused when too many wait.
    ///
    /// # Errors
    /// If Redis refuses, as it does when it is full: nothing of that step was written then.
    pub async fn submit(&self, orders: &[NewOrder]) -> Result<Vec<Submitted>> {
        let mut answers = Vec::with_capacity(orders.len());
        for step in steps(orders) {
            let ids = step.iter().map(|order| order.id.as_str());
            let call = self.intake.order_script(&scripts::ORDER_SUBMIT, ids).arg(self.intake_limit);
            let call = with_new_orders(call, step);
            let mut reply = Reply::new("order_submit", self.intake.call_order(call).await?)?;
            let _now = reply.int()?;
            for _ in step {
                let (code, due_ms) = (reply.int()?, reply.int()?);
                let due_at = DueAt::from_ms(due_ms).ok();
                answers.push(match code {
                    1 => Submitted::Accepted { due_at: DueAt::from_ms(due_ms)? },
                    2 => Submitted::Waiting { due_at },
                    3 => Submitted::Exists { due_at },
                    4 => Submitted::Conflict,
                    5 => Submitted::Full,
                    code => return Err(unknown("order_submit", code)),
                });
            }
        }
        Ok(answers)
    }

    /// `created -> paid`. `details` are added to the fields; one that the order has must have the same value.
    ///
    /// # Errors
    /// If Redis refuses. After a timeout it may have happened: saying it again is safe.
    pub async fn pay(&self, id: &Id, details: &Fields) -> Result<Verdict> {
        self.end(&scripts::ORDER_PAY, id, details).await
    }

    /// `created -> cancelled`; else as [`Orders::pay`].
    ///
    /// # Errors
    /// As [`Orders::pay`].
    pub async fn cancel(&self, id: &Id, details: &Fields) -> Result<Verdict> {
        self.end(&scripts::ORDER_CANCEL, id, details).await
    }

    async fn end(&self, script: &Script, id: &Id, details: &Fields) -> Result<Verdict> {
        let call = self.on_one(script, id).arg(id.as_str()).arg(self.retain_argument());
        let call = details.iter().fold(call, |call, (name, value)| call.arg(name).arg(value));
        let name = call.name();
        let mut reply = Reply::new(name, self.queue.call_order(call).await?)?;
        let (code, word, _now) = (reply.int()?, reply.bytes()?.unwrap_or_default(), reply.int()?);
        let pairs = reply.nested()?.pairs()?;
        let order = |pairs| Order::expected(name, self.queue.name(), id, pairs);
        Ok(match code {
            0 => Verdict::NotFound,
            1 => Verdict::Done(order(pairs)?),
            2 => Verdict::Already(order(pairs)?),
            3 => Verdict::TooLate(order(pairs)?),
            4 => {
                Verdict::Conflict { order: order(pairs)?, field: String::from_utf8_lossy(&word).into_owned() }
            }
            5 => Verdict::NotAnOrder,
            code => return Err(unknown(name, code)),
        })
    }

    /// Moves the deadline of an order that is still `created`.
    ///
    /// # Errors
    /// If Redis refuses, or the deadline would be past the year 9999.
    pub async fn extend(&self, id: &Id, extension: Extension) -> Result<Extended> {
        let due = match extension {
            Extension::To(due) => due_argument(due),
            Extension::By(more) => format!("~{}", more.as_millis()),
        };
        let call = self.on_one(&scripts::ORDER_EXTEND, id).arg(id.as_str()).arg(due);
        let mut reply = Reply::new("order_extend", self.queue.call_order(call).await?)?;
        let (code, _reason, _now) = (reply.int()?, reply.bytes()?, reply.int()?);
        let pairs = reply.nested()?.pairs()?;
        let order = |pairs| Order::expected("order_extend", self.queue.name(), id, pairs);
        Ok(match code {
            0 => Extended::NotFound,
            1 => Extended::Moved { order: order(pairs)?, old: DueAt::from_ms(reply.int()?).ok() },
            3 => Extended::TooLate(order(pairs)?),
            5 => Extended::NotAnOrder,
            code => return Err(unknown("order_extend", code)),
        })
    }

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
            let call = Call::new(&scripts::ORDER_GET, self.queue.order_keys(names())).args(names());
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
    /// 250) while more follow.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn list(&self, status: Status, limit: usize, after: Option<&Cursor>) -> Result<OrderPage> {
        let call = Call::new(&scripts::ORDER_LIST, self.queue.order_keys(std::iter::empty()))
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
            let (id, score) = (rows.bytes()?.unwrap_or_default(), rows.bytes()?.unwrap_or_default());
            // What a foreign client wrote may be no id: there is no order of it.
            ids.extend(std::str::from_utf8(&id).ok().and_then(|id| Id::new(id).ok()));
            last = Some(Cursor::new(&score, id));
        }
        // Between the two calls an order may have come to its end, or to that of its retention.
        let found = self.get_all(&ids).await?.into_iter().flatten();
        let orders = found.filter(|order| order.status == status).collect();
        Ok(OrderPage { orders, next: last.filter(|_| more) })
    }

    /// How many orders have come to which end.
    ///
    /// # Errors
    /// If Redis does not answer.
    pub async fn counts(&self) -> Result<OrderCounts> {
        let call = Call::new(&scripts::ORDER_COUNTS, self.queue.order_keys(std::iter::empty()));
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
            let event_id = String::from_utf8_lossy(&entry.bytes()?.unwrap_or_default()).into_owned();
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
        let id = entries.nested()?.bytes()?.unwrap_or_default();
        Ok(Some(String::from_utf8_lossy(&id).into_owned()))
    }

    /// Expires those of the `upcoming` ids that are due; answers which ids to name next.
    pub(super) async fn expire(&self, upcoming: &[Vec<u8>], options: &ExpireOptions) -> Result<Expired> {
        let upcoming = &upcoming[..upcoming.len().min(MAX_IDS_PER_CALL)];
        // An id that is no text, as only a foreign client writes it, has no order: any key will do.
        let ids: Vec<_> = upcoming.iter().map(|id| String::from_utf8_lossy(id)).collect();
        let call = self
            .queue
            .order_script(&scripts::ORDER_EXPIRE, ids.iter().map(AsRef::as_ref))
            .arg(options.limit.clamp(1, MAX_IDS_PER_CALL))
            .arg(options.horizon.as_millis().to_string())
            .arg(options.rate_limit.map_or_else(String::new, |rate| rate.to_string()))
            .arg(self.retain_argument())
            .arg(u8::from(options.notify))
            .args(upcoming.iter().map(Vec::as_slice));
        let mut reply = Reply::new("order_expire", self.queue.call_order(call).await?)?;
        Ok(Expired {
            now: ServerTime::from_us(reply.int()?),
            expired: reply.count()?,
            dropped: reply.count()?,
            buried: reply.count()?,
            next: reply.due_at()?,
            impossible: reply.count()?,
            more: reply.count()? > 0,
            earliest: DueAt::from_ms(reply.int()?).ok(),
            upcoming: reply.nested()?.strings()?,
        })
    }

    /// Expires all that is due at this instant, and answers how many orders it was; with `notify`, puts each into the
    /// queue of [`Notify`](super::Notify). [`Expirer`](super::Expirer) does it all the time; this is for programs
    /// with a loop, or a clock, of their own.
    ///
    /// # Errors
    /// If Redis refuses. What expired until then has expired.
    pub async fn expire_due(&self, notify: bool) -> Result<u64> {
        let (limit, horizon) = (MAX_ORDERS_PER_CALL, Duration::ZERO);
        let options = ExpireOptions { limit, horizon, rate_limit: None, notify };
        let (mut count, mut upcoming) = (0, Vec::new());
        loop {
            let expired = self.expire(&upcoming, &options).await?;
            count += expired.expired;
            if !expired.more {
                return Ok(count);
            }
            upcoming = expired.upcoming;
        }
    }

    /// Removes what is beyond its retention from the lists of settled orders and from the events, at most 1000 of
    /// each; answers true if there may be more. [`Expirer`](super::Expirer) does it once a minute.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn trim(&self, max_events: Option<u64>) -> Result<bool> {
        let call = self
            .queue
            .order_script(&scripts::ORDER_TRIM, std::iter::empty())
            .arg(self.retain_argument())
            .arg(max_events.map_or_else(String::new, |most| most.to_string()))
            .arg(MAX_IDS_PER_CALL);
        match self.queue.call_order(call).await? {
            redis::Value::Int(count) => Ok(count >= MAX_IDS_PER_CALL as i64),
            _ => Err(Error::Reply { script: "order_trim", detail: "no integer".to_owned() }),
        }
    }

    fn on_one<'a>(&'a self, script: &'a Script, id: &Id) -> Call<'a> {
        self.queue.order_script(script, std::iter::once(id.as_str()))
    }

    fn retain_argument(&self) -> String {
        self.retain.map_or_else(String::new, |retain| retain.as_millis().to_string())
    }
}

/// What a call of `expire` goes by.
pub(super) struct ExpireOptions {
    pub(super) limit: usize,
    /// How far ahead the next ids are named.
    pub(super) horizon: Duration,
    pub(super) rate_limit: Option<u32>,
    /// True if somebody is to be told of each expired order.
    pub(super) notify: bool,
}

/// Cuts orders into calls.
fn steps(orders: &[NewOrder]) -> impl Iterator<Item = &[NewOrder]> {
    let mut rest = orders;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |order: &&NewOrder| {
            bytes += order.fields.bytes();
            bytes <= MAX_BYTES_PER_CALL
        };
        let count = rest.iter().take(MAX_ORDERS_PER_CALL).take_while(fits).count();
        let (step, later) = rest.split_at(count);
        rest = later;
        (!step.is_empty()).then_some(step)
    })
}

pub(super) fn with_new_orders<'a>(call: Call<'a>, orders: &[NewOrder]) -> Call<'a> {
    orders.iter().fold(call, |call, NewOrder { id, due, fields }| {
        let call = call.arg(id.as_str()).arg(due_argument(*due)).arg(fields.len());
        fields.iter().fold(call, |call, (name, value)| call.arg(name).arg(value))
    })
}

/// The deadline of a created order is where Redis has it, not where the order remembers it: a foreign client may
/// have moved it.
fn with_deadline(order: Order, due_at: Option<DueAt>) -> Order {
    if order.status == Status::Created { Order { due_at, ..order } } else { order }
}

/// None for an entry that somebody else wrote.
fn event(event_id: &str, pairs: &[(String, String)]) -> Option<Event> {
    let of = |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    Some(Event {
        event_id: event_id.to_owned(),
        r#type: Status::from_word(of("type")?)?,
        id: of("id")?.clone(),
        at: of("at").and_then(|at| DueAt::from_ms(at.parse().ok()?).ok()),
    })
}
