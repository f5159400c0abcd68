//! Changing a room's group: one commit at a time, the relay says which comes first.

use std::time::Duration;

use bytes::Bytes;
use supernode_e2ee::Change;
use supernode_proto::{
    control::{RefusalReason, SendMls, client_message},
    identity::RoomId,
};
use supernode_session::{Backoff, Refusal};

use super::Uniform;

/// How often a commit is made again after another member's came first.
const ATTEMPTS_MAX: u32 = 12;
/// Ceiling of the first wait before that; it doubles.
const BACKOFF_BASE: Duration = Duration::from_millis(20);
/// The highest ceiling.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Longest to wait for the commit that came first.
pub const WINNER_TIMEOUT: Duration = Duration::from_secs(2);

/// The attempts to make one change count.
#[derive(Debug)]
pub struct Attempts {
    left: u32,
    backoff: Backoff,
}

/// What comes after a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRefusal {
    /// The change is to be made again, after this wait.
    Again {
        /// The epoch that another member's commit begins, which is on its way to us: first, for at most [`WINNER_TIMEOUT`],
        /// we are to be in it.
        winner: Option<u64>,
        /// How long to wait then.
        wait: Duration,
    },
    /// Others changed the group again and again.
    GiveUp,
    /// No other attempt would end in another way.
    Final,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { left: ATTEMPTS_MAX, backoff: Backoff::new(BACKOFF_BASE, BACKOFF_MAX) }
    }
}

impl Attempts {
    /// The relay refused a commit of ours.
    pub fn handle_refused(&mut self, refusal: &Refusal, uniform: Uniform<'_>) -> AfterRefusal {
        let winner = match refusal.reason {
            // Whoever else lost waits too, and for another time.
            RefusalReason::EpochConflict => Some(refusal.bound),
            // Many changes at once, or what others were let in by: the relay takes the next one in a moment.
            RefusalReason::Limit => None,
            _ => return AfterRefusal::Final,
        };
        self.left -= 1;
        if self.left == 0 {
            return AfterRefusal::GiveUp;
        }
        AfterRefusal::Again { winner, wait: self.backoff.next_wait(uniform) }
    }
}

/// What brings a commit to the others, and in the same step lets newcomers in by the new epoch's secret only.
pub fn commit_message(room: &RoomId, change: &Change) -> client_message::Body {
    client_message::Body::SendMls(SendMls {
        room: Bytes::copy_from_slice(&room.0),
        epoch: change.epoch,
        commit: true,
        payload: Bytes::copy_from_slice(&change.commit),
        join_key: Bytes::copy_from_slice(change.join_key.as_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;

    fn refusal(reason: RefusalReason) -> Refusal {
        Refusal { reason, detail: String::new(), value: 0, bound: 7 }
    }

    fn longest(range: RangeInclusive<Duration>) -> Duration {
        *range.end()
    }

    //
    #[test]
    fn a_commit_is_made_again_behind_the_one_that_came_first_twelve_times_at_most() {
        let mut attempts = Attempts::default();
        for attempt in 1..ATTEMPTS_MAX {
            let AfterRefusal::Again { winner, wait } =
                attempts.handle_refused(&refusal(RefusalReason::EpochConflict), &longest)
            else {
                panic!("attempt {attempt} is not the last")
            };
            assert_eq!(winner, Some(7));
            assert_eq!(wait, (BACKOFF_BASE * 2u32.pow(attempt - 1)).min(BACKOFF_MAX));
        }
        assert_eq!(attempts.handle_refused(&refusal(RefusalReason::EpochConflict), &longest), AfterRefusal::GiveUp);
    }

    #[test]
    fn a_relay_that_has_enough_is_given_a_moment_and_one_that_refuses_for_good_nothing() {
        let mut attempts = Attempts::default();
        let again = attempts.handle_refused(&refusal(RefusalReason::Limit), &longest);
        assert_eq!(again, AfterRefusal::Again { winner: None, wait: BACKOFF_BASE });
        assert_eq!(attempts.handle_refused(&refusal(RefusalReason::UnknownRoom), &longest), AfterRefusal::Final);
    }
}
