//! The batching window: how long to let packets gather before serving them.
//!
//! A wake-up costs more than a packet. When packets come so fast that a short wait gathers several, waiting saves most
//! of the wake-ups, and lets objects of several senders share a packet to one receiver. When they do not, it would only
//! add delay: then the window is shut.

use std::time::{Duration, Instant};

/// Packets that a window gathers at most: beyond it the wake-up's cost no longer shows.
const GATHER_MAX: f64 = 32.0;
/// Packets that a full window must be expected to gather for it to open at all.
const GATHER_MIN: f64 = 2.0;
/// Time over which the rate of packets is averaged.
const AVERAGE_S: f64 = 0.02;

/// The window of one shard.
#[derive(Debug)]
pub(crate) struct Window {
    max: Duration,
    /// Packets a second.
    rate: f64,
    updated: Option<Instant>,
}

impl Window {
    /// A window of at most `max`; zero keeps it shut.
    pub(crate) fn new(max: Duration) -> Self {
        Self { max, rate: 0.0, updated: None }
    }

    /// Lets packets gather for at most so long from now on.
    pub(crate) fn set_max(&mut self, max: Duration) {
        self.max = max;
    }

    /// Takes note of what the last turn received.
    pub(crate) fn received(&mut self, packets: usize, now: Instant) {
        let Some(updated) = self.updated.replace(now) else { return };
        let elapsed = now.saturating_duration_since(updated).as_secs_f64().max(1e-6);
        let weight = 1.0 - (-elapsed / AVERAGE_S).exp();
        self.rate += weight * (packets as f64 / elapsed - self.rate);
    }

    /// How long to wait now that something can be read.
    pub(crate) fn wait(&self) -> Duration {
        let gathered = self.rate * self.max.as_secs_f64();
        if gathered < GATHER_MIN {
            return Duration::ZERO;
        }
        self.max.mul_f64((GATHER_MAX / gathered).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_a_second_of(packets_per_ms: usize) -> Window {
        let start = Instant::now();
        let mut window = Window::new(Duration::from_micros(500));
        for ms in 0..1000 {
            window.received(packets_per_ms, start + Duration::from_millis(ms));
        }
        window
    }

    #[test]
    fn the_window_is_shut_while_packets_are_rare() {
        assert_eq!(Window::new(Duration::from_micros(500)).wait(), Duration::ZERO);
        assert_eq!(after_a_second_of(1).wait(), Duration::ZERO);
    }

    #[test]
    fn it_opens_when_packets_gather_and_closes_in_when_they_flood() {
        assert_eq!(after_a_second_of(10).wait(), Duration::from_micros(500));
        let flooded = after_a_second_of(320).wait();
        assert!(flooded > Duration::from_micros(80) && flooded < Duration::from_micros(120), "{flooded:?}");
    }

    #[test]
    fn zero_keeps_it_shut() {
        let mut window = Window::new(Duration::ZERO);
        let start = Instant::now();
        for ms in 0..100 {
            window.received(1000, start + Duration::from_millis(ms));
        }
        assert_eq!(window.wait(), Duration::ZERO);
    }
}
