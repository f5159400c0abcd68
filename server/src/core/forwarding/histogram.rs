//! A histogram of whole numbers in fixed log-linear buckets: four to each doubling, so a value is known to a quarter.

/// Buckets to each doubling of the value.
const PER_DOUBLING: usize = 4;
/// Doublings that are told apart: up to 2^26, which is 67 s in microseconds.
const DOUBLINGS: usize = 26;
/// Buckets: the first eight hold one value each, the last one everything from 2^26 on.
pub const BUCKETS: usize = (DOUBLINGS - 1) * PER_DOUBLING + 1;

/// Counts by value. Adding a value is two additions; nothing is allocated.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], sum: 0 }
    }
}

impl Histogram {
    /// Counts a value `times` over.
    pub fn observe(&mut self, value: u64, times: u64) {
        self.counts[bucket_of(value)] += times;
        self.sum += value.saturating_mul(times);
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, others)| *own += others);
        self.sum += other.sum;
    }

    /// What was counted since `earlier`, an earlier copy of this one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let grown = |bucket: usize| self.counts[bucket].saturating_sub(earlier.counts[bucket]);
        Self { counts: std::array::from_fn(grown), sum: self.sum.saturating_sub(earlier.sum) }
    }

    /// Values counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of the values counted.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Each bucket's largest value and how many values were at most that large, smallest first. The last bucket has no
    /// largest value and is left out.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut below = 0;
        (0..BUCKETS - 1).map(move |bucket| {
            below += self.counts[bucket];
            (least(bucket + 1), below)
        })
    }

    /// The largest value of the bucket in which the `quantile`-th value lies (0 to 1); zero if there is none.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let rank = ((self.count() as f64 * quantile).ceil() as u64).max(1);
        match self.count() {
            0 => 0,
            _ => self.cumulative().find(|(_, count)| *count >= rank).map_or(1 << DOUBLINGS, |(value, _)| value),
        }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram").field("count", &self.count()).field("sum", &self.sum).finish()
    }
}

/// A bucket holds what is above the largest value of the one before, up to and with its own.
fn bucket_of(value: u64) -> usize {
    let value = value.saturating_sub(1);
    if value < PER_DOUBLING as u64 {
        return value as usize;
    }
    let doubling = value.ilog2() as usize;
    let quarter = (value >> (doubling - 2)) as usize % PER_DOUBLING;
    ((doubling - 1) * PER_DOUBLING + quarter).min(BUCKETS - 1)
}

/// What lies below a bucket: the largest value of the one before.
fn least(bucket: usize) -> u64 {
    match bucket / PER_DOUBLING {
        0 => bucket as u64,
        doubling => ((PER_DOUBLING + bucket % PER_DOUBLING) as u64) << (doubling - 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_value_is_in_the_bucket_whose_bounds_hold_it(value in 0u64..=(1 << DOUBLINGS)) {
            let mut histogram = Histogram::default();
            histogram.observe(value, 3);
            let upper = histogram.cumulative().find(|(_, count)| *count == 3).expect("in range").0;
            let lower = histogram.cumulative().filter(|(_, count)| *count == 0).last().map_or(0, |(value, _)| value);
            prop_assert!(value <= upper && (value > lower || value == 0));
            prop_assert!(upper - lower <= (value / PER_DOUBLING as u64).max(1));
            prop_assert_eq!((histogram.count(), histogram.sum(), histogram.quantile(0.5)), (3, 3 * value, upper));
        }
    }

    #[test]
    fn what_is_too_large_is_counted_above_every_bound() {
        let mut histogram = Histogram::default();
        histogram.observe(u64::MAX, 1);
        assert_eq!((histogram.count(), histogram.cumulative().last()), (1, Some((1 << DOUBLINGS, 0))));
    }

    #[test]
    fn quantiles_are_upper_bounds_of_what_was_counted() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.99), 0);
        histogram.observe(10, 99);
        let mut slow = Histogram::default();
        slow.observe(1000, 1);
        histogram.merge(&slow);
        assert_eq!([0.5, 0.99, 1.0].map(|quantile| histogram.quantile(quantile)), [10, 10, 1024]);
        let before = histogram.clone();
        histogram.observe(2000, 1);
        assert_eq!((histogram.since(&before).count(), histogram.since(&before).quantile(0.5)), (1, 2048));
    }
}
