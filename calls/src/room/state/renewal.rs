//! When a group gets fresh keys although nobody comes or goes, and when those of past epochs go.
//!
//! Who does it is settled without a word: each member waits for a random time, and whoever waits least makes a commit that
//! sets all others back to the beginning.

use std::{collections::VecDeque, ops::RangeInclusive, time::Duration};

use supernode_proto::{identity::Delegation, limits};
use supernode_session::Moment;

use super::RoomState;
use crate::room::Uniform;

/// Fewer would keep a room busy with nothing else.
const WITHIN_MIN: Duration = Duration::from_secs(1);
/// Of the time within which a group gets fresh keys, the part over which the members of a room spread:
/// of 250 two who wait equally long are then still most of a second apart.
const SPREAD: u32 = 5;
/// Each leaf gets fresh keys at least once in so many of those times, whoever is faster in between: by default in 8 h. Of
/// 250 members one does so every two minutes then.
const LEAF_ROUNDS: u32 = 32;
/// After a renewal that did not come about, at least and at most: nothing hangs on it but time.
const RETRY: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(30);
/// How long we can go back to the epoch before: as long as a relay lets a commit be rejected, and until that is here. For as
/// long a past epoch's frames open: its keys follow from what is kept for going back, and once gone back to it must know
/// what was opened before.
pub(in crate::room) const GOES_BACK_FOR: Duration = Duration::from_secs(limits::REJECTION_WINDOW_S + 5);

/// When our group and our own leaf are to get fresh keys.
pub(super) struct Renewal {
    within: Duration,
    group_due: Moment,
    leaf_due: Moment,
    /// The last one did not come about.
    not_before: Moment,
}

impl Renewal {
    pub(super) fn new(within: Duration, now: Moment, uniform: Uniform<'_>) -> Self {
        let mut renewal = Self { within: within.max(WITHIN_MIN), group_due: now, leaf_due: now, not_before: now };
        renewal.note(true, now, uniform);
        renewal
    }

    /// Somebody's keys are fresh, ours perhaps: by a renewal, or because somebody was removed.
    pub(super) fn note(&mut self, ours: bool, now: Moment, uniform: Uniform<'_>) {
        let wait = |within: Duration| uniform(within - within / SPREAD..=within);
        self.group_due = now + wait(self.within);
        if ours {
            self.leaf_due = now + wait(self.within * LEAF_ROUNDS);
        }
    }

    fn due(&self) -> Moment {
        self.group_due.min(self.leaf_due).max(self.not_before)
    }
}

/// Epochs whose frames still open although they are over.
#[derive(Default)]
pub(super) struct PastEpochs {
    current: Option<u64>,
    /// The oldest first, and until when.
    over: VecDeque<(u64, Moment)>,
}

impl PastEpochs {
    /// An epoch begins, for the first time or again.
    pub(super) fn begin(&mut self, epoch: u64, now: Moment) {
        self.over.retain(|(past, _)| *past < epoch);
        if let Some(before) = self.current.replace(epoch).filter(|before| *before < epoch) {
            self.over.push_back((before, now + GOES_BACK_FOR));
        }
    }

    /// Takes out what is due; the first epoch whose frames still open.
    fn forget(&mut self, now: Moment) -> Option<u64> {
        let due = self.over.iter().take_while(|(_, until)| *until <= now).count();
        self.over.drain(..due).next_back().map(|(past, _)| past + 1)
    }

    fn next(&self) -> Option<Moment> {
        self.over.front().map(|(_, until)| *until)
    }
}

impl RoomState {
    /// When fresh keys are due; at once if our leaf shows another delegation than we have now, and never while we are
    /// alone.
    pub(super) fn renewal_due(&mut self, delegation: &Delegation, now: Moment, uniform: Uniform<'_>) -> Option<Moment> {
        if !self.keeps_order() {
            return None;
        }
        if self.group.members.len() < 2 {
            self.renewal.note(true, now, uniform);
            return None;
        }
        let is_shown = self.group.shows(delegation);
        Some(if is_shown { self.renewal.due() } else { now.max(self.renewal.not_before) })
    }

    /// Whether they still are, while a commit for them is made: another's may have come first. Of a leaf that shows another
    /// delegation than we have now, they are whatever this says.
    pub fn is_renewal_due(&self, now: Moment) -> bool {
        self.renewal.due() <= now
    }

    /// The renewal did not come about.
    pub fn put_renewal_off(&mut self, now: Moment, uniform: Uniform<'_>) {
        self.renewal.not_before = now + uniform(RETRY);
    }

    /// What is kept of past epochs goes when the commit that ended the last of them cannot be rejected any more. Whether
    /// that of the epoch before is to go as well ([`Membership::forget_previous`](crate::room::Membership::forget_previous)).
    pub fn forget_past_epochs(&mut self, now: Moment) -> bool {
        if let Some(first) = self.past_epochs.forget(now) {
            self.frame_keys.forget_before(first);
        }
        let is_due = self.goes_back_until.is_some_and(|until| until <= now);
        if is_due {
            self.goes_back_until = None;
        }
        is_due
    }

    /// When something that is kept of past epochs is to go.
    pub(super) fn next_to_forget(&self) -> Option<Moment> {
        self.past_epochs.next().into_iter().chain(self.goes_back_until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(900);
    const NOW: Moment = Moment::at(Duration::from_secs(1000));

    fn longest(range: RangeInclusive<Duration>) -> Duration {
        *range.end()
    }

    fn shortest(range: RangeInclusive<Duration>) -> Duration {
        *range.start()
    }

    //
    #[test]
    fn whoever_waits_least_sets_the_others_back() {
        assert_eq!(Renewal::new(WITHIN, NOW, &shortest).due(), NOW + (WITHIN - WITHIN / SPREAD), "12 minutes");
        let mut renewal = Renewal::new(WITHIN, NOW, &longest);
        assert_eq!(renewal.due(), NOW + WITHIN, "15 minutes");
        let later = NOW + WITHIN / 2;
        renewal.note(false, later, &longest);
        assert_eq!(renewal.due(), later + WITHIN);
        // For as long as others are faster, up to the time when our own leaf must.
        let mut at = NOW;
        while at < NOW + WITHIN * (LEAF_ROUNDS - 1) {
            at = at + WITHIN / 2;
            renewal.note(false, at, &longest);
        }
        assert!(renewal.due() <= NOW + WITHIN * LEAF_ROUNDS, "8 hours");
        renewal.note(true, at, &shortest);
        assert_eq!(renewal.due(), at + (WITHIN - WITHIN / SPREAD));
    }

    //
    #[test]
    fn a_past_epoch_goes_fifteen_seconds_after_it_ended_and_not_when_it_is_gone_back_to() {
        let second = Duration::from_secs(1);
        let mut past = PastEpochs::default();
        past.begin(0, NOW);
        assert_eq!(past.next(), None);
        past.begin(1, NOW);
        past.begin(2, NOW + second);
        assert_eq!(past.next(), Some(NOW + GOES_BACK_FOR));
        assert_eq!(past.forget(NOW + GOES_BACK_FOR), Some(1));
        past.begin(1, NOW + second * 2);
        assert_eq!(past.next(), None, "epoch 1 is the current one again");
        past.begin(2, NOW + second * 3);
        assert_eq!(past.next(), Some(NOW + second * 3 + GOES_BACK_FOR));
    }
}
