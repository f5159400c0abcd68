//! Whether everybody in the room is in the same group. Each device says, signed, which epoch it is in and what that epoch
//! is; who hears another say of the same epoch that it is something else, or cannot follow where others are, doubts. What
//! is doubted for longer than a commit takes to arrive is a split: it is shown, and nothing is sent until it is healed
//! or a person says so.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use supernode_e2ee::DeviceSecret;
use supernode_proto::{
    control::{BeaconPosted, PostBeacon, client_message},
    identity::{DeviceKey, EPOCH_DIGEST_BYTES, verify_beacon},
};
use supernode_session::Moment;

use super::{RoomState, renewal::PastEpochs};
use crate::{
    Member,
    room::{Event, Warning, Wish},
};

/// Between two beacons of a device in a group that does not change.
const EVERY: Duration = Duration::from_secs(60);
/// A beacon for a new epoch waits so long for each member there is, so that nobody hears more than ten a second.
const SHARE: Duration = Duration::from_millis(100);
/// Before a beacon is answered that says something else than ours, since our last one.
const ANSWER: Duration = Duration::from_secs(1);
/// How long what others say may differ before it is a split: longer than a commit, or its rejection, takes to arrive.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whoever is here and has not been heard for so long is kept from us: two beacons and a half.
const SILENCE_MAX: Duration = Duration::from_secs(150);
/// Epochs of ours that we can tell from others of the same number.
const EPOCHS_KEPT: usize = 8;

type Digest = [u8; EPOCH_DIGEST_BYTES];

/// What we said and what others say.
#[derive(Default)]
pub(in crate::room) struct Beacons {
    /// Newest first.
    ours: VecDeque<(u64, Digest)>,
    posted_at: Option<Moment>,
    due: Option<Moment>,
    doubts: HashMap<DeviceKey, Doubt>,
    /// A split was shown, and its end was not.
    is_told: bool,
}

/// Somebody is not where we are.
struct Doubt {
    since: Moment,
    /// What they said; `None` if their frames show it, or their silence.
    said: Option<(u64, Digest)>,
    is_shown: bool,
    is_accepted: bool,
}

impl Beacons {
    /// Our group is in an epoch; `at_once` if by our own doing.
    fn enter(&mut self, epoch: u64, digest: Digest, members: u32, at_once: bool, now: Moment) {
        // Later ones were given up.
        self.ours.retain(|(known, _)| *known < epoch);
        self.ours.push_front((epoch, digest));
        self.ours.truncate(EPOCHS_KEPT);
        let ours = &self.ours;
        self.doubts.retain(|_, doubt| doubt.said.is_none_or(|said| !ours.contains(&said)));
        let pause = if at_once { Duration::ZERO } else { (SHARE * members).min(EVERY) };
        let due = self.posted_at.map_or(now, |posted| now.max(posted + pause));
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// The place in the group is another: what was said before was of another group.
    fn restart(&mut self) {
        *self = Self { is_told: self.is_told, ..Self::default() };
    }

    /// Somebody says which epoch they are in.
    fn hear(&mut self, from: DeviceKey, said: (u64, Digest), now: Moment) {
        let Some((current, _)) = self.ours.front().copied() else { return };
        let same_epoch = self.ours.iter().find(|(epoch, _)| *epoch == said.0);
        match same_epoch {
            Some(known) if *known == said => drop(self.doubts.remove(&from)),
            // Of an epoch long past nobody can say anything.
            None if said.0 < current => {}
            _ => {
                self.doubt(from, Some(said), now);
                // They doubt as well, unless they have moved on: then they say so.
                let answer = self.posted_at.map_or(now, |posted| now.max(posted + ANSWER));
                self.due = Some(self.due.map_or(answer, |due| due.min(answer)));
            }
        }
    }

    /// Whether that is new.
    fn doubt(&mut self, device: DeviceKey, said: Option<(u64, Digest)>, since: Moment) -> bool {
        let before = self.doubts.len();
        let doubt = Doubt { since, said, is_shown: false, is_accepted: false };
        let doubt = self.doubts.entry(device).or_insert(doubt);
        doubt.said = said.or(doubt.said);
        self.doubts.len() > before
    }

    /// Their frames open.
    pub(in crate::room) fn note_opened(&mut self, device: &DeviceKey) {
        if self.doubts.get(device).is_some_and(|doubt| doubt.said.is_none()) {
            self.doubts.remove(device);
        }
    }

    /// Their frames are of an epoch after ours; whether that is new.
    pub(in crate::room) fn note_ahead(&mut self, device: DeviceKey, now: Moment) -> bool {
        self.doubt(device, None, now)
    }

    /// Whether a split is shown and no person said to go on.
    pub(in crate::room) fn hold_back(&self) -> bool {
        self.doubts.values().any(|doubt| doubt.is_shown && !doubt.is_accepted)
    }

    /// Takes those who have been doubted for too long, to be shown; and when to look again.
    fn ripe(&mut self, now: Moment) -> (Vec<DeviceKey>, Option<Moment>) {
        let (mut ripe, mut next): (_, Option<Moment>) = (Vec::new(), None);
        for (device, doubt) in self.doubts.iter_mut().filter(|(_, doubt)| !doubt.is_shown) {
            let at = doubt.since + PATIENCE;
            if at <= now {
                doubt.is_shown = true;
                ripe.push(*device);
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        (ripe, next)
    }

    /// Whether a split that was shown is over.
    fn note_healed(&mut self) -> bool {
        let is_split = self.doubts.values().any(|doubt| doubt.is_shown);
        std::mem::replace(&mut self.is_told, is_split) && !is_split
    }
}

impl RoomState {
    /// Somebody says which epoch they are in, or the relay says that they do. Whether they do: else nothing changes.
    pub fn handle_beacon(&mut self, posted: &BeaconPosted, now: Moment) -> bool {
        let Some(connection) = self.connections.get_mut(&posted.member) else { return false };
        let (Some(member), Ok(digest)) = (connection.member, Digest::try_from(&posted.digest[..])) else {
            return false;
        };
        if verify_beacon(&member.device, &self.id, posted.epoch, &digest, &posted.signature).is_err() {
            return false;
        }
        connection.heard_at = now;
        self.frame_keys.beacons().hear(member.device, (posted.epoch, digest), now);
        true
    }

    /// Our own beacon, if it is due; and when to look again.
    pub(super) fn beacon(&self, device: &DeviceSecret, now: Moment) -> (Option<client_message::Body>, Option<Moment>) {
        if !self.keeps_order() {
            return (None, None);
        }
        let mut beacons = self.frame_keys.beacons();
        let Beacons { ours, posted_at, due, .. } = &mut *beacons;
        let Some((epoch, digest)) = ours.front().copied() else { return (None, None) };
        let at = due.unwrap_or(now);
        if at > now {
            return (None, Some(at));
        }
        (*posted_at, *due) = (Some(now), Some(now + EVERY));
        let signature = device.sign_beacon(&self.id, epoch, &digest);
        let (digest, signature) = (Bytes::copy_from_slice(&digest), Bytes::copy_from_slice(&signature));
        let beacon = PostBeacon { room: self.room_bytes(), epoch, digest, signature };
        (Some(client_message::Body::PostBeacon(beacon)), Some(now + EVERY))
    }

    /// Shows whom we have doubted for too long, or that nobody is any more, and says when to look again.
    pub(super) fn show_splits(&self, now: Moment) -> (Vec<Wish>, Option<Moment>) {
        if !self.keeps_order() {
            return (Vec::new(), None);
        }
        let here: Vec<(Member, Moment)> =
            self.connections.values().filter_map(|it| Some((it.member?, it.heard_at))).collect();
        let mut beacons = self.frame_keys.beacons();
        for (member, heard_at) in &here {
            if *heard_at + SILENCE_MAX <= now {
                beacons.doubt(member.device, None, *heard_at);
            }
        }
        let (ripe, next) = beacons.ripe(now);
        let next_silence = here.iter().map(|(_, heard_at)| *heard_at + SILENCE_MAX).filter(|at| *at > now).min();
        let healed = beacons.note_healed().then_some(Wish::Tell(Event::Healed));
        drop(beacons);
        let leaf = |device: &DeviceKey| self.group.members.iter().find(|leaf| leaf.device == *device);
        let splits = ripe.iter().filter_map(leaf).map(|leaf| Event::Warning(Warning::Split((*leaf).into())).into());
        (healed.into_iter().chain(splits).collect(), next.into_iter().chain(next_silence).min())
    }

    /// Who is shown to be in another group than ours.
    pub fn split_from(&self) -> Vec<Member> {
        let beacons = self.frame_keys.beacons();
        let is_shown = |member: &Member| beacons.doubts.get(&member.device).is_some_and(|doubt| doubt.is_shown);
        self.connections.values().filter_map(|connection| connection.member).filter(is_shown).collect()
    }

    /// A person has seen that there is a split, and goes on with those who are in our part.
    pub fn accept_split(&mut self) {
        self.frame_keys.beacons().doubts.values_mut().for_each(|doubt| doubt.is_accepted = doubt.is_shown);
    }

    /// Our group is in another epoch; `at_once` if by our own doing.
    pub(super) fn note_epoch(&mut self, at_once: bool, now: Moment) {
        self.past_epochs.begin(self.group.epoch, now);
        if let Ok(digest) = self.group.epoch_digest() {
            let members = self.group.members.len() as u32;
            self.frame_keys.beacons().enter(self.group.epoch, digest, members, at_once, now);
        }
    }

    /// Our group is another one.
    pub(super) fn note_new_group(&mut self, now: Moment) {
        self.frame_keys.beacons().restart();
        self.past_epochs = PastEpochs::default();
        self.note_epoch(true, now);
    }

    /// Nobody is doubted who is not here.
    pub(super) fn forget_doubts_of_those_gone(&self) {
        let here: HashSet<DeviceKey> =
            self.connections.values().filter_map(|connection| Some(connection.member?.device)).collect();
        self.frame_keys.beacons().doubts.retain(|device, _| here.contains(device));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: DeviceKey = DeviceKey::new([2; 32]);

    /// In epoch 5.
    fn beacons(now: Moment) -> Beacons {
        let mut beacons = Beacons::default();
        beacons.enter(4, [4; 32], 3, false, now);
        beacons.enter(5, [5; 32], 3, false, now);
        beacons
    }

    //
    #[test]
    fn whoever_says_something_else_of_an_epoch_is_shown_after_five_seconds_unless_they_take_it_back() {
        let now = Moment::at(Duration::from_secs(1000));
        let mut beacons = beacons(now);
        beacons.hear(BOB, (5, [9; 32]), now);
        assert_eq!(beacons.ripe(now), (vec![], Some(now + PATIENCE)));
        assert!(!beacons.hold_back());
        assert_eq!(beacons.ripe(now + PATIENCE), (vec![BOB], None));
        assert!(beacons.hold_back());
        assert!(!beacons.note_healed(), "not yet");
        beacons.hear(BOB, (5, [5; 32]), now);
        assert!(!beacons.hold_back());
        assert!(beacons.note_healed() && !beacons.note_healed(), "it is told once");
    }

    //
    #[test]
    fn whoever_is_ahead_is_doubted_until_we_are_where_they_are() {
        let now = Moment::at(Duration::from_secs(1000));
        let mut beacons = beacons(now);
        beacons.hear(BOB, (6, [6; 32]), now);
        beacons.enter(6, [6; 32], 3, false, now);
        assert_eq!(beacons.ripe(now + PATIENCE), (vec![], None));
        beacons.hear(BOB, (7, [7; 32]), now);
        beacons.enter(7, [8; 32], 3, false, now);
        assert_eq!(beacons.ripe(now + PATIENCE).0, [BOB], "another epoch of the same number");
    }

    //
    #[test]
    fn whoever_is_behind_or_was_long_ago_is_not_doubted() {
        let now = Moment::at(Duration::from_secs(1000));
        let mut beacons = beacons(now);
        beacons.hear(BOB, (4, [4; 32]), now);
        beacons.hear(BOB, (1, [9; 32]), now);
        assert_eq!(beacons.ripe(now + PATIENCE), (vec![], None));
    }

    //
    #[test]
    fn frames_that_nobody_can_follow_are_doubted_until_one_opens() {
        let now = Moment::at(Duration::from_secs(1000));
        let mut beacons = beacons(now);
        beacons.note_ahead(BOB, now);
        beacons.note_ahead(BOB, now + PATIENCE / 2);
        assert_eq!(beacons.ripe(now + PATIENCE).0, [BOB]);
        beacons.note_opened(&BOB);
        assert!(!beacons.hold_back());
    }

    //
    #[test]
    fn a_room_hears_no_more_than_ten_beacons_a_second_but_of_whoever_changed_it_at_once() {
        let now = Moment::at(Duration::from_secs(1000));
        let mut beacons = beacons(now);
        (beacons.posted_at, beacons.due) = (Some(now), Some(now + EVERY));
        beacons.enter(6, [6; 32], 250, false, now);
        assert_eq!(beacons.due, Some(now + SHARE * 250));
        beacons.enter(7, [7; 32], 250, true, now);
        assert_eq!(beacons.due, Some(now));
    }
}
