//! What a room's members tell each other, again and again until the relay takes it: one commit at a time, the relay says
//! which comes first; and messages, as many as it grants.

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
/// How often a message is sent again that is above the relay's limit for now: longer than it takes to save up for the
/// longest one.
const SAID_MAX: u32 = 40;
/// Ceiling of the first wait before that; it doubles.
const SAID_BACKOFF_BASE: Duration = Duration::from_millis(50);

/// The attempts to make one change count, or to say one thing.
#[derive(Debug)]
pub struct Attempts {
    left: u32,
    backoff: Backoff,
    /// It is made again behind a commit that came first.
    is_of_order: bool,
}

/// What comes after a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRefusal {
    /// Another attempt is to be made, after this wait.
    Again {
        /// The epoch that another member's commit begins, which is on its way to us: first, for at most [`WINNER_TIMEOUT`],
        /// we are to be in it.
        winner: Option<u64>,
        /// How long to wait then.
        wait: Duration,
    },
    /// It was tried often enough.
    GiveUp,
    /// No other attempt would end in another way.
    Final,
}

impl Attempts {
    /// At a commit, which is made again each time.
    pub fn at_commit() -> Self {
        Self { left: ATTEMPTS_MAX, backoff: Backoff::new(BACKOFF_BASE, BACKOFF_MAX), is_of_order: true }
    }

    /// At a message.
    pub fn at_message() -> Self {
        Self { left: SAID_MAX, backoff: Backoff::new(SAID_BACKOFF_BASE, BACKOFF_MAX), is_of_order: false }
    }

    /// The relay refused it.
    pub fn handle_refused(&mut self, refusal: &Refusal, uniform: Uniform<'_>) -> AfterRefusal {
        let winner = match refusal.reason {
            // Whoever else lost waits too, and for another time.
            RefusalReason::EpochConflict if self.is_of_order => Some(refusal.bound),
            // Many changes or many guests at once: the relay takes the next one in a moment.
            RefusalReason::Limit => None,
            // A cluster that has lost a node decides in some seconds where the room lives from now on.
            RefusalReason::HomeUnknown => None,
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
        let mut attempts = Attempts::at_commit();
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
        for (mut attempts, wait) in [(Attempts::at_commit(), BACKOFF_BASE), (Attempts::at_message(), SAID_BACKOFF_BASE)]
        {
            let again = attempts.handle_refused(&refusal(RefusalReason::Limit), &longest);
            assert_eq!(again, AfterRefusal::Again { winner: None, wait });
            assert_eq!(attempts.handle_refused(&refusal(RefusalReason::UnknownRoom), &longest), AfterRefusal::Final);
        }
        let mut attempts = Attempts::at_message();
        let conflict = attempts.handle_refused(&refusal(RefusalReason::EpochConflict), &longest);
        assert_eq!(conflict, AfterRefusal::Final, "a message of another epoch would not open");
        let limit = std::iter::repeat_with(|| attempts.handle_refused(&refusal(RefusalReason::Limit), &longest));
        assert_eq!(limit.take_while(|after| *after != AfterRefusal::GiveUp).count() as u32, SAID_MAX - 1);
    }
}
