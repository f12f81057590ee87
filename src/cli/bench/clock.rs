//! The clock of Redis, read without asking it: what is measured against deadlines must not wait for an answer.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::{redis::Redis, types::DueAt};

/// How often Redis is asked. The quickest answer counts: it says the time to within half of its round trip, some 50 µs.
const QUESTIONS: usize = 50;

/// Ties this machine's monotonic clock to that of Redis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    instant: Instant,
    /// The time of Redis at `instant`, in µs since the epoch.
    server_us: i64,
}

impl Clock {
    pub(super) async fn of(redis: &Redis) -> anyhow::Result<Self> {
        let mut best: Option<(Duration, Self)> = None;
        for _ in 0..QUESTIONS {
            let asked = Instant::now();
            let answer = redis.run(&redis::cmd("TIME")).await?;
            let took = asked.elapsed();
            let (s, us): (i64, i64) = redis::from_redis_value(answer).context("TIME is no time")?;
            if best.is_none_or(|(quickest, _)| took < quickest) {
                best = Some((took, Self { instant: asked + took / 2, server_us: s * 1_000_000 + us }));
            }
        }
        Ok(best.expect("it was asked").1)
    }

    /// How long ago a deadline was; negative if it is yet to come.
    pub(super) fn us_since(self, due_at: DueAt, now: Instant) -> i64 {
        let elapsed = now.saturating_duration_since(self.instant).as_micros() as i64;
        self.server_us + elapsed - due_at.as_ms() * 1000
    }

    /// By how much the two clocks went apart since.
    pub(super) async fn drift(self, redis: &Redis) -> anyhow::Result<Duration> {
        let now = Self::of(redis).await?;
        let elapsed = now.instant.saturating_duration_since(self.instant).as_micros() as i64;
        Ok(Duration::from_micros((now.server_us - self.server_us - elapsed).unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_measured_by_the_clock_of_redis() {
        let (instant, server_us) = (Instant::now(), 1_767_225_600_000_250);
        let clock = Clock { instant, server_us };
        let due_at = DueAt::from_ms(1_767_225_600_001).unwrap();
        assert_eq!(clock.us_since(due_at, instant), -750);
        assert_eq!(clock.us_since(due_at, instant + Duration::from_millis(2)), 1250);
    }
}
