//! Sleeping to within some 0.1 ms. Timers of tokio go by whole milliseconds and round up, so that a poll woke about 1 ms
//! after its deadline; Linux has a timer that can be waited for like a socket.

use std::time::Duration;

/// Wakes its owner after a while.
pub(super) struct Alarm {
    #[cfg(target_os = "linux")]
    timer: Option<linux::Timer>,
}

impl Alarm {
    /// To be made in a runtime. Where there is no such timer (all descriptors are in use, or the system is not Linux), that of
    /// tokio serves.
    pub(super) fn new() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            timer: linux::Timer::new().ok(),
        }
    }

    /// Returns when so much time has passed. Dropping it is safe.
    pub(super) async fn sleep(&self, duration: Duration) {
        #[cfg(target_os = "linux")]
        if let Some(timer) = &self.timer
            && timer.sleep(duration).await.is_ok()
        {
            return;
        }
        tokio::time::sleep(duration).await;
    }
}

/// See timerfd_create(2).
#[cfg(target_os = "linux")]
mod linux {
    use std::{io, os::fd::OwnedFd, time::Duration};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::{Interest, unix::AsyncFd};

    pub(super) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            #[expect(
                deprecated,
                reason = "it is unsound for types that do not own their descriptor, which OwnedFd does"
            )]
            let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
            Ok(Self(timer))
        }

        pub(super) async fn sleep(&self, duration: Duration) -> io::Result<()> {
            // No time at all would disarm it.
            let once = Timespec::try_from(duration.max(Duration::from_nanos(1)));
            let it_value = once.map_err(io::Error::other)?;
            let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
            loop {
                let mut ready = self.0.readable().await?;
                // What is ready may be the end of a sleep that was dropped: then there is nothing to be read.
                let read = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?));
                if let Ok(expired) = read {
                    return expired.map(drop);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn it_never_wakes_early_not_even_after_a_sleep_that_was_dropped() {
        let alarm = Alarm::new();
        for us in [0, 1, 300, 2500] {
            let (begun, duration) = (Instant::now(), Duration::from_micros(us));
            alarm.sleep(duration).await;
            assert!(begun.elapsed() >= duration, "{us} µs");
            let dropped = tokio::time::timeout(Duration::ZERO, alarm.sleep(Duration::from_micros(50))).await;
            drop(dropped);
        }
    }
}
