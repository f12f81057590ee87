//! The circuit breaker: while attempts only fail, nothing is claimed but a probe now and then.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use crate::{config::CircuitBreaker, types::QueueName};

/// How an attempt ended, as far as it tells about the handler's endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// The handler came to a verdict: done, or dead.
    Up,
    /// The attempt failed.
    Down,
    /// It was not started, or dropped.
    None,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// All is well, but for this many failures in a row.
    Closed { failures: u32 },
    /// Nothing is claimed until then; after it, one id.
    Open { until: Instant },
    /// One id is being tried.
    Probing,
}

/// One for each queue in a process.
#[derive(Debug)]
pub(super) struct Breaker {
    queue: QueueName,
    state: Mutex<State>,
    changed: Notify,
}

impl Breaker {
    pub(super) fn new(queue: &QueueName) -> Self {
        let state = Mutex::new(State::Closed { failures: 0 });
        Self { queue: queue.clone(), state, changed: Notify::new() }
    }

    /// Waits until claiming makes sense; answers true if it is for one id, as a probe, which it then begins.
    pub(super) async fn pass(&self) -> bool {
        loop {
            let changed = self.changed.notified();
            let state = *self.state();
            match state {
                State::Closed { .. } => return false,
                State::Probing => changed.await,
                State::Open { until } if until <= Instant::now() => {
                    *self.state() = State::Probing;
                    return true;
                }
                State::Open { until } => tokio::time::sleep_until(until.into()).await,
            }
        }
    }

    /// A probe that found nothing to try: the next one may begin at once.
    pub(super) fn probe_found_nothing(&self) {
        self.set(State::Open { until: Instant::now() });
    }

    /// True while nothing is to be started.
    pub(super) fn is_open(&self) -> bool {
        matches!(*self.state(), State::Open { .. })
    }

    /// Takes note of how an attempt ended.
    pub(super) fn note(&self, sign: Sign, settings: &CircuitBreaker) {
        let state = *self.state();
        match (state, sign) {
            (State::Closed { failures: 0 }, Sign::Up)
            | (State::Closed { .. } | State::Open { .. }, Sign::None) => {}
            // Late outcomes of what ran when it opened; a success among them is as good as that of a probe.
            (State::Open { .. }, Sign::Down) => {}
            (State::Closed { .. }, Sign::Up) => self.set(State::Closed { failures: 0 }),
            (State::Open { .. } | State::Probing, Sign::Up) => {
                tracing::info!(queue = %self.queue, "circuit breaker closed: the handler succeeds again");
                self.set(State::Closed { failures: 0 });
            }
            (State::Closed { failures }, Sign::Down) => {
                let failures = failures.saturating_add(1);
                if settings.failures > 0 && failures >= settings.failures {
                    let pause_ms = settings.pause.as_millis() as u64;
                    tracing::error!(queue = %self.queue, failures, pause_ms, "circuit breaker open: claiming stops");
                    self.set(State::Open { until: Instant::now() + settings.pause });
                } else {
                    self.set(State::Closed { failures });
                }
            }
            (State::Probing, Sign::Down) => self.set(State::Open { until: Instant::now() + settings.pause }),
            (State::Probing, Sign::None) => self.probe_found_nothing(),
        }
    }

    fn set(&self, state: State) {
        *self.state() = state;
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    fn settings(pause: Duration) -> CircuitBreaker {
        CircuitBreaker { failures: 3, pause }
    }

    fn breaker() -> Breaker {
        Breaker::new(&QueueName::new("orders").unwrap())
    }

    #[tokio::test]
    async fn failures_in_a_row_open_it_and_a_success_between_does_not() {
        let (breaker, settings) = (breaker(), settings(Duration::from_secs(3600)));
        for sign in [Sign::Down, Sign::Down, Sign::Up, Sign::Down, Sign::None, Sign::Down] {
            breaker.note(sign, &settings);
            assert!(!breaker.is_open());
        }
        breaker.note(Sign::Down, &settings);
        assert!(breaker.is_open());
        assert_eq!(breaker.pass().now_or_never(), None);
    }

    #[tokio::test]
    async fn one_probe_at_a_time_and_its_success_closes_it() {
        let (breaker, settings) = (breaker(), settings(Duration::ZERO));
        for _ in 0..3 {
            breaker.note(Sign::Down, &settings);
        }
        assert!(breaker.pass().await, "a probe");
        assert_eq!(breaker.pass().now_or_never(), None, "no second one meanwhile");
        breaker.note(Sign::Down, &settings);
        assert!(breaker.pass().await, "the next probe");
        breaker.note(Sign::Up, &settings);
        assert!(!breaker.pass().await, "closed");
    }

    #[test]
    fn a_probe_that_found_nothing_does_not_block_the_next() {
        let (breaker, settings) = (breaker(), settings(Duration::ZERO));
        for _ in 0..3 {
            breaker.note(Sign::Down, &settings);
        }
        for _ in 0..2 {
            assert_eq!(breaker.pass().now_or_never(), Some(true));
            breaker.probe_found_nothing();
        }
        assert_eq!(breaker.pass().now_or_never(), Some(true));
        breaker.note(Sign::None, &settings);
        assert_eq!(breaker.pass().now_or_never(), Some(true));
    }

    #[test]
    fn zero_failures_switch_it_off() {
        let (breaker, settings) = (breaker(), CircuitBreaker { failures: 0, pause: Duration::ZERO });
        (0..1000).for_each(|_| breaker.note(Sign::Down, &settings));
        assert!(!breaker.is_open());
    }
}
