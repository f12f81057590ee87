//! Living through errors: how long to wait, and what to say how often.

use std::time::{Duration, Instant};

use super::meter::Meter;
use crate::{error::Error, types::QueueName};

/// First wait after an error. A restart of Redis takes well under a second.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Longest wait: work resumes at most this long after Redis does, or the `connect_timeout` where that is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// An error that lasts is repeated in the log this often.
const REMINDER: Duration = Duration::from_secs(30);

/// The errors of one task: logs the first, a change of kind, a reminder now and then, and the end of it.
pub(super) struct Trouble {
    queue: QueueName,
    task: &'static str,
    meter: Meter,
    current: Option<Current>,
}

struct Current {
    kind: &'static str,
    since: Instant,
    logged: Instant,
    failures: u32,
}

impl Trouble {
    pub(super) fn new(queue: &QueueName, task: &'static str, meter: &Meter) -> Self {
        Self { queue: queue.clone(), task, meter: meter.clone(), current: None }
    }

    /// Takes note of the error of a try that began at an instant, and answers how long to wait before the next one.
    pub(super) fn failed(&mut self, error: &Error, begun: Instant) -> Duration {
        let (now, kind) = (Instant::now(), kind(error));
        self.meter.failed(kind);
        let current = self.current.get_or_insert(Current { kind: "", since: now, logged: now, failures: 0 });
        current.failures += 1;
        if current.kind != kind || now - current.logged >= REMINDER {
            (current.kind, current.logged) = (kind, now);
            tracing::warn!(
                queue = %self.queue,
                task = self.task,
                kind,
                for_ms = (now - current.since).as_millis() as u64,
                failures = current.failures,
                cause = %error,
                "Redis trouble; trying again"
            );
        }
        // Waits count from one beginning to the next: a try that took a whole timeout was wait enough.
        wait(current.failures, rand::random()).saturating_sub(now.saturating_duration_since(begun))
    }

    /// Takes note that it works.
    pub(super) fn recovered(&mut self) {
        if let Some(Current { kind, since, failures, .. }) = self.current.take() {
            let for_ms = since.elapsed().as_millis() as u64;
            tracing::info!(queue = %self.queue, task = self.task, kind, for_ms, failures, "recovered");
        }
    }
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::Redis(trouble) => trouble.kind.name(),
        Error::WrongType { .. } => "wrongtype",
        Error::Invalid(_) => "invalid",
        Error::Reply { .. } => "reply",
        Error::NotDurable { .. } => "notdurable",
    }
}

/// Doubles from 50 ms to 1 s; up to a fifth less at random, so that a fleet does not come back in step.
fn wait(failures: u32, random: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(LONGEST_WAIT).mul_f64(1.0 - 0.2 * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_that_took_a_timeout_is_followed_by_the_next_at_once() {
        let mut trouble = Trouble::new(&QueueName::new("orders").unwrap(), "poll", &Meter::default());
        let error = Error::timeout(LONGEST_WAIT);
        assert!(trouble.failed(&error, Instant::now() + LONGEST_WAIT) > Duration::ZERO);
        let Some(begun) = Instant::now().checked_sub(LONGEST_WAIT) else { return };
        assert_eq!(trouble.failed(&error, begun), Duration::ZERO);
    }

    #[test]
    fn waits_grow_to_a_second_and_no_further() {
        assert_eq!(wait(1, 0.0), Duration::from_millis(50));
        assert_eq!(wait(3, 0.0), Duration::from_millis(200));
        assert_eq!(wait(u32::MAX, 0.0), LONGEST_WAIT);
        assert_eq!(wait(u32::MAX, 1.0), Duration::from_millis(800));
    }
}
