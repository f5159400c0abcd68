//! When each connection wants to be looked at again.
//!
//! QUIC's timers move with almost every packet, mostly to later. A connection has at most one entry that counts, at the
//! earliest time it was wanted; when that comes too early, it is put back to the true time. So a packet costs no entry
//! as long as its connection's deadline only moves away.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

/// The heap of a shard.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, u32)>>,
}

/// The entry that counts, kept with the connection.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Armed(Option<Instant>);

impl Deadlines {
    /// Makes sure that `link` comes up at `at` or before.
    pub(super) fn arm(&mut self, link: u32, armed: &mut Armed, at: Instant) {
        if armed.0.is_none_or(|earlier| at < earlier) {
            armed.0 = Some(at);
            self.heap.push(Reverse((at, link)));
        }
    }

    /// The earliest entry.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// A link whose time has come, with that time: whoever gets it disarms the connection if it is the entry that
    /// counts, and arms it again for when it really wants to be looked at.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(u32, Instant)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((at, link))| (link, at))
    }
}

impl Armed {
    /// Whether the popped entry is the one that counts; if so, there is none any more.
    pub(super) fn disarm(&mut self, at: Instant) -> bool {
        let counts = self.0 == Some(at);
        if counts {
            self.0 = None;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn moving_a_deadline_away_costs_no_entry() {
        let (mut deadlines, mut armed, start) = (Deadlines::default(), Armed::default(), Instant::now());
        for ms in 10..1000 {
            deadlines.arm(1, &mut armed, start + Duration::from_millis(ms));
        }
        assert_eq!(deadlines.heap.len(), 1);
        deadlines.arm(1, &mut armed, start);
        assert_eq!(deadlines.next(), Some(start));
        assert_eq!(deadlines.pop(start), Some((1, start)));
        assert!(armed.disarm(start));
        let (link, stale) = deadlines.pop(start + Duration::from_secs(1)).expect("the first entry is still there");
        assert_eq!(link, 1);
        assert!(!armed.disarm(stale), "and does not count any more");
        assert_eq!(deadlines.next(), None);
    }
}
