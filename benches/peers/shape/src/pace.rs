//! Waiting with microseconds' precision in a tokio runtime, whose own timers count milliseconds.

use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

/// A timer of the kernel.
pub struct Pace {
    timer: AsyncFd<OwnedFd>,
}

impl Pace {
    /// Opens it; within a runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // The default would let the kernel be 50 µs late.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        // SAFETY: the timer owns its descriptor, which nothing replaces or closes while it is registered.
        #[allow(unsafe_code, reason = "tokio's safe constructors are deprecated")]
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?;
        Ok(Self { timer })
    }

    /// Waits until then; lets others run at least once, even if the time has passed.
    ///
    /// # Errors
    /// What the system says.
    pub async fn until(&self, at: Instant) -> io::Result<()> {
        let left = at.saturating_duration_since(Instant::now());
        if left < Duration::from_micros(1) {
            tokio::task::yield_now().await;
            return Ok(());
        }
        let value = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0; 8];
            match ready.try_io(|timer| Ok(rustix::io::read(timer, &mut expirations)?)) {
                Ok(read) => return read.map(|_| ()),
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_less_than_a_millisecond_when_told_so() -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let pace = Pace::new()?;
            let mut best = Duration::MAX;
            for _ in 0..20 {
                let begun = Instant::now();
                pace.until(begun + Duration::from_micros(200)).await?;
                assert!(begun.elapsed() >= Duration::from_micros(200));
                best = best.min(begun.elapsed());
            }
            assert!(best < Duration::from_millis(1), "{best:?}");
            pace.until(Instant::now()).await
        })
    }
}
