//! How long to wait before connecting again: exponential growth with full jitter, bounded.

use std::{ops::RangeInclusive, time::Duration};

/// Waits between attempts. Each wait is uniform between zero and a ceiling that doubles, so that the clients of one
/// relay do not come back in step.
#[derive(Debug)]
pub struct Backoff {
    base: Duration,
    ceiling_max: Duration,
    attempts: u32,
}

impl Backoff {
    /// The first ceiling, and the highest.
    pub fn new(base: Duration, ceiling_max: Duration) -> Self {
        Self { base, ceiling_max, attempts: 0 }
    }

    /// The next wait, picked by `uniform` from the range it is given.
    pub fn next_wait(&mut self, uniform: impl FnOnce(RangeInclusive<Duration>) -> Duration) -> Duration {
        let ceiling = self.base.saturating_mul(2u32.saturating_pow(self.attempts)).min(self.ceiling_max);
        self.attempts = self.attempts.saturating_add(1);
        uniform(Duration::ZERO..=ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn the_ceiling_doubles_up_to_its_bound_and_never_overflows() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let ceilings: Vec<u128> = (0..6).map(|_| backoff.next_wait(|range| *range.end()).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1000, 1000]);
        backoff.attempts = u32::MAX;
        assert_eq!(backoff.next_wait(|range| *range.end()), Duration::from_secs(1));
    }
}
