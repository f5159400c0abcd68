//! A token bucket.

use std::time::Instant;

/// Grants `per_minute` units a minute, and saves up to `burst` of them.
#[derive(Debug, Clone)]
pub struct Bucket {
    per_minute: u64,
    /// What is saved, in units of which a microsecond brings `per_minute`: slow rates do not round to nothing.
    saved: u64,
    saved_max: u64,
    filled: Instant,
}

/// Saved units that one granted unit costs: microseconds of a minute.
const UNIT: u64 = 60_000_000;

impl Bucket {
    /// A full bucket. Both numbers are at most 2^32.
    pub fn new(per_second: u64, burst: u64, now: Instant) -> Self {
        Self { per_minute: per_second * 60, saved: burst * UNIT, saved_max: burst * UNIT, filled: now }
    }

    /// A full bucket that saves one minute's worth.
    pub fn per_minute(units: u64, now: Instant) -> Self {
        Self { per_minute: units, saved: units * UNIT, saved_max: units * UNIT, filled: now }
    }

    /// Takes `units`, at most 2^32, if there are that many.
    pub fn take(&mut self, units: u64, now: Instant) -> bool {
        let wanted = units * UNIT;
        if self.saved < wanted {
            // Only a bucket that looks empty needs the time: the hot path is a compare and a subtraction.
            let elapsed_us = now.saturating_duration_since(self.filled).as_micros().min(1 << 26) as u64;
            self.saved = self.saved.saturating_add(elapsed_us * self.per_minute).min(self.saved_max);
            self.filled = self.filled.max(now);
        }
        match self.saved.checked_sub(wanted) {
            Some(rest) => {
                self.saved = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_grants_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 5, start);
        let granted = (0..8).filter(|_| bucket.take(1, start)).count();
        assert_eq!(granted, 5);
        let later = start + Duration::from_millis(250);
        assert_eq!((0..8).filter(|_| bucket.take(1, later)).count(), 2);
        let much_later = later + Duration::from_secs(3600);
        assert_eq!((0..8).filter(|_| bucket.take(1, much_later)).count(), 5, "no more than the burst is saved");
    }

    #[test]
    fn a_slow_rate_does_not_round_to_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1, 1, start);
        assert!(bucket.take(1, start));
        let granted = (1..=100u64).filter(|tick| bucket.take(1, start + Duration::from_millis(tick * 100))).count();
        assert_eq!(granted, 10);
    }
}
