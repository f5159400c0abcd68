//! When to knock again at a room that went on without us.

use std::time::Duration;

use supernode_proto::control::RefusalReason;
use supernode_session::{Backoff, Moment, Patience, Refusal};

use super::Uniform;

/// So often somebody who has not been in the room is told that it is not empty, and that nobody is in it whom the relay may
/// ring for them, until that is no matter of who came and went in between: those inside have shut them out.
const SHUT_OUT_AFTER: u32 = 4;

/// Why nobody let us in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    /// The relay rang nobody for us.
    NobodyRung,
    /// It may pass by itself.
    Passing,
    /// Another attempt would end in the same way.
    Lasting,
}

impl Hindrance {
    /// What the relay refused it for.
    pub fn of_refusal(refusal: &Refusal) -> Self {
        if refusal.reason == RefusalReason::Offline { Self::NobodyRung } else { Self::Passing }
    }
}

/// What comes after all doors were tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// They are tried again, after this wait.
    Again(Duration),
    /// Those inside do not let us in.
    ShutOut,
    /// They are not.
    GiveUp,
}

/// The attempts to be let in again.
#[derive(Debug)]
pub struct ComingBack {
    backoff: Backoff,
    give_up_at: Moment,
    nobody_rung: u32,
}

impl ComingBack {
    /// Begins to be patient.
    pub fn new(patience: &Patience, now: Moment) -> Self {
        Self {
            backoff: Backoff::new(patience.backoff_base, patience.backoff_max),
            give_up_at: now + patience.give_up_after,
            nobody_rung: 0,
        }
    }

    /// All doors were tried, the last of them in vain for this reason. `is_new` says that we have never been in the room.
    pub fn failed(&mut self, why: Hindrance, is_new: bool, now: Moment, uniform: Uniform<'_>) -> AfterFailure {
        self.nobody_rung = if why == Hindrance::NobodyRung { self.nobody_rung + 1 } else { 0 };
        if self.nobody_rung >= SHUT_OUT_AFTER && is_new {
            return AfterFailure::ShutOut;
        }
        if now >= self.give_up_at || why == Hindrance::Lasting {
            return AfterFailure::GiveUp;
        }
        AfterFailure::Again(self.backoff.next_wait(uniform))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;

    const NOW: Moment = Moment::at(Duration::from_secs(1000));

    fn patience() -> Patience {
        let second = Duration::from_secs(1);
        Patience { backoff_base: second, backoff_max: second * 8, give_up_after: second * 60 }
    }

    fn longest(range: RangeInclusive<Duration>) -> Duration {
        *range.end()
    }

    //
    #[test]
    fn whoever_was_never_inside_and_is_rung_for_by_nobody_four_times_in_a_row_is_shut_out() {
        let mut coming = ComingBack::new(&patience(), NOW);
        let mut nobody = |is_new| coming.failed(Hindrance::NobodyRung, is_new, NOW, &longest);
        assert!((0..3).all(|_| matches!(nobody(true), AfterFailure::Again(_))));
        assert!(matches!(nobody(false), AfterFailure::Again(_)), "who was inside may come back");
        assert_eq!(nobody(true), AfterFailure::ShutOut);
        assert!(matches!(coming.failed(Hindrance::Passing, true, NOW, &longest), AfterFailure::Again(_)));
        let again = coming.failed(Hindrance::NobodyRung, true, NOW, &longest);
        assert!(matches!(again, AfterFailure::Again(_)), "not in a row");
    }

    #[test]
    fn it_ends_with_patience_or_at_once_where_nothing_will_change() {
        let mut coming = ComingBack::new(&patience(), NOW);
        let late = NOW + Duration::from_secs(60);
        assert_eq!(
            coming.failed(Hindrance::Passing, false, NOW, &longest),
            AfterFailure::Again(Duration::from_secs(1))
        );
        assert_eq!(coming.failed(Hindrance::Passing, false, late, &longest), AfterFailure::GiveUp);
        assert_eq!(coming.failed(Hindrance::Lasting, false, NOW, &longest), AfterFailure::GiveUp);
    }
}
