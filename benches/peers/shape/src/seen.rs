//! Which objects of one flow have come: each counts once.

/// How far behind the newest an object may be to be told from a duplicate.
const BEHIND_MAX: u64 = 64;

/// What has come of one flow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// One more than the newest sequence number.
    next: u64,
    /// Bit n: the object n before the newest has come.
    recent: u64,
}

impl Seen {
    /// Whether an object is there for the first time. One too far behind to know counts as a duplicate.
    pub(crate) fn is_new(&mut self, sequence: u64) -> bool {
        if sequence >= self.next {
            let ahead = sequence + 1 - self.next;
            self.recent = if ahead < BEHIND_MAX { self.recent << ahead | 1 } else { 1 };
            self.next = sequence + 1;
            return true;
        }
        let behind = self.next - 1 - sequence;
        if behind >= BEHIND_MAX {
            return false;
        }
        let bit = 1 << behind;
        let new = self.recent & bit == 0;
        self.recent |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_counts_once_in_whatever_order_it_comes() {
        let mut seen = Seen::default();
        let order = [0, 1, 5, 3, 3, 2, 5, 4, 0, 100, 99, 36, 37, 37, 100];
        let new: Vec<bool> = order.iter().map(|sequence| seen.is_new(*sequence)).collect();
        let expected = [true, true, true, true, false, true, false, true, false, true, true, false, true, false, false];
        assert_eq!(new, expected);
    }
}
