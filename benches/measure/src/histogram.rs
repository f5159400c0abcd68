//! Counts of durations in buckets that grow with the duration: at most 1.6 % off, whatever their size.

/// Buckets for each power of two.
const STEPS: u64 = 64;
/// Durations from here on share the last bucket: 2^36 µs, 19 hours.
const POWERS: u64 = 36;
const BUCKETS: usize = (STEPS * (POWERS - STEPS.ilog2() as u64 + 1)) as usize;

/// Durations in µs.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max_us: 0 }
    }
}

impl Histogram {
    /// Takes note of a duration.
    pub fn record_us(&mut self, us: u64) {
        self.buckets[bucket(us)] += 1;
        self.count += 1;
        self.max_us = self.max_us.max(us);
    }

    /// Takes what another one has recorded.
    pub fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(own, other)| *own += other);
        self.count += other.count;
        self.max_us = self.max_us.max(other.max_us);
    }

    /// The buckets in use, by their numbers, and the longest duration in µs: for [`Self::from_parts`].
    pub fn parts(&self) -> (Vec<(usize, u64)>, u64) {
        let used = self.buckets.iter().copied().enumerate().filter(|(_, count)| *count > 0);
        (used.collect(), self.max_us)
    }

    /// What [`Self::parts`] gave; `None` where a bucket's number is none.
    pub fn from_parts(buckets: &[(usize, u64)], max_us: u64) -> Option<Self> {
        let mut histogram = Self { max_us, ..Self::default() };
        for (number, count) in buckets {
            *histogram.buckets.get_mut(*number)? += count;
            histogram.count = histogram.count.checked_add(*count)?;
        }
        Some(histogram)
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest, exactly, in ms.
    pub fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1e3
    }

    /// The duration in ms that the given share, 0 to 1, did not exceed; 0 if there are none.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_us(index).min(self.max_us) as f64 / 1e3;
            }
        }
        self.max_ms()
    }

    /// Points of the curve from the fastest to the slowest: (share, ms), for every bucket in use.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let mut seen = 0;
        let used = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        used.map(|(index, count)| {
            seen += count;
            (seen as f64 / self.count as f64, upper_us(index).min(self.max_us) as f64 / 1e3)
        })
        .collect()
    }
}

/// Up to 2 x STEPS a bucket is one µs wide; beyond it each power of two has STEPS buckets.
fn bucket(us: u64) -> usize {
    if us < 2 * STEPS {
        return us as usize;
    }
    let shift = u64::from(us.ilog2()) - u64::from(STEPS.ilog2());
    ((shift * STEPS + (us >> shift)) as usize).min(BUCKETS - 1)
}

/// The largest duration of a bucket.
fn upper_us(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    ((index - shift * STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_in_a_bucket_that_is_at_most_a_64th_too_wide() {
        for us in (0..100_000).chain((1..60).map(|step| step * 1_000_003)) {
            let upper = upper_us(bucket(us));
            assert!(upper >= us && upper - us <= us / STEPS, "{us}: {upper}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_ms(0.99), 0.0);
        (1..=100).for_each(|us| histogram.record_us(us));
        let mut other = Histogram::default();
        other.record_us(5_000);
        histogram.add(&other);
        assert_eq!(histogram.count(), 101);
        assert_eq!(histogram.quantile_ms(0.5), 0.051);
        assert_eq!(histogram.quantile_ms(0.99), 0.1);
        assert_eq!(histogram.quantile_ms(1.0), 5.0);
        assert_eq!(histogram.max_ms(), 5.0);
        assert_eq!(histogram.curve().last(), Some(&(1.0, 5.0)));
    }

    #[test]
    fn a_histogram_is_made_again_of_its_parts() {
        let mut histogram = Histogram::default();
        (1..=100).for_each(|us| histogram.record_us(us * us));
        let (buckets, max_us) = histogram.parts();
        let again = Histogram::from_parts(&buckets, max_us).expect("its own");
        assert_eq!((again.curve(), again.count()), (histogram.curve(), 100));
        assert!(Histogram::from_parts(&[(BUCKETS, 1)], 1).is_none(), "there is no such bucket");
        assert!(Histogram::from_parts(&[(1, u64::MAX), (2, 1)], 1).is_none());
    }
}
