//! The last hour, minute by minute, and the last seconds.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::Histogram;

const MINUTES: u64 = 60;
/// What is fired in a second is told as the mean of so many: one claim of 1000 ids is no rate.
const RATE_SECONDS: u64 = 10;

/// One minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Minute {
    /// How many ids were handled, or handed over to a sink.
    pub fired: u64,
    /// How many attempts failed.
    pub failed: u64,
    /// Half of the first attempts were no later than this; none if there was none.
    pub lateness_p50: Option<Duration>,
    /// 99 of 100 were no later.
    pub lateness_p99: Option<Duration>,
}

/// How fast and how late it is now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate {
    /// How many ids were fired in a second, over the last ten.
    pub fired_per_second: f64,
    /// Half of the first attempts of the last one to two minutes were no later than this; none if there was none.
    pub lateness_p50: Option<Duration>,
    /// 99 of 100 were no later.
    pub lateness_p99: Option<Duration>,
}

/// A stretch of time, by its number since the start.
#[derive(Debug)]
struct Stretch<T> {
    number: u64,
    content: T,
}

/// Counts of one minute.
#[derive(Debug, Default)]
struct Counts {
    fired: u64,
    failed: u64,
    lateness: Histogram,
}

/// What happened lately; what is older than an hour is forgotten.
#[derive(Debug)]
pub(super) struct Recent {
    start: Instant,
    minutes: VecDeque<Stretch<Counts>>,
    seconds: VecDeque<Stretch<u64>>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { start: Instant::now(), minutes: VecDeque::new(), seconds: VecDeque::new() }
    }
}

/// The minute and the second that run.
pub(super) struct Current<'a> {
    minute: &'a mut Counts,
    second: &'a mut u64,
}

impl Current<'_> {
    pub(super) fn fired(&mut self, count: u64) {
        self.minute.fired += count;
        *self.second += count;
    }

    pub(super) fn failed(&mut self, count: u64) {
        self.minute.failed += count;
    }

    pub(super) fn late(&mut self, lateness: Duration, count: u64) {
        self.minute.lateness.add(lateness, count);
    }
}

impl Recent {
    pub(super) fn at(&mut self, now: Instant) -> Current<'_> {
        let second = self.second(now);
        Current {
            minute: current(&mut self.minutes, second / 60, MINUTES),
            // The one that runs is not told, so one more is kept.
            second: current(&mut self.seconds, second, RATE_SECONDS + 1),
        }
    }

    pub(super) fn last_hour(&self, now: Instant) -> Vec<Minute> {
        let last = self.second(now) / 60;
        let mut hour = vec![Minute::default(); MINUTES as usize];
        for Stretch { number, content: Counts { fired, failed, lateness } } in &self.minutes {
            let Some(place) = (MINUTES - 1).checked_sub(last.saturating_sub(*number)) else { continue };
            hour[place as usize] = Minute {
                fired: *fired,
                failed: *failed,
                lateness_p50: lateness.percentile(0.5),
                lateness_p99: lateness.percentile(0.99),
            };
        }
        hour
    }

    pub(super) fn now(&self, now: Instant) -> Rate {
        let second = self.second(now);
        let lately =
            |stretch: &&Stretch<u64>| stretch.number < second && second - stretch.number <= RATE_SECONDS;
        let fired: u64 = self.seconds.iter().filter(lately).map(|stretch| stretch.content).sum();
        let mut lateness = Histogram::default();
        let minutes = self.minutes.iter().filter(|minute| (second / 60).saturating_sub(minute.number) <= 1);
        minutes.for_each(|minute| lateness.join(&minute.content.lateness));
        Rate {
            fired_per_second: fired as f64 / RATE_SECONDS.min(second.max(1)) as f64,
            lateness_p50: lateness.percentile(0.5),
            lateness_p99: lateness.percentile(0.99),
        }
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs()
    }
}

/// The stretch with this number, begun if it is new; at most `keep` are kept.
fn current<T: Default>(stretches: &mut VecDeque<Stretch<T>>, number: u64, keep: u64) -> &mut T {
    // Never behind the last one: two who read the clock may come in the other order.
    if stretches.back().is_none_or(|last| last.number < number) {
        while stretches.front().is_some_and(|first| first.number + keep <= number) {
            stretches.pop_front();
        }
        stretches.push_back(Stretch { number, content: T::default() });
    }
    &mut stretches.back_mut().expect("one was just made if there was none").content
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn an_hour_has_sixty_minutes_and_forgets_what_is_older() {
        let mut recent = Recent::default();
        let start = recent.start;
        recent.at(start).fired(1);
        recent.at(start + seconds(59 * 60)).fired(2);
        let fired = |recent: &Recent, at| -> Vec<u64> {
            recent.last_hour(start + at).iter().map(|minute| minute.fired).collect()
        };
        let hour = fired(&recent, seconds(59 * 60));
        assert_eq!((hour.len(), hour[0], hour[59]), (60, 1, 2));
        let hour = fired(&recent, seconds(60 * 60));
        assert_eq!((hour[0], hour[58], hour[59]), (0, 2, 0));
        recent.at(start + seconds(1000 * 60)).fired(3);
        assert_eq!(recent.minutes.len(), 1);
    }

    #[test]
    fn a_rate_is_that_of_the_last_ten_whole_seconds() {
        let mut recent = Recent::default();
        let start = recent.start;
        (0..100).for_each(|second| recent.at(start + seconds(second)).fired(second));
        let rate = recent.now(start + seconds(99));
        assert!((rate.fired_per_second - 93.5).abs() < 1e-9, "{rate:?}");
        assert_eq!(recent.seconds.len() as u64, RATE_SECONDS + 1);
        assert!(recent.now(start + seconds(200)).fired_per_second < 1e-9);
    }

    #[test]
    fn lateness_now_is_that_of_this_minute_and_the_one_before() {
        let mut recent = Recent::default();
        let start = recent.start;
        recent.at(start + seconds(30)).late(seconds(1), 1);
        assert_eq!(recent.now(start + seconds(119)).lateness_p50, Some(seconds(1)));
        assert_eq!(recent.now(start + seconds(120)).lateness_p50, None);
    }
}
