//! Many seeds, one after the other.

use std::time::{Duration, Instant};

use crate::{Outcome, Plan, World};

/// Seeds that have found something once, and always run. In the first two, streams that QUIC had been handed to their ends went
/// on to people who had been put out of their room; in the third, junk for a commit left a room to which nobody could be
/// let in.
pub const FOUND: &[u64] = &[23, 36, 1239];

/// What came of many.
#[derive(Debug, Default)]
pub struct Runs {
    /// How many.
    pub seeds: u64,
    /// Those in which something did not hold.
    pub failures: Vec<Outcome>,
    /// How long clients were in calls, all together.
    pub in_calls: Duration,
    /// Packets that were sent.
    pub packets: u64,
    /// Objects that arrived.
    pub objects: u64,
    /// How long it took.
    pub took: Duration,
}

impl Runs {
    /// Runs so many seeds from this plan's on; behind them, unless it is only one, those that have found something once.
    /// `told` is told of each.
    pub fn of(first: &Plan, seeds: u64, mut told: impl FnMut(&Outcome)) -> Self {
        let (begun, mut runs) = (Instant::now(), Self::default());
        let found = FOUND.iter().copied().filter(|_| seeds > 1);
        for seed in (first.seed..first.seed.saturating_add(seeds)).chain(found) {
            let outcome = World::run(&Plan { seed, ..first.clone() }, false);
            told(&outcome);
            runs.seeds += 1;
            runs.in_calls += outcome.in_calls;
            runs.packets += outcome.packets;
            runs.objects += outcome.objects;
            if outcome.violation.is_some() {
                runs.failures.push(outcome);
            }
        }
        runs.took = begun.elapsed();
        runs
    }

    /// Hours that clients were in calls, all together.
    pub fn call_hours(&self) -> f64 {
        self.in_calls.as_secs_f64() / 3600.0
    }
}
