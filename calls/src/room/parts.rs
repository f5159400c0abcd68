//! A room whole, for whoever has one thread: what comes goes through its parts in the right order. Whoever locks them does the
//! same, with its locks.

use std::{sync::Arc, time::Duration};

use supernode_e2ee::Group;
use supernode_proto::control::{CommitRejected, MlsDelivery, relay_message};
use supernode_session::{Moment, Refusal};

use super::{FrameKeys, Membership, Progress, RoomState, Step, Uniform, Wish};
use crate::rights::Door;

/// A room's parts.
pub struct Parts {
    /// Our place in its group.
    pub membership: Membership,
    /// What is known of it.
    pub state: RoomState,
    /// What frames are sealed by.
    pub frame_keys: Arc<FrameKeys>,
}

impl Parts {
    /// Of a call, whose group holds exactly those who may be in it; with a door, of a room that its members let others into.
    /// Fresh keys come at least once in `renew_within`.
    ///
    /// # Errors
    /// [`supernode_e2ee::Error::Removed`] if we have no place in the group; what else the group says.
    pub fn new(
        group: Group,
        door: Option<&Door>,
        renew_within: Duration,
        now: Moment,
        uniform: Uniform<'_>,
    ) -> Result<Self, supernode_e2ee::Error> {
        let frame_keys = Arc::new(FrameKeys::new(&group.epoch_keys()?)?);
        let snapshot = group.snapshot()?;
        let state = RoomState::new(group.room(), snapshot, frame_keys.clone(), door, renew_within, now, uniform)?;
        let membership = Membership::new(group, frame_keys.clone(), door.is_some());
        Ok(Self { membership, state, frame_keys })
    }

    /// A message of the group.
    pub fn handle_delivery(
        &mut self,
        delivery: &MlsDelivery,
        unix_s: u64,
        now: Moment,
        uniform: Uniform<'_>,
    ) -> Vec<Wish> {
        if !self.state.take(delivery) {
            return Vec::new();
        }
        let read = self.membership.read(delivery, unix_s);
        self.state.handle_read(delivery, read, now, uniform)
    }

    /// The relay took our commit, or another's came first.
    pub fn handle_own_commit(&mut self, is_accepted: bool, now: Moment, uniform: Uniform<'_>) -> Vec<Wish> {
        let settled = self.membership.settle(is_accepted);
        self.state.handle_settled(settled, now, uniform)
    }

    /// Most could not process a commit, or the relay says so.
    pub fn handle_rejected(&mut self, rejected: &CommitRejected, now: Moment) -> Vec<Wish> {
        let rejection = self.membership.handle_rejected(rejected);
        self.state.handle_rejected(rejection, now)
    }

    /// The reply to a request on the way in, on this connection.
    pub fn handle_entry_reply(
        &mut self,
        step: Step,
        reply: Result<&relay_message::Body, &Refusal>,
        connection: u64,
        now: Moment,
    ) -> Vec<Wish> {
        let Progress { mut wishes, is_caught_up } = self.state.handle_entry_reply(step, reply, now);
        if is_caught_up {
            self.membership.discard_own();
            wishes.extend(self.state.handle_caught_up(connection, self.membership.epoch()));
        }
        wishes
    }

    /// We were let in again, and have another place in the group.
    ///
    /// # Errors
    /// As [`Membership::replace`].
    pub fn handle_let_in(
        &mut self,
        group: Group,
        now: Moment,
        uniform: Uniform<'_>,
    ) -> Result<Vec<Wish>, supernode_e2ee::Error> {
        let snapshot = self.membership.replace(group)?;
        Ok(self.state.handle_replaced(snapshot, now, uniform))
    }

    /// What is kept of past epochs goes when its time has come.
    pub fn forget_past_epochs(&mut self, now: Moment) {
        if self.state.forget_past_epochs(now) {
            self.membership.forget_previous();
        }
    }
}
