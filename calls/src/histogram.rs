//! Delays in fixed buckets: no allocation while recording, and every quantile within a sixteenth of the truth.

/// Each power of two is cut into this many buckets.
const STEPS: usize = 16;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Values are cut off at 2^32 - 1 microseconds, more than an hour.
const BUCKETS: usize = STEPS * (32 - STEP_BITS as usize + 1);

/// Counts of values in microseconds.
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), total: 0 }
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram").field("total", &self.total).finish_non_exhaustive()
    }
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value_us: u64) {
        self.counts[bucket_of(value_us)] += 1;
        self.total += 1;
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count += more;
        }
        self.total += other.total;
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The value that `quantile` (0 to 1) of all values do not exceed, at most 1/16 above the truth; `None` when
    /// nothing was counted.
    pub fn quantile_us(&self, quantile: f64) -> Option<u64> {
        let rank = ((self.total as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        self.counts.iter().enumerate().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank && *count > 0).then(|| bucket_top(bucket))
        })
    }
}

fn bucket_of(value_us: u64) -> usize {
    let value = value_us.min(u64::from(u32::MAX)) as usize;
    if value < STEPS {
        return value;
    }
    let shift = value.ilog2() - STEP_BITS;
    STEPS * (shift as usize + 1) + (value >> shift) - STEPS
}

/// The largest value of a bucket.
fn bucket_top(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let shift = bucket / STEPS - 1;
    let top = (STEPS + bucket % STEPS + 1) << shift;
    top as u64 - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_whose_top_is_at_most_a_sixteenth_above() {
        for value in (0..5_000).chain([65_535, 65_536, 1_000_000, u64::from(u32::MAX)]) {
            let top = bucket_top(bucket_of(value));
            assert!(top >= value && top - value <= value / 16, "{value} is in a bucket up to {top}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_count_ranks() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_us(0.5), None);
        (1..=10).for_each(|value| histogram.record(value));
        assert_eq!(histogram.quantile_us(0.5), Some(5));
        assert_eq!(histogram.quantile_us(0.99), Some(10));
        assert_eq!(histogram.quantile_us(0.0), Some(1));
        let mut both = histogram.clone();
        both.merge(&histogram);
        assert_eq!((both.count(), both.quantile_us(0.5)), (20, Some(5)));
    }
}
