//! The group's messages: in the mailbox's order, from where we were, and what becomes of a commit.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use supernode_calls::rights::{self, Said};
use supernode_e2ee::{Change, Group, Processed};
use supernode_proto::{
    control::{CatchUp, CommitRejected, MlsDelivery, RejectCommit, RoomJoined, RotateJoinKey, SendMls, client_message},
    identity::JoinKey,
    mls::Envelope,
};
use tokio::sync::mpsc;

use super::{Member, Room, State, renewal::GOES_BACK_FOR};
use crate::{CallEvent, Error, Warning, error::CallEnd, sync::lock, tracks::frame::unix_s, wire::link::Link};

/// Messages that came while what lies before them was fetched: more than a relay keeps of a room.
const HELD_MAX: usize = 512;
/// How long the others have to agree that a commit is junk, before we take ourselves for the one who cannot read it.
const REJECTION_TIMEOUT: Duration = Duration::from_secs(3);
/// Of the members who are here and did not make the commit, so many see to it that the door has the right key: one could
/// be in league with whoever gave it a wrong one.
const DOOR_KEEPERS: usize = 3;

/// What our pending commit says.
#[derive(Default)]
pub(super) struct Pending {
    /// Those whom it removes are put out.
    puts_out: bool,
    /// It brings fresh keys.
    renews: bool,
}

/// How far we have read.
#[derive(Default)]
pub(super) struct Mailbox {
    /// The newest message that we have.
    sequence: u64,
    /// What the room had when we joined: messages after `sequence` up to it are to be fetched.
    missing_to: u64,
    /// The room's epoch when we joined.
    joined_epoch: u64,
    held: BTreeMap<u64, MlsDelivery>,
    /// When we gave a commit back that makes no sense.
    rejected_at: Option<Instant>,
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
        self.joined_epoch = joined.mls_epoch;
    }

    pub(super) fn lost(&mut self) {
        self.held.clear();
        self.missing_to = 0;
        self.rejected_at = None;
    }

    fn is_missing(&self) -> bool {
        self.sequence < self.missing_to
    }
}

impl Room {
    /// A message of the group.
    pub(crate) fn handle_mls(self: &Arc<Self>, link: &Link, delivery: &MlsDelivery) {
        if let Some(answer) = self.follow(delivery) {
            link.send(answer, None);
        }
    }

    /// As [`Self::handle_mls`]; what to tell the relay.
    pub(super) fn follow(self: &Arc<Self>, delivery: &MlsDelivery) -> Option<client_message::Body> {
        let mut group = lock(&self.group);
        let mut state = lock(&self.state);
        if delivery.sequence <= state.mailbox.sequence || self.end.get().is_some() {
            return None;
        }
        let (is_behind, is_in) = (state.behind, state.entered_on.is_some());
        let mailbox = &mut state.mailbox;
        // Behind, this group can read nothing any more; the one that we will be let into may.
        if is_behind || mailbox.is_missing() && delivery.sequence > mailbox.missing_to {
            if (is_in || !is_behind) && mailbox.held.len() < HELD_MAX {
                mailbox.held.insert(delivery.sequence, delivery.clone());
            }
            return None;
        }
        mailbox.sequence = delivery.sequence;
        drop(state);
        // What is said of a message is the relay's word; what it is, is sealed in it.
        let said = Envelope { room: self.id, epoch: delivery.epoch, commit: delivery.commit };
        if let Err(error) = said.check(&delivery.payload) {
            tracing::debug!(%error, "a message of the group is not what the relay says");
            drop(group);
            self.tell(CallEvent::Warning(Warning::FalseEnvelope));
            return None;
        }
        let before = group.epoch();
        let processed = group.process(&delivery.payload, &|identity| self.expected.holds(identity), unix_s());
        // What counts as a commit at the relay, and is none to us, makes us part ways with it.
        let is_ours = matches!(processed, Ok(Processed::Own));
        let is_junk = delivery.commit && delivery.epoch == before && !is_ours && group.epoch() == before;
        match processed {
            Ok(Processed::EpochChanged { by, put_out, renewed, removed, .. }) => {
                let snapshot = match self.install(&group) {
                    Ok(snapshot) => snapshot,
                    Err(error) => {
                        drop(group);
                        tracing::debug!(%error, "an epoch that we entered cannot be used");
                        self.fall_behind();
                        return None;
                    }
                };
                let mut state = lock(&self.state);
                state.group = snapshot;
                let told = state.note_removed(&removed, by.into(), put_out);
                let door_key = state.door_key_to_replace(delivery, by);
                let early = self.note_installed(&mut state, false);
                drop((state, group));
                if renewed {
                    self.note_renewed(false, Instant::now());
                }
                let answer = door_key.map(|right| self.replace_door_key(right, by.into()));
                self.tell_all(told);
                self.use_keys(early);
                return answer;
            }
            Ok(Processed::RemovedOurselves { by, put_out }) => {
                lock(&self.state).group.end();
                drop(group);
                self.tell(CallEvent::Removed { who: self.ourselves, by: by.into(), put_out });
                // Who was only taken for gone may knock; a call of those who were rung has no door.
                if put_out || self.hosting.is_none() { self.end_with(CallEnd::Removed) } else { self.fall_behind() }
            }
            Ok(Processed::Message { from, bytes }) if !is_junk => {
                drop(group);
                self.take_message(&mut lock(&self.state), from.into(), &bytes);
                self.changed.send_replace(());
            }
            // Told late that it counts: we were away when it was accepted.
            Ok(Processed::Own) if delivery.commit && delivery.epoch == before => {
                drop(group);
                self.handle_own_commit(true);
            }
            Ok(Processed::Own | Processed::Ignored | Processed::Message { .. }) if !is_junk => {}
            refused => {
                drop(group);
                if let Err(error) = refused {
                    tracing::debug!(%error, commit = delivery.commit, "a message of the group was refused");
                }
                if !delivery.commit {
                    return None;
                }
                if is_junk && self.hosting.is_some() {
                    lock(&self.state).mailbox.rejected_at = Some(Instant::now());
                    return Some(self.reject(delivery));
                }
                // Whoever follows a commit that we refuse is in another group now.
                self.fall_behind();
            }
        }
        None
    }

    fn take_message(&self, state: &mut State, from: Member, bytes: &[u8]) {
        match rights::read(bytes) {
            Some(Said::Goodbye(_)) => state.note_goodbye(from.device),
            // What does not fit was sent by somebody who does not wait for an answer.
            Some(said) => drop(self.said.try_send((from, said))),
            None => {}
        }
    }

    /// Gives a commit back that we cannot process: when most cannot, its epoch is open again.
    fn reject(&self, delivery: &MlsDelivery) -> client_message::Body {
        let MlsDelivery { room, epoch, sequence, .. } = delivery.clone();
        self.changed.send_replace(());
        client_message::Body::RejectCommit(RejectCommit { room, epoch, sequence })
    }

    /// Most could not process a commit, or the relay says so: it does not count. Whoever followed it goes back to the epoch
    /// before, and sends nothing there as long as somebody is in the group again whom that commit had removed
    /// so to take a commit back opens nothing to anybody.
    pub(crate) fn handle_commit_rejected(self: &Arc<Self>, rejected: &CommitRejected) {
        let mut group = lock(&self.group);
        lock(&self.state).mailbox.rejected_at = None;
        let epoch = group.epoch();
        if epoch <= rejected.epoch {
            drop(group);
            self.changed.send_replace(());
            return;
        }
        let went_back = if epoch == rejected.epoch + 1 { self.go_back(&mut group) } else { Err(Error::Disconnected) };
        drop(group);
        match went_back {
            Ok(()) => self.use_keys(self.frame_keys.take_early()),
            Err(error) => {
                tracing::debug!(%error, "a commit that we followed was rejected, and we cannot go back");
                self.fall_behind();
            }
        }
    }

    /// When we stop waiting for the others to reject what we did.
    pub(crate) fn rejection_deadline(&self) -> Option<Instant> {
        lock(&self.state).mailbox.rejected_at.map(|at| at + REJECTION_TIMEOUT)
    }

    /// The request for what we have missed.
    pub(crate) fn catch_up_request(&self) -> client_message::Body {
        let after_sequence = lock(&self.state).mailbox.sequence;
        client_message::Body::CatchUp(CatchUp { room: Bytes::copy_from_slice(&self.id.0), after_sequence })
    }

    /// Whether messages before our joining have not come yet.
    pub(crate) fn is_missing_messages(&self) -> bool {
        lock(&self.state).mailbox.is_missing()
    }

    /// Goes back to the epoch before.
    fn go_back(&self, group: &mut Group) -> Result<(), Error> {
        let again = group.go_back()?;
        // Before anything can be sealed for them.
        lock(&self.must_go).extend(again.iter().map(|member| member.device));
        let snapshot = group.snapshot()?;
        self.frame_keys.restart(&group.epoch_keys()?)?;
        let mut state = lock(&self.state);
        state.group = snapshot;
        self.note_epoch(&mut state, false);
        // Whoever has no place in the group may have had a voice in this.
        state.suspect_outsiders();
        Ok(())
    }

    /// We are in and have what there was to fetch. What came meanwhile has its turn now.
    pub(crate) fn handle_caught_up(self: &Arc<Self>, link: &Link) {
        let mut group = lock(&self.group);
        let mut state = lock(&self.state);
        let mailbox = &mut state.mailbox;
        mailbox.sequence = mailbox.sequence.max(mailbox.missing_to);
        state.entered_on = Some(link.generation);
        let mailbox = &mut state.mailbox;
        let (epoch, again) = (mailbox.joined_epoch, mailbox.again);
        drop(state);
        // Had the relay taken it, we would have been told.
        if let Err(error) = group.discard_own() {
            tracing::debug!(%error, "a commit of ours could not be discarded");
        }
        // Another epoch than ours means that the group moved on without us, and what it says now does not open.
        if epoch != group.epoch() {
            drop(group);
            return self.fall_behind();
        }
        let held = std::mem::take(&mut lock(&self.state).mailbox.held);
        drop(group);
        for delivery in held.values() {
            self.handle_mls(link, delivery);
        }
        if again {
            self.tell(CallEvent::Resumed);
        }
    }

    /// Makes a commit that is pending until [`Self::handle_own_commit`].
    pub(crate) fn make_commit(
        &self,
        make: impl FnOnce(&mut Group) -> Result<Option<Change>, supernode_e2ee::Error>,
    ) -> Result<Option<Change>, Error> {
        let mut group = lock(&self.group);
        let change = make(&mut group)?;
        lock(&self.state).pending = change
            .as_ref()
            .map_or_else(Pending::default, |change| Pending { puts_out: change.puts_out, renews: change.renews });
        Ok(change)
    }

    /// The relay took our commit, or another's came first.
    pub(crate) fn handle_own_commit(self: &Arc<Self>, accepted: bool) {
        let mut group = lock(&self.group);
        if !accepted {
            if let Err(error) = group.discard_own() {
                tracing::debug!(%error, "no commit of ours to discard");
            }
            return;
        }
        let before = group.members();
        let merged = group.merge_own().map_err(Error::from).and_then(|()| self.install(&group));
        let snapshot = match merged {
            Ok(snapshot) => snapshot,
            Err(error) => {
                drop(group);
                tracing::debug!(%error, "our own commit does not merge");
                return self.fall_behind();
            }
        };
        let removed: Vec<_> = before.into_iter().filter(|member| !snapshot.members.contains(member)).collect();
        let mut state = lock(&self.state);
        state.group = snapshot;
        let Pending { puts_out, renews } = std::mem::take(&mut state.pending);
        let told = state.note_removed(&removed, self.ourselves, puts_out);
        let early = self.note_installed(&mut state, true);
        drop((state, group));
        if renews {
            self.note_renewed(true, Instant::now());
        }
        self.tell_all(told);
        self.use_keys(early);
    }

    /// The door opens by another key than this epoch's: by a mistake or a lie of whoever made the commit, or of the relay
    ///
    fn replace_door_key(&self, right: JoinKey, by: Member) -> client_message::Body {
        self.tell(CallEvent::Warning(Warning::WrongDoorKey(by)));
        let (room, join_key) = (Bytes::copy_from_slice(&self.id.0), Bytes::copy_from_slice(right.as_bytes()));
        client_message::Body::RotateJoinKey(RotateJoinKey { room, join_key })
    }

    /// The group moved on and we could not follow: a room is come back to by its door, a call is over.
    pub(crate) fn fall_behind(&self) {
        if self.hosting.is_none() {
            return self.end_with(CallEnd::MissedKeys);
        }
        let mut state = lock(&self.state);
        state.behind = true;
        state.mailbox.rejected_at = None;
        drop(state);
        self.changed.send_replace(());
    }

    /// We have left the relay's room, and have another place in its group.
    pub(crate) fn handle_left_to_come_in_anew(&self) {
        self.handle_link_lost();
        lock(&self.state).mailbox.left_just_now = true;
    }

    /// We were let in again: the room goes on with another place in its group, from what came meanwhile.
    pub(crate) fn replace_group(self: &Arc<Self>, link: &Link, group: Group) -> Result<(), Error> {
        if group.room() != self.id {
            return Err(Error::Protocol("an admission to another room"));
        }
        let mut ours = lock(&self.group);
        // Its epochs are not those of the place that we had, whatever their numbers: all keys begin anew.
        let snapshot = group.snapshot()?;
        self.frame_keys.restart(&group.epoch_keys()?)?;
        *ours = group;
        let mut state = lock(&self.state);
        state.group = snapshot;
        self.note_new_group(&mut state);
        lock(&self.must_go).clear();
        state.behind = false;
        state.mailbox.is_new = state.entered_on.is_none() && !std::mem::take(&mut state.mailbox.left_just_now);
        let held = std::mem::take(&mut state.mailbox.held);
        drop((state, ours));
        self.note_renewed(true, Instant::now());
        self.use_keys(self.frame_keys.take_early());
        for delivery in held.values() {
            self.handle_mls(link, delivery);
        }
        Ok(())
    }

    /// A message for the group, sealed in the epoch that it is in.
    pub(crate) fn message(&self, message: &[u8]) -> Result<client_message::Body, Error> {
        let mut group = lock(&self.group);
        let payload = group.seal_message(message)?.into();
        let (room, epoch) = (Bytes::copy_from_slice(&self.id.0), group.epoch());
        Ok(client_message::Body::SendMls(SendMls { room, epoch, commit: false, payload, join_key: Bytes::new() }))
    }

    /// Opens a message of the group that did not come through the mailbox. A commit has to.
    pub(crate) fn open_aside(&self, sealed: &[u8]) -> Option<(Member, Vec<u8>)> {
        let mut group = lock(&self.group);
        Envelope { room: self.id, epoch: group.epoch(), commit: false }.check(sealed).ok()?;
        match group.process(sealed, &|_| false, unix_s()) {
            Ok(Processed::Message { from, bytes }) => Some((from.into(), bytes)),
            _ => None,
        }
    }

    /// What others say to whoever is at a door; to be had once.
    pub(crate) fn listen(&self) -> Option<mpsc::Receiver<(Member, Said)>> {
        lock(&self.said_to_us).take()
    }
}

impl State {
    /// This epoch's join key, if the relay says that a commit came with another one and it is for us to replace it. While
    /// we catch up, what a commit came with is of the past.
    fn door_key_to_replace(&self, delivery: &MlsDelivery, by: supernode_e2ee::Member) -> Option<JoinKey> {
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

    /// How long the epoch before is kept from now on.
    pub(super) fn keep_epoch_before(&mut self) {
        self.goes_back_until = Some(Instant::now() + GOES_BACK_FOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::renewal::tests::room_of_two;

    #[test]
    fn a_commit_that_comes_with_an_answer_and_not_by_the_mailbox_is_not_followed() {
        let (_us, _other, room, mut at_other) = room_of_two();
        let said = at_other.seal_message(b"hello").expect("sealed");
        assert_eq!(room.open_aside(&said).map(|(_, bytes)| bytes), Some(b"hello".to_vec()));
        let epoch = room.epoch();
        let commit = at_other.propose_update().expect("made").commit;
        assert!(room.open_aside(&commit).is_none());
        assert_eq!((room.epoch(), lock(&room.group).epoch()), (epoch, epoch));
    }
}
