//! How much work is in hand, and so how much the next claim may take.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::Settings;

/// How many batches may be ahead of fast handlers: while one is handled, one is claimed, and one is acked. With one
/// batch Redis waits for this process after each claim.
const BATCHES_AHEAD: usize = 3;

/// Counts deliveries from claim to settlement. What may be in hand is `concurrency` plus what the handlers
/// got done within one poll interval lately, at most three batches: fast handlers get full batches ahead, slow
/// ones hold nothing that another process could start at once.
#[derive(Debug, Default)]
pub(super) struct Load {
    in_hand: AtomicUsize,
    freed: Notify,
    rate: Mutex<Rate>,
}

impl Load {
    /// Waits until the next claim is worth its round trip, and answers how many ids it may take.
    pub(super) async fn room(&self, settings: &Settings) -> usize {
        loop {
            let freed = self.freed.notified();
            let ahead = self.ahead(settings);
            let room = (settings.concurrency + ahead).saturating_sub(self.in_hand.load(Ordering::Acquire));
            // Until half of what is ahead is used up all handlers are busy, so larger claims cost no time.
            if room >= (ahead / 2).clamp(1, settings.batch_size) {
                return room.min(settings.batch_size);
            }
            freed.await;
        }
    }

    pub(super) fn add(&self, claimed: usize) {
        self.in_hand.fetch_add(claimed, Ordering::AcqRel);
    }

    /// So many are settled, or given up.
    pub(super) fn sub(&self, count: usize) {
        self.in_hand.fetch_sub(count, Ordering::AcqRel);
        self.rate.lock().unwrap_or_else(PoisonError::into_inner).add(count, Instant::now());
        self.freed.notify_one();
    }

    fn ahead(&self, settings: &Settings) -> usize {
        let per_second = self.rate.lock().unwrap_or_else(PoisonError::into_inner).at(Instant::now());
        let in_a_poll = (per_second * settings.poll_interval.as_secs_f64()) as usize;
        in_a_poll.min(BATCHES_AHEAD * settings.batch_size)
    }
}

/// Settled deliveries a second, smoothed over a few windows.
#[derive(Debug)]
struct Rate {
    window_start: Instant,
    count: usize,
    per_second: f64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { window_start: Instant::now(), count: 0, per_second: 0.0 }
    }
}

impl Rate {
    const WINDOW: Duration = Duration::from_millis(10);

    fn add(&mut self, count: usize, now: Instant) {
        self.count += count;
        let elapsed = now - self.window_start;
        if elapsed >= Self::WINDOW {
            let current = self.count as f64 / elapsed.as_secs_f64();
            self.per_second = (self.per_second + current) / 2.0;
            (self.window_start, self.count) = (now, 0);
        }
    }

    /// What is known of a window that goes on for long counts: else handlers that turned slow would be taken
    /// for fast ones until they get something done.
    fn at(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.window_start);
        if elapsed < 10 * Self::WINDOW {
            return self.per_second;
        }
        self.per_second.min(self.count as f64 / elapsed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn settings() -> Settings {
        Settings { concurrency: 10, batch_size: 100, ..Settings::default() }
    }

    #[tokio::test]
    async fn slow_handlers_hold_no_more_than_they_can_run() {
        let load = Load::default();
        assert_eq!(load.room(&settings()).await, 10);
        load.add(9);
        assert_eq!(load.room(&settings()).await, 1);
    }

    #[test]
    fn a_rate_is_forgotten_when_nothing_gets_done_any_more() {
        let start = Instant::now();
        let mut rate = Rate { window_start: start, count: 0, per_second: 0.0 };
        rate.add(1000, start + Duration::from_millis(10));
        assert!(rate.at(start + Duration::from_millis(50)) > 10_000.0);
        assert!(rate.at(start + Duration::from_secs(10)) < 1.0);
    }

    #[tokio::test]
    async fn fast_handlers_get_whole_batches_ahead() {
        let load = Load::default();
        // In a window that is yet to begin, nothing has got old, however slow the machine is.
        let window_start = Instant::now() + Duration::from_secs(60);
        *load.rate.lock().unwrap() = Rate { window_start, count: 0, per_second: 25_000.0 };
        let settings = settings();
        for _ in 0..BATCHES_AHEAD {
            assert_eq!(load.room(&settings).await, settings.batch_size);
            load.add(settings.batch_size);
        }
        // What is left of the room, which is `concurrency`, is not worth a claim of its own.
        assert!(load.room(&settings).now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_full_hand_waits_for_a_settlement() {
        let load = Load::default();
        load.add(10);
        // What gets done in no time is nothing, however fast it was.
        let settings = Settings { poll_interval: Duration::ZERO, ..settings() };
        let room = async { load.room(&settings).await };
        let settle = async {
            tokio::task::yield_now().await;
            load.sub(3);
        };
        assert_eq!(tokio::join!(room, settle).0, 3);
    }
}
