//! The group's messages: in the mailbox's order, from where we were, and what becomes of a commit.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use supernode_e2ee::Snapshot;
use supernode_proto::{
    control::{CatchUp, MlsDelivery, RejectCommit, RoomJoined, RotateJoinKey, client_message},
    identity::JoinKey,
};
use supernode_session::Moment;

use super::{RoomState, renewal::GOES_BACK_FOR};
use crate::{
    Member,
    rights::{self, Said},
    room::{CallEnd, Entered, Event, Read, Rejection, Settled, Uniform, Warning, Wish},
};

/// Messages that came while what lies before them was fetched: more than a relay keeps of a room.
const HELD_MAX: usize = 512;
/// How long the others have to agree that a commit is junk, before we take ourselves for the one who cannot read it.
const REJECTION_TIMEOUT: Duration = Duration::from_secs(3);
/// Of the members who are here and did not make the commit, so many see to it that the door has the right key: one could
/// be in league with whoever gave it a wrong one.
const DOOR_KEEPERS: usize = 3;

/// How far we have read.
#[derive(Default)]
pub(super) struct Mailbox {
    /// The newest message that we have.
    sequence: u64,
    /// What the room had when we joined: messages after `sequence` up to it are to be fetched.
    missing_to: u64,
    /// They are being fetched. What is fetched may go on beyond them, to what came meanwhile as well.
    is_catching_up: bool,
    /// The room's epoch when we joined.
    joined_epoch: u64,
    held: BTreeMap<u64, MlsDelivery>,
    /// When we gave a commit back that makes no sense.
    rejected_at: Option<Moment>,
    /// The next room that we join is another one to us, or our place in it is.
    is_new: bool,
    /// We left the room a moment ago, to come in anew: what we have missed since is to be fetched.
    left_just_now: bool,
    /// We were in the room before.
    again: bool,
}

impl Mailbox {
    pub(super) fn joined(&mut self, joined: &RoomJoined, again: bool) {
        // A Welcome says all that there was; and a room that was opened anew counts from the beginning.
        if !again || self.is_new || joined.mls_sequence < self.sequence {
            self.sequence = joined.mls_sequence;
        }
        self.is_new = false;
        self.again = again;
        self.missing_to = joined.mls_sequence;
        self.is_catching_up = self.is_missing();
        self.joined_epoch = joined.mls_epoch;
    }

    pub(super) fn lost(&mut self) {
        self.held.clear();
        self.missing_to = 0;
        self.is_catching_up = false;
        self.rejected_at = None;
    }

    fn is_missing(&self) -> bool {
        self.sequence < self.missing_to
    }

    /// Whether it is this message's turn. Else it is kept until it is, or dropped: for good if we have had it.
    fn take(&mut self, delivery: &MlsDelivery, is_behind: bool, is_in: bool) -> bool {
        if delivery.sequence <= self.sequence {
            return false;
        }
        // Behind, this group can read nothing any more; the one that we will be let into may.
        if is_behind || self.is_catching_up && delivery.sequence > self.missing_to {
            if (is_in || !is_behind) && self.held.len() < HELD_MAX {
                self.held.insert(delivery.sequence, delivery.clone());
            }
            return false;
        }
        self.sequence = delivery.sequence;
        true
    }

    fn take_held(&mut self) -> impl Iterator<Item = Wish> + use<> {
        std::mem::take(&mut self.held).into_values().map(|delivery| Wish::Read(Box::new(delivery)))
    }
}

impl RoomState {
    /// Whether it is this message's turn to be read ([`Membership::read`](crate::room::Membership::read)). Else nothing is to be
    /// done about it, at least for now.
    pub fn take(&mut self, delivery: &MlsDelivery) -> bool {
        !self.is_over && self.mailbox.take(delivery, self.behind, self.entered_on.is_some())
    }

    /// What a message was.
    pub fn handle_read(&mut self, delivery: &MlsDelivery, read: Read, now: Moment, uniform: Uniform<'_>) -> Vec<Wish> {
        match read {
            Read::FalseEnvelope => vec![Event::Warning(Warning::FalseEnvelope).into()],
            Read::Entered(entered) if entered.is_ours => self.enter(*entered, now, uniform),
            Read::Entered(entered) => {
                let by = entered.by;
                let mut wishes = self.enter(*entered, now, uniform);
                if let Some(right) = self.door_key_to_replace(delivery, &by) {
                    wishes.insert(0, Event::Warning(Warning::WrongDoorKey(by.into())).into());
                    let (room, join_key) = (self.room_bytes(), Bytes::copy_from_slice(right.as_bytes()));
                    let rotate = client_message::Body::RotateJoinKey(RotateJoinKey { room, join_key });
                    wishes.push(Wish::Send(Box::new(rotate)));
                }
                wishes
            }
            Read::RemovedUs { by, put_out } => {
                self.group.end();
                let mut wishes = vec![Event::Removed { who: self.ourselves, by, put_out }.into()];
                // Who was only taken for gone may knock; a call of those who were rung has no door.
                let may_knock = !put_out && self.has_door;
                wishes.extend(if may_knock { self.fall_behind() } else { vec![Wish::End(CallEnd::Removed)] });
                wishes
            }
            Read::Message { from, bytes } => match rights::read(&bytes) {
                Some(Said::Goodbye(_)) => {
                    self.note_goodbye(from.device, now);
                    Vec::new()
                }
                said => said.map(|said| Wish::Said(from, said)).into_iter().collect(),
            },
            Read::Junk(_) if self.has_door => {
                // Given back: when most cannot process it, its epoch is open again.
                self.mailbox.rejected_at = Some(now);
                let MlsDelivery { room, epoch, sequence, .. } = delivery.clone();
                let reject = client_message::Body::RejectCommit(RejectCommit { room, epoch, sequence });
                vec![Wish::Send(Box::new(reject))]
            }
            Read::Junk(_) | Read::CannotFollow(_) => self.fall_behind(),
            Read::Nothing(_) => Vec::new(),
        }
    }

    /// What became of a commit of ours.
    pub fn handle_settled(&mut self, settled: Settled, now: Moment, uniform: Uniform<'_>) -> Vec<Wish> {
        match settled {
            Settled::Entered(entered) => self.enter(*entered, now, uniform),
            Settled::CannotFollow(_) => self.fall_behind(),
            Settled::Discarded => Vec::new(),
        }
    }

    /// The group is in its next epoch.
    fn enter(&mut self, entered: Entered, now: Moment, uniform: Uniform<'_>) -> Vec<Wish> {
        let Entered { snapshot, by, is_ours, put_out, renewed, removed } = entered;
        self.group = snapshot;
        let mut wishes = self.note_removed(&removed, by.into(), put_out);
        self.goes_back_until = Some(now + GOES_BACK_FOR);
        self.note_epoch(is_ours, now);
        self.frame_keys.let_go_of_those_gone(&self.group.members);
        if renewed {
            self.renewal.note(is_ours, now, uniform);
        }
        wishes.extend(self.use_keys(now));
        wishes
    }

    /// Most could not process a commit, or the relay says so: it does not count.
    pub fn handle_rejected(&mut self, rejection: Rejection, now: Moment) -> Vec<Wish> {
        self.mailbox.rejected_at = None;
        match rejection {
            Rejection::NotFollowed => Vec::new(),
            Rejection::WentBack(snapshot) => {
                self.group = *snapshot;
                self.note_epoch(false, now);
                // Whoever has no place in the group may have had a voice in this.
                self.suspect_outsiders();
                self.use_keys(now)
            }
            Rejection::CannotGoBack(_) => self.fall_behind(),
        }
    }

    /// When we stop waiting for the others to reject what we did.
    pub(super) fn rejection_deadline(&self) -> Option<Moment> {
        self.mailbox.rejected_at.map(|at| at + REJECTION_TIMEOUT)
    }

    /// The request for what we have missed.
    pub(super) fn catch_up_request(&self) -> client_message::Body {
        client_message::Body::CatchUp(CatchUp { room: self.room_bytes(), after_sequence: self.mailbox.sequence })
    }

    /// Whether messages before our joining have not come yet.
    pub fn is_missing_messages(&self) -> bool {
        self.mailbox.is_missing()
    }

    /// We are in, on this connection, and have what there was to fetch. What came meanwhile has its turn now. `epoch` is
    /// the membership's, of which nothing of ours is pending any more
    /// ([`Membership::discard_own`](crate::room::Membership::discard_own)).
    pub fn handle_caught_up(&mut self, connection: u64, epoch: u64) -> Vec<Wish> {
        let mailbox = &mut self.mailbox;
        mailbox.sequence = mailbox.sequence.max(mailbox.missing_to);
        mailbox.is_catching_up = false;
        self.entered_on = Some(connection);
        // Another epoch than ours means that the group moved on without us, and what it says now does not open.
        if mailbox.joined_epoch != epoch {
            return self.fall_behind();
        }
        self.behind = false;
        let resumed = mailbox.again.then_some(Wish::Tell(Event::Resumed));
        mailbox.take_held().chain(resumed).collect()
    }

    /// The group moved on and we could not follow: a room is come back to by its door, a call is over.
    pub fn fall_behind(&mut self) -> Vec<Wish> {
        if !self.has_door {
            return vec![Wish::End(CallEnd::MissedKeys)];
        }
        self.behind = true;
        self.mailbox.rejected_at = None;
        Vec::new()
    }

    /// We have left the relay's room, to come in with another place in its group.
    pub(super) fn handle_left_to_come_in_anew(&mut self) -> Vec<Wish> {
        let wishes = self.handle_lost();
        self.mailbox.left_just_now = true;
        wishes
    }

    /// We were let in again: the room goes on with another place in its group, from what came meanwhile. `snapshot` is the
    /// place's ([`Membership::replace`](crate::room::Membership::replace)).
    pub fn handle_replaced(&mut self, snapshot: Snapshot, now: Moment, uniform: Uniform<'_>) -> Vec<Wish> {
        self.group = snapshot;
        self.note_new_group(now);
        self.frame_keys.let_go_of_all();
        self.behind = false;
        let left_just_now = std::mem::take(&mut self.mailbox.left_just_now);
        self.mailbox.is_new = self.entered_on.is_none() && !left_just_now;
        self.renewal.note(true, now, uniform);
        let mut wishes = self.use_keys(now);
        wishes.extend(self.mailbox.take_held());
        wishes
    }

    /// There are other keys, and perhaps other members.
    fn use_keys(&mut self, now: Moment) -> Vec<Wish> {
        let mut wishes: Vec<Wish> = self.recognize(now).into_iter().map(Wish::from).collect();
        wishes.extend([Wish::UseKeys, Wish::Tell(Event::KeysChanged)]);
        wishes
    }

    /// This epoch's join key, if the relay says that a commit came with another one and it is for us to replace it:
    /// by a mistake or a lie of whoever made the commit, or of the relay. While we catch up, what a commit came with is of
    /// the past.
    fn door_key_to_replace(&self, delivery: &MlsDelivery, by: &supernode_e2ee::Member) -> Option<JoinKey> {
        let right = self.group.join_secret().ok()?.public();
        if delivery.join_key == right.as_bytes()[..] || self.entered_on.is_none() {
            return None;
        }
        let own = self.group.own_leaf;
        let is_before_us = |member: &&supernode_e2ee::Member| {
            member.leaf < own && member.device != by.device && self.is_here(&member.device)
        };
        (self.group.members.iter().filter(is_before_us).count() < DOOR_KEEPERS).then_some(right)
    }

    /// What becomes of those whom a commit removed, by the commit's own word and not by who the relay says was here: who
    /// was put out is not let in again without being asked for, who was taken for gone may come back. Returns what to tell.
    fn note_removed(&mut self, removed: &[supernode_e2ee::Member], by: Member, put_out: bool) -> Vec<Wish> {
        let mut told = Vec::new();
        let still = &self.group.members;
        for member in removed.iter().filter(|gone| still.iter().all(|member| member.device != gone.device)) {
            let said_goodbye = self.absent.remove(&member.device).is_some_and(|absence| absence.said_goodbye);
            if put_out {
                self.kicked.insert(member.identity);
                self.departed.remove(&member.identity);
            } else if !said_goodbye && !self.kicked.contains(&member.identity) {
                self.departed.insert(member.identity);
            }
            told.push(Event::Removed { who: (*member).into(), by, put_out }.into());
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u64) -> MlsDelivery {
        MlsDelivery { sequence, ..MlsDelivery::default() }
    }

    /// A room that had messages up to `mls_sequence` when we joined it.
    fn joined(mls_sequence: u64) -> RoomJoined {
        RoomJoined { mls_sequence, ..RoomJoined::default() }
    }

    fn held(mailbox: &mut Mailbox) -> Vec<u64> {
        let sequence = |wish| if let Wish::Read(delivery) = wish { delivery.sequence } else { 0 };
        mailbox.take_held().map(sequence).collect()
    }

    //
    #[test]
    fn a_message_is_read_once_and_those_before_what_is_missing_first() {
        let mut mailbox = Mailbox::default();
        mailbox.joined(&joined(5), false);
        assert!(!mailbox.is_missing(), "a Welcome says all that there was");
        assert!(!mailbox.take(&message(5), false, true), "that as well");
        assert!(mailbox.take(&message(6), false, true) && !mailbox.take(&message(6), false, true));
        // The connection was lost, and messages with it.
        mailbox.lost();
        mailbox.joined(&joined(9), true);
        assert!(mailbox.is_missing());
        assert!(!mailbox.take(&message(11), false, false) && !mailbox.take(&message(10), false, false));
        assert!((7..=9).all(|sequence| mailbox.take(&message(sequence), false, false)), "what was fetched");
        assert!(!mailbox.is_missing() && !mailbox.take(&message(10), false, false), "this was fetched as well");
        assert_eq!(held(&mut mailbox), [10, 11]);
    }

    //
    #[test]
    fn a_room_that_was_opened_anew_counts_from_its_beginning() {
        let mut mailbox = Mailbox::default();
        mailbox.joined(&joined(40), false);
        mailbox.lost();
        mailbox.joined(&joined(0), true);
        assert!(!mailbox.is_missing() && mailbox.take(&message(1), false, true));
    }

    //
    #[test]
    fn whoever_is_behind_keeps_messages_for_the_next_place_up_to_a_bound() {
        let mut mailbox = Mailbox::default();
        mailbox.joined(&joined(0), false);
        assert!(!mailbox.take(&message(1), true, false), "not in the relay's room: they will be fetched");
        assert_eq!(held(&mut mailbox), [0; 0]);
        assert!((1..=HELD_MAX as u64 + 8).all(|sequence| !mailbox.take(&message(sequence), true, true)));
        assert_eq!(held(&mut mailbox).len(), HELD_MAX);
    }
}
