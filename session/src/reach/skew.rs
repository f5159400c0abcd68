//! How far a client's clock is from the relay's.

use std::fmt;

use supernode_proto::limits;

/// Nobody signed anything before this program was written: 2026, in seconds since 1970. A clock before it is wrong.
const UNIX_S_MIN: u64 = 1_767_225_600;
/// Clocks that are no further apart agree: what is signed holds for days, and packets take their time.
const SKEW_S_MIN: u64 = 60;

/// How far this device's clock is from the relay's. Which of the two is wrong, neither can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSkew {
    /// By how many seconds this device is ahead of the relay; below zero, it is behind.
    pub ahead_s: i64,
}

impl ClockSkew {
    /// Of two clocks, in seconds since 1970.
    pub fn of(local_s: u64, relay_s: u64) -> Self {
        Self { ahead_s: (i128::from(local_s) - i128::from(relay_s)).clamp(i64::MIN.into(), i64::MAX.into()) as i64 }
    }

    /// Whether it is more than what a network and a coarse clock explain.
    pub fn matters(self) -> bool {
        self.ahead_s.unsigned_abs() >= SKEW_S_MIN
    }

    /// Whether the clocks are why the relay did not take a delegation (DELEGATION_EXPIRED): by this one it holds. The relay
    /// says its time in the reason phrase.
    pub fn explains(local_s: u64, reason: &[u8], not_after_s: u64) -> Option<Self> {
        let relay_s = str::from_utf8(reason).ok()?.parse().ok()?;
        let holds_here = not_after_s >= local_s && not_after_s - local_s <= limits::DELEGATION_LIFETIME_S_MAX;
        Some(Self::of(local_s, relay_s)).filter(|skew| skew.matters() && holds_here)
    }

    /// The time by which others' certificates are judged, in seconds since 1970: this device's. Only where it stands before
    /// 2026, as on a machine that has just been switched on without a clock of its own, it is the relay's.
    pub fn judging_unix_s(local_s: u64, relay_ahead_s: i64) -> u64 {
        match local_s < UNIX_S_MIN {
            true => local_s.saturating_add_signed(relay_ahead_s).max(local_s),
            false => local_s,
        }
    }

    /// By how much a relay's clock that a Welcome shows is ahead of this one; `None` of a relay that stands before 2026
    /// itself and is no help.
    pub fn relay_ahead_s(self, relay_s: u64) -> Option<i64> {
        (relay_s >= UNIX_S_MIN).then(|| self.ahead_s.saturating_neg())
    }
}

impl fmt::Display for ClockSkew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let apart_s = self.ahead_s.unsigned_abs();
        let (number, unit) = match apart_s {
            0..120 => (apart_s, "s"),
            120..7_200 => (apart_s / 60, "min"),
            7_200..172_800 => (apart_s / 3_600, "h"),
            172_800..63_072_000 => (apart_s / 86_400, "days"),
            _ => (apart_s / 31_556_952, "years"),
        };
        let side = if self.ahead_s < 0 { "behind" } else { "ahead of" };
        write!(f, "this device's clock is {number} {unit} {side} the relay's")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: u64 = 86_400;

    #[test]
    fn clocks_that_differ_are_told_apart_in_words() {
        let words = |ahead_s| ClockSkew { ahead_s }.to_string();
        assert_eq!(words(-7_300), "this device's clock is 2 h behind the relay's");
        assert_eq!(words(95), "this device's clock is 95 s ahead of the relay's");
        assert_eq!(words(366 * 86_400), "this device's clock is 366 days ahead of the relay's");
        assert_eq!(ClockSkew::of(0, 56 * 31_556_952).to_string(), "this device's clock is 56 years behind the relay's");
        assert_eq!(ClockSkew::of(u64::MAX, 0).ahead_s, i64::MAX);
        assert!(!ClockSkew { ahead_s: -59 }.matters() && ClockSkew { ahead_s: -60 }.matters());
    }

    //
    #[test]
    fn the_relay_s_clock_counts_only_where_ours_is_plainly_wrong() {
        let (now, year) = (UNIX_S_MIN + 300 * DAY_S, 365 * DAY_S as i64);
        let judged = ClockSkew::judging_unix_s;
        assert_eq!(judged(now, 7_200), now, "a relay makes nothing end");
        assert_eq!(judged(now, -year), now, "nor lets it hold on");
        assert_eq!(judged(100, now as i64), now + 100, "a device that boots in 1970");
        assert_eq!(judged(UNIX_S_MIN - 1, -year), UNIX_S_MIN - 1, "never back");
        assert_eq!(ClockSkew::of(now, 5).relay_ahead_s(5), None, "a relay that boots in 1970");
    }

    //
    #[test]
    fn a_delegation_that_holds_here_was_refused_for_the_clocks_sake_alone() {
        let explains =
            |reason: &str, local_s, not_after_s| ClockSkew::explains(local_s, reason.as_bytes(), not_after_s);
        let now = UNIX_S_MIN + 300 * DAY_S;
        let differs = explains(&now.to_string(), 5, 30 * DAY_S);
        assert_eq!(differs, Some(ClockSkew { ahead_s: 5 - now as i64 }));
        for (reason, local_s, not_after_s) in [
            (now.to_string(), now + 10, now + 30 * DAY_S), // the clocks agree
            (now.to_string(), now + 7_200, now + 3_600),   // it has expired here, too
            (String::new(), 5, 30 * DAY_S),                // a relay that does not say
            ("soon".to_owned(), 5, 30 * DAY_S),
        ] {
            assert_eq!(explains(&reason, local_s, not_after_s), None);
        }
    }
}
