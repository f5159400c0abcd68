//! Random waits.

use std::{ops::RangeInclusive, time::Duration};

/// A random wait within `range`.
pub(crate) fn random_wait(range: RangeInclusive<Duration>) -> Duration {
    if range.is_empty() { *range.start() } else { rand::random_range(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn waits_lie_within_their_range() {
        let range = Duration::from_millis(5)..=Duration::from_millis(9);
        assert!((0..100).all(|_| range.contains(&random_wait(range.clone()))));
        let backwards = Duration::from_millis(9)..=Duration::from_millis(5);
        assert_eq!(random_wait(backwards), Duration::from_millis(9));
    }
}
