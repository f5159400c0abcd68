//! When a group gets fresh keys although nobody comes or goes, and when those of past epochs go.
//!
//! Who does it is settled without a word: each member waits for a random time, and whoever waits least makes a commit that
//! sets all others back to the beginning.

use std::{
    collections::VecDeque,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use supernode_proto::{identity::Delegation, limits};

use super::Room;
use crate::{sync::lock, wire::backoff::random_wait};

/// Fewer would keep a room busy with nothing else.
const WITHIN_MIN: Duration = Duration::from_secs(1);
/// Of [`Config::renew_keys_within`](crate::Config::renew_keys_within), the part over which the members of a room spread:
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
pub(super) const GOES_BACK_FOR: Duration = Duration::from_secs(limits::REJECTION_WINDOW_S + 5);

/// When our group and our own leaf are to get fresh keys.
pub(super) struct Renewal {
    within: Duration,
    group_due: Instant,
    leaf_due: Instant,
    /// The last one did not come about.
    not_before: Instant,
}

impl Renewal {
    pub(super) fn new(within: Duration, now: Instant) -> Self {
        let mut renewal = Self { within: within.max(WITHIN_MIN), group_due: now, leaf_due: now, not_before: now };
        renewal.note(true, now, random_wait);
        renewal
    }

    /// Somebody's keys are fresh, ours perhaps: by a renewal, or because somebody was removed.
    fn note(&mut self, ours: bool, now: Instant, pick: impl Fn(RangeInclusive<Duration>) -> Duration) {
        let wait = |within: Duration| pick(within - within / SPREAD..=within);
        self.group_due = now + wait(self.within);
        if ours {
            self.leaf_due = now + wait(self.within * LEAF_ROUNDS);
        }
    }

    fn due(&self) -> Instant {
        self.group_due.min(self.leaf_due).max(self.not_before)
    }
}

/// Epochs whose frames still open although they are over.
#[derive(Default)]
pub(super) struct PastEpochs {
    current: Option<u64>,
    /// The oldest first, and until when.
    over: VecDeque<(u64, Instant)>,
}

impl PastEpochs {
    /// An epoch begins, for the first time or again.
    pub(super) fn begin(&mut self, epoch: u64, now: Instant) {
        self.over.retain(|(past, _)| *past < epoch);
        if let Some(before) = self.current.replace(epoch).filter(|before| *before < epoch) {
            self.over.push_back((before, now + GOES_BACK_FOR));
        }
    }

    /// Takes out what is due; the first epoch whose frames still open.
    fn forget(&mut self, now: Instant) -> Option<u64> {
        let due = self.over.iter().take_while(|(_, until)| *until <= now).count();
        self.over.drain(..due).next_back().map(|(past, _)| past + 1)
    }

    fn next(&self) -> Option<Instant> {
        self.over.front().map(|(_, until)| *until)
    }
}

impl Room {
    /// When fresh keys are due; at once if our leaf shows another delegation than we have now, and never while we are
    /// alone.
    pub(crate) fn renewal_due(&self, delegation: &Delegation, now: Instant) -> Option<Instant> {
        let state = lock(&self.state);
        if !self.keeps_order(&state) {
            return None;
        }
        let mut renewal = lock(&self.renewal);
        if state.group.members.len() < 2 {
            renewal.note(true, now, random_wait);
            return None;
        }
        if state.group.shows(delegation) { Some(renewal.due()) } else { Some(now.max(renewal.not_before)) }
    }

    /// Whether it still is, while a commit for it is made: another's may have come first. To be asked with the group at
    /// hand.
    pub(crate) fn is_renewal_due(&self, group: &supernode_e2ee::Group, delegation: &Delegation, now: Instant) -> bool {
        !group.shows(delegation) || lock(&self.renewal).due() <= now
    }

    /// It did not come about.
    pub(crate) fn put_renewal_off(&self, now: Instant) {
        lock(&self.renewal).not_before = now + random_wait(RETRY);
    }

    /// Somebody's keys in the group are fresh, ours perhaps.
    pub(super) fn note_renewed(&self, ours: bool, now: Instant) {
        lock(&self.renewal).note(ours, now, random_wait);
    }

    /// What is kept of past epochs goes when the commit that ended the last of them cannot be rejected any more; when there
    /// is something to do again.
    pub(crate) fn forget_past_epochs(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        let mut group = lock(&self.group);
        let mut state = lock(&self.state);
        if let Some(first) = state.past_epochs.forget(now) {
            self.frame_keys.forget_before(first);
        }
        let is_due = state.goes_back_until.is_some_and(|until| until <= now);
        if is_due {
            state.goes_back_until = None;
        }
        drop(state);
        if is_due {
            group.forget_previous();
        }
        self.next_to_forget()
    }

    /// When something that is kept of past epochs is to go.
    pub(crate) fn next_to_forget(&self) -> Option<Instant> {
        let state = lock(&self.state);
        state.past_epochs.next().into_iter().chain(state.goes_back_until).min()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use supernode_e2ee::{Device, DeviceSecret, IdentitySecret, KeyExchange, MediaSealer, TrackId, TrackInfo};
    use supernode_proto::{
        control::{BeaconPosted, MemberJoined, RoomJoined, TrackKind},
        identity::RoomId,
    };

    use super::*;
    use crate::{CallEvent, Warning, tracks::frame::unix_s};

    const WITHIN: Duration = Duration::from_secs(900);

    fn device() -> Device {
        let secret = DeviceSecret::generate();
        let delegation = IdentitySecret::generate().delegate(&secret.public(), unix_s() + 3600);
        Device::new(secret, delegation).expect("its own delegation")
    }

    //
    #[test]
    fn whoever_waits_least_sets_the_others_back() {
        let now = Instant::now();
        let mut renewal = Renewal::new(WITHIN, now);
        assert!((now + WITHIN - WITHIN / SPREAD..=now + WITHIN).contains(&renewal.due()), "12 to 15 minutes");
        let later = now + WITHIN / 2;
        renewal.note(false, later, |range| *range.end());
        assert_eq!(renewal.due(), later + WITHIN);
        // For as long as others are faster, up to the time when our own leaf must.
        let mut at = now;
        while at < now + WITHIN * (LEAF_ROUNDS - 1) {
            at += WITHIN / 2;
            renewal.note(false, at, |range| *range.end());
        }
        assert!(renewal.due() <= now + WITHIN * LEAF_ROUNDS, "8 hours");
        renewal.note(true, at, |range| *range.start());
        assert_eq!(renewal.due(), at + WITHIN - WITHIN / SPREAD);
    }

    //
    #[test]
    fn a_past_epoch_goes_fifteen_seconds_after_it_ended_and_not_when_it_is_gone_back_to() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut past = PastEpochs::default();
        past.begin(0, now);
        assert_eq!(past.next(), None);
        past.begin(1, now);
        past.begin(2, now + second);
        assert_eq!(past.next(), Some(now + GOES_BACK_FOR));
        assert_eq!(past.forget(now + GOES_BACK_FOR), Some(1));
        past.begin(1, now + second * 2);
        assert_eq!(past.next(), None, "epoch 1 is the current one again");
        past.begin(2, now + second * 3);
        assert_eq!(past.next(), Some(now + second * 3 + GOES_BACK_FOR));
    }

    /// A room of two as one of them sees it, with the other one here.
    pub(in crate::room) fn room_of_two() -> (Device, Device, Arc<Room>, supernode_e2ee::Group) {
        let (us, other) = (device(), device());
        let mut group = us.create_group(RoomId([7; 16]), KeyExchange::default()).expect("a group");
        let package = (other.identity(), other.key_package().expect("a package"));
        let welcome = group.propose_add(&[package], unix_s()).expect("adds").welcome.expect("for the other");
        group.merge_own().expect("accepted");
        let at_other = other.join(&welcome, &us.identity(), &[], unix_s()).expect("joins");
        let room = Room::new(group, None, WITHIN).expect("a room");
        let here = |member, device: &Device| MemberJoined {
            member,
            device: device.key().as_bytes().to_vec().into(),
            ..MemberJoined::default()
        };
        let members = vec![here(1, &us), here(2, &other)];
        let epoch = room.epoch();
        room.handle_joined(&RoomJoined { member: 1, members, mls_epoch: epoch, ..RoomJoined::default() });
        lock(&room.state).entered_on = Some(1);
        (us, other, room, at_other)
    }

    /// The other one's beacon, signed by `signer`.
    fn beacon_of(room: &Room, at_other: &supernode_e2ee::Group, signer: &Device, digest: [u8; 32]) -> BeaconPosted {
        let signature = signer.secret().sign_beacon(&room.id, at_other.epoch(), &digest).to_vec().into();
        let (room, epoch, digest) = (room.id.0.to_vec().into(), at_other.epoch(), digest.to_vec().into());
        BeaconPosted { room, member: 2, epoch, digest, signature }
    }

    //
    #[test]
    fn a_beacon_in_another_s_name_splits_nobody_and_is_no_sign_of_life() {
        let (us, other, room, at_other) = room_of_two();
        let start = Instant::now();
        let forged = beacon_of(&room, &at_other, &us, [7; 32]);
        room.handle_beacon(&forged, start);
        room.show_splits(start + Duration::from_secs(10));
        assert!(room.split_from().is_empty(), "nobody said so");
        let late = start + Duration::from_secs(140);
        room.handle_beacon(&forged, late);
        room.show_splits(start + Duration::from_secs(160));
        assert_eq!(room.split_from().len(), 1, "the other one has been silent");
        // The same, by the other one.
        let (_us, other, room, at_other) = {
            drop((us, other));
            room_of_two()
        };
        room.handle_beacon(&beacon_of(&room, &at_other, &other, [7; 32]), start);
        room.show_splits(start + Duration::from_secs(10));
        assert_eq!(room.split_from().len(), 1);
    }

    //
    #[test]
    fn what_was_sealed_in_a_past_epoch_opens_for_fifteen_seconds_and_the_group_goes_back_for_as_long() {
        let (_us, other, room, at_other) = room_of_two();
        let sealer = MediaSealer::new(&at_other.epoch_keys().expect("keys")).expect("a sealer");
        let info =
            TrackInfo { id: TrackId([1; 8]), name: "voice".into(), codec: "opus".into(), parameters: Vec::new() };
        let label = sealer.seal_label(1, &info).expect("sealed");
        room.make_commit(|group| group.propose_update().map(Some)).expect("made");
        room.handle_own_commit(true);
        let opens = || room.frame_keys.open_label(&other.key(), TrackKind::Audio, &label).is_ok();
        let over = Instant::now();
        room.forget_past_epochs(over + GOES_BACK_FOR - Duration::from_secs(1));
        assert!(opens() && lock(&room.group).can_go_back(), "objects on their way, and a commit that is rejected");
        let next = room.forget_past_epochs(over + GOES_BACK_FOR);
        assert!(!opens(), "its keys are gone");
        assert!(!lock(&room.group).can_go_back());
        assert_eq!(next, None);
    }

    //
    #[test]
    fn a_member_whose_beacon_is_silent_for_150_s_is_shown_as_split_from_us_and_no_sooner() {
        const SILENCE: Duration = Duration::from_secs(150);
        let (us, other, room, at_other) = room_of_two();
        let start = Instant::now();
        let mut events = room.events.subscribe();
        let second = Duration::from_secs(1);
        let genuine = beacon_of(&room, &at_other, &other, at_other.epoch_digest().expect("in it"));
        let beacon = |at: Instant| room.handle_beacon(&genuine, at);
        // One beacon a minute, one of which is lost: nothing to show.
        for minute in [1, 3, 4] {
            let at = start + Duration::from_secs(60) * minute;
            room.show_splits(at);
            beacon(at);
        }
        let heard = start + Duration::from_secs(240);
        let next = room.show_splits(heard + SILENCE - second).expect("when it is silent for too long");
        assert_eq!(next, heard + SILENCE);
        assert!(room.split_from().is_empty() && !room.is_silent());
        assert!(events.try_recv().is_err(), "nothing is shown");
        room.show_splits(heard + SILENCE);
        assert!(room.is_silent(), "nothing is sent any more");
        let warned = std::iter::from_fn(|| events.try_recv().ok());
        let split = |event: CallEvent| match event {
            CallEvent::Warning(Warning::Split(member)) => Some(member.device),
            _ => None,
        };
        assert_eq!(warned.filter_map(split).collect::<Vec<_>>(), [other.key()]);
        // They are heard again.
        beacon(heard + SILENCE + second);
        room.show_splits(heard + SILENCE + second);
        assert!(room.split_from().is_empty() && !room.is_silent());
        drop(us);
    }

    //
    #[test]
    fn a_removal_and_another_s_renewal_are_fresh_keys_and_somebody_who_comes_is_not() {
        let (us, _, room, mut at_other) = room_of_two();
        let due = |room: &Room, now| room.renewal_due(&us.delegation(), now).expect("in company");
        let start = Instant::now();
        let first = due(&room, start);
        assert!(first <= start + WITHIN);
        // Somebody comes: without fresh keys.
        let third = device();
        let package = (third.identity(), third.key_package().expect("a package"));
        let added = room.make_commit(|group| group.propose_add(&[package], unix_s()).map(Some)).expect("made");
        room.handle_own_commit(true);
        assert_eq!(due(&room, start), first);
        at_other.process(&added.expect("a commit").commit, &|_| true, unix_s()).expect("follows");
        // They go again, by our commit, and the epoch is another one.
        let epoch = room.epoch();
        std::thread::sleep(Duration::from_millis(2));
        let leaf = 2;
        let removed = room.make_commit(|group| group.propose_remove(&[leaf]).map(Some)).expect("made");
        assert!(removed.as_ref().expect("a commit").renews);
        room.handle_own_commit(true);
        assert_eq!(room.epoch(), epoch + 1);
        assert_ne!(due(&room, start), first, "the wait began anew");
        at_other.process(&removed.expect("a commit").commit, &|_| true, unix_s()).expect("follows");
        let second = due(&room, start);
        // The other one is faster than we are.
        room.note_renewed(false, start + WITHIN);
        assert!(due(&room, start) > second);
        // A delegation that is renewed is shown at once.
        assert!(room.renewal_due(&device().delegation(), start).is_some_and(|at| at == start));
    }
}
