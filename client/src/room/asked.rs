//! What others ask of a room, and wait for.

use std::{sync::Arc, time::Duration};

use supernode_calls::{
    rights::{Admission, Said},
    room::{Answer, ComingBack, Entry, Hindrance, Knocker, NextStep, NextWay, Step},
};
use supernode_e2ee::Keys;
use supernode_proto::{control::client_message, identity::IdentityKey};
use supernode_session::Moment;
use tokio::sync::mpsc;

use super::{Member, Room, RosterEntry};
use crate::{
    Error,
    error::CallEnd,
    sync::lock,
    tracks::frame::unix_s,
    wire::{backoff::random_wait, clock, link::Link},
};

impl Room {
    /// The request of a step on the way in.
    pub(crate) fn entry_request(&self, step: Step, link: &Link) -> Result<client_message::Body, Error> {
        let door = self.hosting.as_ref().map(|hosting| &hosting.door);
        Ok(lock(&self.state).entry_request(step, &link.channel, door)?)
    }

    pub(crate) fn next_step(&self, entry: &mut Entry, answer: Answer<'_>) -> NextStep {
        entry.handle_answer(answer, &lock(&self.state))
    }

    /// A way in after the relay has put us out.
    pub(crate) fn entry_after_put_out(&self) -> (Entry, NextStep) {
        Entry::put_out(&mut lock(&self.state))
    }

    /// A way in on this connection with a place that a member has given us.
    pub(crate) fn entry_let_in(&self, link: &Link) -> (Entry, NextStep) {
        Entry::let_in(&lock(&self.state), link.generation)
    }

    /// A way in on this connection with the place that we have although the group moved on.
    pub(crate) fn entry_with_old_place(&self, link: &Link) -> (Entry, NextStep) {
        Entry::with_old_place(&lock(&self.state), link.generation)
    }

    /// The next way to be let in again, once those before have failed for this.
    pub(crate) fn next_way(&self, coming: &mut ComingBack, failed: Option<Hindrance>) -> NextWay {
        let state = lock(&self.state);
        match failed {
            Some(why) => coming.handle_failed(why, &state, clock::moment(), &random_wait),
            None => coming.begin(&state, self.hosting.as_ref().and_then(|hosting| hosting.door.link())),
        }
    }

    pub(crate) fn leave_request(&self) -> client_message::Body {
        lock(&self.state).leave_request()
    }

    pub(crate) fn kick_request(&self, number: u32) -> client_message::Body {
        lock(&self.state).kick_request(number)
    }

    pub(crate) fn end(&self) -> Option<CallEnd> {
        self.end.get().copied()
    }

    pub(crate) fn members(&self) -> Vec<Member> {
        lock(&self.state).members()
    }

    pub(crate) fn member_number(&self, member: &Member) -> Option<u32> {
        lock(&self.state).member_number(member)
    }

    pub(crate) fn numbers_of(&self, identity: &IdentityKey) -> Vec<u32> {
        lock(&self.state).numbers_of(identity)
    }

    pub(crate) fn outsiders(&self) -> usize {
        lock(&self.state).outsiders()
    }

    pub(crate) fn roster(&self) -> Vec<RosterEntry> {
        lock(&self.state).roster()
    }

    pub(crate) fn hosts(&self) -> Vec<IdentityKey> {
        lock(&self.state).hosts()
    }

    pub(crate) fn keys(&self) -> Keys {
        lock(&self.state).keys()
    }

    pub(crate) fn safety_number(&self) -> Result<String, Error> {
        Ok(lock(&self.state).group().safety_number()?.to_owned())
    }

    pub(crate) fn split_from(&self) -> Vec<Member> {
        lock(&self.state).split_from()
    }

    pub(crate) fn epoch(&self) -> u64 {
        lock(&self.state).epoch()
    }

    pub(crate) fn is_behind(&self) -> bool {
        lock(&self.state).is_behind()
    }

    pub(crate) fn is_entered_on(&self, generation: u64) -> bool {
        lock(&self.state).is_entered_on(generation)
    }

    pub(crate) fn knocker(&self, member: &Member) -> Knocker {
        lock(&self.state).knocker(member)
    }

    pub(crate) fn pause_at_door(&self) -> Duration {
        lock(&self.state).pause_at_door()
    }

    pub(crate) fn forgive(&self, identity: &IdentityKey) {
        lock(&self.state).forgive(identity);
    }

    /// What a guest is given who has this Welcome; `None` in a call, which has no door.
    pub(crate) fn admission(&self, welcome: Vec<u8>) -> Option<Admission> {
        let hosting = self.hosting.as_ref()?;
        Some(lock(&self.state).admission(&hosting.door, welcome, unix_s()))
    }

    /// A message for the group, sealed in the epoch that it is in.
    pub(crate) fn message(&self, message: &[u8]) -> Result<client_message::Body, Error> {
        Ok(lock(&self.membership).message(message)?)
    }

    /// Opens a message of the group that did not come through the mailbox. A commit has to.
    pub(crate) fn open_aside(&self, sealed: &[u8]) -> Option<(Member, Vec<u8>)> {
        lock(&self.membership).open_aside(sealed, unix_s())
    }

    /// What others say to whoever is at a door; to be had once.
    pub(crate) fn listen(&self) -> Option<mpsc::Receiver<(Member, Said)>> {
        lock(&self.said_to_us).take()
    }

    /// When it is over because all others are gone: see [`supernode_calls::room::RoomState::over_at`].
    pub(crate) fn over_at(&self, grace: Duration) -> Option<Moment> {
        let said_goodbye = self.said_goodbye();
        lock(&self.state).over_at(said_goodbye, grace, clock::moment())
    }

    /// Waits until the group is in this epoch or a later one.
    pub(crate) async fn wait_for_epoch(self: &Arc<Self>, epoch: u64) {
        self.wait_until(|room| room.epoch() >= epoch).await;
    }

    /// Waits until it is so or the room is over for us.
    pub(crate) async fn wait_until(self: &Arc<Self>, is_so: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        while !is_so(self) && self.end().is_none() && changed.changed().await.is_ok() {}
    }
}
