//! When each source is due: fixed before the first object goes, whatever happens to those before it.
//!
//! The schedule is open loop. A source is due at `origin + phase + n x period` for n = 0, 1, 2, and so on; one that
//! is taken late keeps the time at which it was due, and none is left out. Delays that count from there have no
//! coordinated omission.

/// Sources of one period, each with its own phase.
#[derive(Debug)]
pub struct Schedule {
    period_ns: u64,
    origin_ns: u64,
    /// Phase and source, in the order of the phases.
    entries: Vec<(u64, u32)>,
    next: usize,
    round: u64,
}

/// A source whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// When it was due, in ns on the scale of the origin.
    pub at_ns: u64,
    /// Which one.
    pub source: u32,
    /// How often it was due before.
    pub sequence: u64,
}

impl Schedule {
    /// Sources given as (phase, source) that are due `per_second` times a second each, from `origin_ns` on. A phase is
    /// a share of the period, 0 to 1.
    pub fn new(per_second: f64, origin_ns: u64, sources: impl IntoIterator<Item = (f64, u32)>) -> Self {
        let period_ns = (1e9 / per_second.max(1e-6)) as u64;
        let phase = |share: f64| (share.clamp(0.0, 1.0) * period_ns as f64) as u64 % period_ns.max(1);
        let mut entries: Vec<(u64, u32)> = sources.into_iter().map(|(share, source)| (phase(share), source)).collect();
        entries.sort_unstable();
        Self { period_ns, origin_ns, entries, next: 0, round: 0 }
    }

    /// When the next source is due.
    pub fn peek_ns(&self) -> Option<u64> {
        let (phase, _) = self.entries.get(self.next)?;
        Some(self.origin_ns + self.round * self.period_ns + phase)
    }

    /// The next source, if its time has come.
    pub fn pop(&mut self, now_ns: u64) -> Option<Due> {
        let at_ns = self.peek_ns().filter(|at| *at <= now_ns)?;
        let due = Due { at_ns, source: self.entries[self.next].1, sequence: self.round };
        self.next += 1;
        if self.next == self.entries.len() {
            self.next = 0;
            self.round += 1;
        }
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_due_at_its_own_phase_in_every_period() {
        let mut schedule = Schedule::new(50.0, 1_000, [(0.5, 7), (0.0, 3), (0.25, 5)]);
        let due: Vec<_> = std::iter::from_fn(|| schedule.pop(40_000_999)).collect();
        let expected = [(0, 3, 0), (5, 5, 0), (10, 7, 0), (20, 3, 1), (25, 5, 1), (30, 7, 1)];
        let expected = expected.map(|(ms, source, sequence)| Due { at_ns: 1_000 + ms * 1_000_000, source, sequence });
        assert_eq!(due, expected);
        assert_eq!(schedule.peek_ns(), Some(40_001_000));
    }

    #[test]
    fn a_stall_neither_moves_nor_swallows_what_was_due_meanwhile() {
        let mut steady = Schedule::new(1000.0, 0, [(0.1, 1), (0.9, 2)]);
        let mut stalled = Schedule::new(1000.0, 0, [(0.1, 1), (0.9, 2)]);
        let mut expected = Vec::new();
        for us in 0..500_000 {
            expected.extend(steady.pop(us * 1_000));
        }
        // Looked at once after half a second: the first of them is 499.9 ms late, and its stamp says so.
        let late: Vec<_> = std::iter::from_fn(|| stalled.pop(499_999_000)).collect();
        assert_eq!(late, expected);
        assert_eq!(late.len(), 1000);
        assert_eq!(late[0].at_ns, 100_000);
    }

    #[test]
    fn nobody_is_never_due() {
        let mut schedule = Schedule::new(50.0, 0, []);
        assert_eq!((schedule.peek_ns(), schedule.pop(u64::MAX)), (None, None));
    }
}
