//! The verbs on orders: one method for each script.

use std::time::Duration;

use super::{
    Created, Extended, Extension, NewOrder, Order, Orders, Status, Submitted, Verdict, answers::Expired,
    fields::Fields,
};
use crate::{
    error::{Error, Result},
    queue::{
        due_argument,
        reply::{Reply, deadline, unknown},
        scripts,
    },
    redis::{Call, Script},
    types::{DueAt, Id, ServerTime},
};

/// Orders in one call: each is a hash, a deadline and an event, and takes Redis about 15 µs.
pub(super) const MAX_ORDERS_PER_CALL: usize = 100;
/// Stands for an id that is no text, as only a foreign client writes it: no order has such an id.
const NOBODY: &str = "\0";
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
            let mut reply = Reply::new("order_create", self.queue.write_order(call).await?)?;
            let now = reply.deadline()?;
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
            let mut reply = Reply::new("order_submit", self.intake.write_order(call).await?)?;
            let _now = reply.int()?;
            for _ in step {
                let (code, due_ms) = (reply.int()?, reply.int()?);
                let due_at = DueAt::from_ms(due_ms).ok();
                answers.push(match code {
                    1 => Submitted::Accepted { due_at: deadline("order_submit", due_ms)? },
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
        let mut reply = Reply::new(name, self.queue.write_order(call).await?)?;
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

    /// Moves the deadline of an order that is still `created`. After a timeout it may have happened, and an extension
    /// *by* some time must not be repeated blindly then: it would count twice.
    ///
    /// # Errors
    /// If Redis refuses, or the deadline would be past the year 9999.
    pub async fn extend(&self, id: &Id, extension: Extension) -> Result<Extended> {
        let due = match extension {
            Extension::To(due) => due_argument(due),
            Extension::By(more) => format!("~{}", more.as_millis()),
        };
        let call = self.on_one(&scripts::ORDER_EXTEND, id).arg(id.as_str()).arg(due);
        let mut reply = Reply::new("order_extend", self.queue.write_order(call).await?)?;
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

    /// Expires those of the `upcoming` ids that are due; answers which ids to name next.
    pub(super) async fn expire(&self, upcoming: &[Vec<u8>], options: &ExpireOptions) -> Result<Expired> {
        let upcoming = &upcoming[..upcoming.len().min(MAX_ORDERS_PER_CALL)];
        let ids = upcoming.iter().map(|id| std::str::from_utf8(id).unwrap_or(NOBODY));
        let call = self
            .queue
            .order_script(&scripts::ORDER_EXPIRE, ids)
            .arg(options.limit.clamp(1, MAX_ORDERS_PER_CALL))
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
            canary: reply.sighting()?,
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

    /// Removes settled orders that were kept for long enough, and the oldest events beyond `max_events`, a few hundred
    /// in all; answers true if there may be more. [`Expirer`](super::Expirer) does it once a minute. Most orders have
    /// gone by their TTL before, and leave only their place in the list.
    ///
    /// # Errors
    /// If Redis refuses.
    pub async fn trim(&self, max_events: Option<u64>) -> Result<bool> {
        let mut removed = 0;
        if self.retain.is_some() {
            for status in [Status::Paid, Status::Cancelled, Status::Expired] {
                removed += self.trim_settled(status).await?;
            }
        }
        if let Some(most) = max_events {
            // Whole nodes of the stream, a hundred at a time, which is what Redis does by itself for `~`.
            let mut command = redis::cmd("XTRIM");
            command.arg(self.queue.events_key()).arg("MAXLEN").arg("~").arg(most);
            removed += counted("XTRIM", &self.queue.redis().run(&command).await?)?;
        }
        Ok(removed > 0)
    }

    async fn trim_settled(&self, status: Status) -> Result<i64> {
        let (ids, _) = self.listed(status, MAX_ORDERS_PER_CALL, None).await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let names = ids.iter().map(|id| std::str::from_utf8(id).unwrap_or(NOBODY));
        let call = self
            .queue
            .order_script(&scripts::ORDER_TRIM, names)
            .arg(self.retain_argument())
            .arg(status.word())
            .args(ids.iter().map(Vec::as_slice));
        counted("order_trim", &self.queue.call_order(call).await?)
    }

    fn on_one<'a>(&'a self, script: &'a Script, id: &Id) -> Call<'a> {
        self.queue.order_script(script, std::iter::once(id.as_str()))
    }

    fn retain_argument(&self) -> String {
        self.retain.map_or_else(String::new, |retain| retain.as_millis().to_string())
    }
}

fn counted(script: &'static str, reply: &redis::Value) -> Result<i64> {
    match reply {
        redis::Value::Int(count) => Ok(*count),
        _ => Err(Error::Reply { script, detail: "no integer".to_owned() }),
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
pub(super) fn with_deadline(order: Order, due_at: Option<DueAt>) -> Order {
    if order.status == Status::Created { Order { due_at, ..order } } else { order }
}
