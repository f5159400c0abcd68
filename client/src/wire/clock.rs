//! What time it is: this device's clock, and how far the relay's is from it.

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use supernode_proto::{close::CloseCode, identity::Delegation, limits};

use crate::Error;

/// Nobody signed anything before this program was written: 2026, in seconds since 1970. A clock before it is wrong.
const UNIX_S_MIN: u64 = 1_767_225_600;
/// Clocks that are no further apart agree: what is signed holds for days, and packets take their time.
const SKEW_S_MIN: u64 = 60;
/// How often a clock that is to be set is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How far the clock of the relay that we saw last is ahead of this machine's, which has but one.
static RELAY_AHEAD_S: AtomicI64 = AtomicI64::new(0);

/// The time by which others' certificates are judged, in seconds since 1970: this device's. Only where it stands before
/// 2026, as on a machine that has just been switched on without a clock of its own, it is the relay's.
pub(crate) fn judging_unix_s() -> u64 {
    judged(unix_s(), RELAY_AHEAD_S.load(Relaxed))
}

fn judged(local_s: u64, relay_ahead_s: i64) -> u64 {
    match local_s < UNIX_S_MIN {
        true => local_s.saturating_add_signed(relay_ahead_s).max(local_s),
        false => local_s,
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// How far this device's clock is from the relay's. Which of the two is wrong, neither can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSkew {
    /// By how many seconds this device is ahead of the relay; below zero, it is behind.
    pub ahead_s: i64,
}

impl ClockSkew {
    fn of(local_s: u64, relay_s: u64) -> Self {
        Self { ahead_s: (i128::from(local_s) - i128::from(relay_s)).clamp(i64::MIN.into(), i64::MAX.into()) as i64 }
    }

    /// Whether it is more than what a network and a coarse clock explain.
    pub(crate) fn matters(self) -> bool {
        self.ahead_s.unsigned_abs() >= SKEW_S_MIN
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

/// Takes note of the relay's clock in a Welcome, in milliseconds since 1970.
pub(crate) fn compare(relay_unix_ms: u64) -> ClockSkew {
    let skew = ClockSkew::of(unix_s(), relay_unix_ms / 1000);
    // A relay that stands before 2026 itself is no help.
    if relay_unix_ms / 1000 >= UNIX_S_MIN {
        RELAY_AHEAD_S.store(skew.ahead_s.saturating_neg(), Relaxed);
    }
    skew
}

/// Why the relay did not take our delegation: because of the clocks, if by this one the delegation holds. The relay says
/// its time in the reason phrase.
pub(crate) fn explain(error: Error, end: Option<&quinn::ConnectionError>, delegation: &Delegation) -> Error {
    explain_at(unix_s(), error, end, delegation.not_after_unix_s)
}

fn explain_at(local_s: u64, error: Error, end: Option<&quinn::ConnectionError>, not_after_s: u64) -> Error {
    let (Error::Closed(CloseCode::DELEGATION_EXPIRED), Some(quinn::ConnectionError::ApplicationClosed(close))) =
        (&error, end)
    else {
        return error;
    };
    let relay_s = str::from_utf8(&close.reason).ok().and_then(|text| text.parse().ok());
    let holds_here = not_after_s >= local_s && not_after_s - local_s <= limits::DELEGATION_LIFETIME_S_MAX;
    match relay_s.map(|relay_s| ClockSkew::of(local_s, relay_s)) {
        Some(skew) if skew.matters() && holds_here => Error::ClockDiffers(skew),
        _ => error,
    }
}

/// Waits until somebody has set this machine's clock, or it has woken from sleep.
pub async fn clock_set() {
    let moment = || (Instant::now(), SystemTime::now());
    let mut before = moment();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = moment();
        let passed = now.0 - before.0;
        let shown = now.1.duration_since(before.1).unwrap_or(Duration::ZERO);
        if shown.abs_diff(passed) > Duration::from_secs(SKEW_S_MIN / 2) || now.1 + LOOK_EVERY < before.1 {
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use quinn::{ApplicationClose, ConnectionError, VarInt};

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
        assert_eq!(judged(now, 7_200), now, "a relay makes nothing end");
        assert_eq!(judged(now, -year), now, "nor lets it hold on");
        assert_eq!(judged(100, now as i64), now + 100, "a device that boots in 1970");
        assert_eq!(judged(UNIX_S_MIN - 1, -year), UNIX_S_MIN - 1, "never back");
    }

    //
    #[test]
    fn a_delegation_that_holds_here_was_refused_for_the_clocks_sake_alone() {
        let refused = |code: CloseCode, reason: &str, local_s, not_after_s| {
            let reason = bytes::Bytes::copy_from_slice(reason.as_bytes());
            let error_code = VarInt::from_u64(code.0).expect("small");
            let end = ConnectionError::ApplicationClosed(ApplicationClose { error_code, reason });
            explain_at(local_s, Error::from_connection(end.clone()), Some(&end), not_after_s)
        };
        let expired = CloseCode::DELEGATION_EXPIRED;
        let now = UNIX_S_MIN + 300 * DAY_S;
        let differs = refused(expired, &now.to_string(), 5, 30 * DAY_S);
        assert!(matches!(differs, Error::ClockDiffers(skew) if skew.ahead_s == 5 - now as i64), "{differs:?}");
        for (reason, local_s, not_after_s) in [
            (now.to_string(), now + 10, now + 30 * DAY_S), // the clocks agree
            (now.to_string(), now + 7_200, now + 3_600),   // it has expired here, too
            (String::new(), 5, 30 * DAY_S),                // a relay that does not say
            ("soon".to_owned(), 5, 30 * DAY_S),
        ] {
            assert!(matches!(refused(expired, &reason, local_s, not_after_s), Error::Closed(code) if code == expired));
        }
        let other = refused(CloseCode::NOT_ADMITTED, &now.to_string(), 5, 30 * DAY_S);
        assert!(matches!(other, Error::Closed(CloseCode::NOT_ADMITTED)));
    }
}
