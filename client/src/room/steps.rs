//! What comes to a room, each in the order in which the relay said it.

use std::sync::Arc;

use supernode_calls::room::{Progress, Rejection, Settled, Step};
use supernode_e2ee::{Change, Group};
use supernode_proto::control::{BeaconPosted, CommitRejected, MemberJoined, MlsDelivery, relay_message};
use supernode_session::Refusal;

use super::Room;
use crate::{
    Error,
    rights::door::Place,
    sync::lock,
    tracks::frame::unix_s,
    wire::{backoff::random_wait, clock, link::Link},
};

impl Room {
    /// The reply to a request on the way in.
    pub(crate) fn handle_entry_reply(
        self: &Arc<Self>,
        link: &Link,
        step: Step,
        reply: Result<&relay_message::Body, &Refusal>,
    ) {
        let Progress { wishes, is_caught_up } = lock(&self.state).handle_entry_reply(step, reply, clock::moment());
        self.grant(Some(link), wishes);
        if is_caught_up {
            self.handle_caught_up(link);
        }
    }

    /// We are in and have what there was to fetch. What came meanwhile has its turn now.
    fn handle_caught_up(self: &Arc<Self>, link: &Link) {
        let mut membership = lock(&self.membership);
        membership.discard_own();
        let wishes = lock(&self.state).handle_caught_up(link.generation, membership.epoch());
        drop(membership);
        self.grant(Some(link), wishes);
    }

    /// The connection is gone, or our place on it; what hung on it goes with it.
    pub(crate) fn handle_link_lost(self: &Arc<Self>) {
        let wishes = lock(&self.state).handle_lost();
        self.grant(None, wishes);
    }

    /// Somebody is in the relay's room.
    pub(crate) fn handle_member_joined(self: &Arc<Self>, joined: &MemberJoined) {
        let wishes = lock(&self.state).handle_member_joined(joined, clock::moment());
        self.grant(None, wishes);
    }

    /// Somebody is not in the relay's room any more. Whether that was us.
    pub(crate) fn handle_member_left(self: &Arc<Self>, number: u32) -> bool {
        let told = lock(&self.state).handle_member_left(number, clock::moment());
        match told {
            Some(wishes) => self.grant(None, wishes),
            None => {
                self.handle_link_lost();
                return true;
            }
        }
        false
    }

    /// The relay has put somebody out whom the group does not know.
    pub(crate) fn forget_outsider(self: &Arc<Self>, number: u32) {
        let wishes = lock(&self.state).forget_outsider(number);
        self.grant(None, wishes);
    }

    /// Somebody says which epoch they are in, or the relay says that they do.
    pub(crate) fn handle_beacon(&self, posted: &BeaconPosted) {
        if lock(&self.state).handle_beacon(posted, clock::moment()) {
            self.changed.send_replace(());
        } else {
            tracing::debug!("a beacon that is not from whom the relay says");
        }
    }

    /// A person has seen that there is a split, and goes on with those who are in our part.
    pub(crate) fn accept_split(&self) {
        lock(&self.state).accept_split();
        self.changed.send_replace(());
    }

    /// A message of the group.
    pub(crate) fn handle_mls(self: &Arc<Self>, link: &Link, delivery: &MlsDelivery) {
        self.follow(Some(link), delivery);
    }

    /// As [`Self::handle_mls`]; without a connection, nothing is told to the relay.
    pub(super) fn follow(self: &Arc<Self>, link: Option<&Link>, delivery: &MlsDelivery) {
        let mut membership = lock(&self.membership);
        if !lock(&self.state).take(delivery) {
            return;
        }
        let read = membership.read(delivery, unix_s());
        if let Some(error) = read.error() {
            tracing::debug!(%error, commit = delivery.commit, "a message of the group was refused");
        }
        let wishes = lock(&self.state).handle_read(delivery, read, clock::moment(), &random_wait);
        drop(membership);
        self.grant(link, wishes);
    }

    /// Most could not process a commit, or the relay says so: it does not count.
    pub(crate) fn handle_commit_rejected(self: &Arc<Self>, rejected: &CommitRejected) {
        let mut membership = lock(&self.membership);
        let rejection = membership.handle_rejected(rejected);
        if let Rejection::CannotGoBack(error) = &rejection {
            tracing::debug!(%error, "a commit that we followed was rejected, and we cannot go back");
        }
        let wishes = lock(&self.state).handle_rejected(rejection, clock::moment());
        drop(membership);
        self.grant(None, wishes);
    }

    /// Makes a commit that is pending until [`Self::handle_own_commit`].
    pub(crate) fn make_commit(
        &self,
        make: impl FnOnce(&mut Group) -> Result<Option<Change>, supernode_e2ee::Error>,
    ) -> Result<Option<Change>, Error> {
        Ok(lock(&self.membership).make_commit(make)?)
    }

    /// The relay took our commit, or another's came first.
    pub(crate) fn handle_own_commit(self: &Arc<Self>, is_accepted: bool) {
        let mut membership = lock(&self.membership);
        let settled = membership.settle(is_accepted);
        if let Settled::CannotFollow(error) = &settled {
            tracing::debug!(%error, "our own commit does not merge");
        }
        let wishes = lock(&self.state).handle_settled(settled, clock::moment(), &random_wait);
        drop(membership);
        self.grant(None, wishes);
    }

    /// The group moved on and we could not follow.
    pub(crate) fn fall_behind(self: &Arc<Self>) {
        let wishes = lock(&self.state).fall_behind();
        self.grant(None, wishes);
    }

    /// We were let in again: the room goes on with another place in its group, from what came meanwhile.
    pub(crate) fn take_place(self: &Arc<Self>, link: &Link, place: Place) -> Result<(), Error> {
        let Place { group, admission } = place;
        if group.room() != self.id {
            return Err(Error::Protocol("an admission to another room"));
        }
        let mut membership = lock(&self.membership);
        let snapshot = membership.replace(group)?;
        let wishes = lock(&self.state).handle_replaced(snapshot, clock::moment(), &random_wait);
        drop(membership);
        self.grant(Some(link), wishes);
        lock(&self.state).learn_doors(&admission);
        Ok(())
    }

    /// What is kept of past epochs goes when its time has come.
    pub(super) fn forget_past_epochs(&self) {
        let mut membership = lock(&self.membership);
        if lock(&self.state).forget_past_epochs(clock::moment()) {
            membership.forget_previous();
        }
    }
}
