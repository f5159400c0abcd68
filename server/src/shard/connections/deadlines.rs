//! When each connection wants to be looked at again.
//!
//! QUIC's timers move with almost every packet, mostly to later. A connection has at most one entry that counts, at the
//! earliest time it was wanted; when that comes near and is too early, it is put back to the true time, and neither the
//! connection is looked at nor a sleeping shard woken. So a packet costs no entry as long as its connection's deadline
//! only moves away, and a wake-up, which costs more than a packet, is one that something was waiting for.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

/// An entry this close is put back if it is too early. Earlier it would only be put back again; later, a shard without
/// a packet for so long might be woken for nothing, which then costs little.
const NEAR: Duration = Duration::from_millis(5);

/// The deadlines of a shard's connections.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(Instant, u32)>>,
    armed: Vec<Armed>,
}

/// One connection's deadline.
#[derive(Debug, Default, Clone, Copy)]
struct Armed {
    /// The entry of the heap that counts: never later than what is wanted.
    entry: Option<Instant>,
    wanted: Option<Instant>,
}

impl Deadlines {
    /// `link` is to come up at `at`, if at all, and at no time that was wanted before.
    pub(super) fn arm(&mut self, link: u32, at: Option<Instant>) {
        if self.armed.len() <= link as usize {
            self.armed.resize(link as usize + 1, Armed::default());
        }
        let armed = &mut self.armed[link as usize];
        armed.wanted = at;
        if let Some(at) = at
            && armed.entry.is_none_or(|earlier| at < earlier)
        {
            armed.entry = Some(at);
            self.heap.push(Reverse((at, link)));
        }
    }

    /// `link` is to come up at `at`, or earlier if that was wanted.
    pub(super) fn hasten(&mut self, link: u32, at: Instant) {
        let wanted = self.armed.get(link as usize).and_then(|armed| armed.wanted);
        self.arm(link, Some(wanted.map_or(at, |earlier| earlier.min(at))));
    }

    /// The first time that is wanted, or, if that is not near, a time before it.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let Reverse((at, link)) = *self.heap.peek()?;
            if at > now + NEAR {
                return Some(at);
            }
            let armed = &mut self.armed[link as usize];
            if armed.entry == Some(at) {
                if armed.wanted == Some(at) {
                    return Some(at);
                }
                armed.entry = None;
                let later = armed.wanted;
                self.heap.pop();
                self.arm(link, later);
            } else {
                self.heap.pop();
            }
        }
    }

    /// A link whose time has come. It comes up again when it is armed again.
    pub(super) fn pop(&mut self, now: Instant) -> Option<u32> {
        self.next(now).filter(|at| *at <= now)?;
        let Reverse((_, link)) = self.heap.pop()?;
        self.armed[link as usize] = Armed::default();
        Some(link)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn moving_a_deadline_away_costs_no_entry_and_wakes_nobody() {
        let (mut deadlines, start) = (Deadlines::default(), Instant::now());
        for ms in 10..1000 {
            deadlines.arm(1, Some(start + ms * MS));
        }
        assert_eq!(deadlines.heap.len(), 1);
        assert_eq!(deadlines.next(start), Some(start + 10 * MS), "far away, whoever it is for");
        assert_eq!(deadlines.next(start + 6 * MS), Some(start + 999 * MS), "near, and put back");
        assert_eq!(deadlines.pop(start + 998 * MS), None);
        assert_eq!(deadlines.pop(start + 999 * MS), Some(1));
        assert_eq!((deadlines.next(start), deadlines.heap.len()), (None, 0));
    }

    #[test]
    fn who_is_wanted_earlier_comes_up_once_and_earlier() {
        let (mut deadlines, start) = (Deadlines::default(), Instant::now());
        deadlines.arm(1, Some(start + 10 * MS));
        deadlines.arm(2, Some(start + 7 * MS));
        deadlines.arm(1, Some(start + 5 * MS));
        let order = [5, 7, 10].map(|ms| deadlines.pop(start + ms * MS));
        assert_eq!(order, [Some(1), Some(2), None]);
    }

    #[test]
    fn the_earlier_of_two_wishes_holds_until_the_next_deadline_is_set() {
        let (mut deadlines, start) = (Deadlines::default(), Instant::now());
        deadlines.hasten(1, start + 9 * MS);
        deadlines.hasten(1, start + 2 * MS);
        deadlines.hasten(1, start + 5 * MS);
        assert_eq!(deadlines.next(start), Some(start + 2 * MS));
        deadlines.arm(1, Some(start + 7 * MS));
        assert_eq!(deadlines.next(start), Some(start + 7 * MS));
        deadlines.arm(1, None);
        assert_eq!(deadlines.next(start + 7 * MS), None, "whoever is gone leaves no entry");
        assert_eq!(deadlines.heap.len(), 0);
    }
}
