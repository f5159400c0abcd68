//! How we come into the relay's room: for the first time, or again after our connection or our place there was lost.

use std::time::Duration;

use supernode_e2ee::Error;
use supernode_proto::control::{RefusalReason, client_message, relay_message};
use supernode_session::{Channel, Moment, Refusal};

use super::RoomState;
use crate::{rights::Door, room::Wish};

/// How often we knock at a room that we were in, in all: the others may be about to change its key.
const ATTEMPTS_MAX: u32 = 5;
/// How far apart.
const PAUSE: Duration = Duration::from_millis(300);

/// What is asked of the relay on the way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// What was said while we were away, of which the newest join key is made.
    CatchUpBefore,
    /// To be let in.
    Join,
    /// What came between the last message that we have and our joining.
    CatchUpAfter,
}

/// A way into the relay's room, one request after the other: [`RoomState::entry_request`] of each step. Its reply has its
/// effect in its place among all that the relay says ([`RoomState::handle_entry_reply`]); then [`Self::next`] says what to do.
#[derive(Debug)]
pub struct Entry {
    step: Step,
    is_again: bool,
    attempts: u32,
}

/// What comes next on the way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// To ask for this, after this wait.
    Ask(Step, Duration),
    /// We are in, or know that we are behind ([`RoomState::is_behind`]).
    Done,
    /// The relay does not let us in.
    Refused,
}

/// What a reply on the way in leads to.
#[derive(Debug, PartialEq)]
pub struct Progress {
    /// To be granted first.
    pub wishes: Vec<Wish>,
    /// Nothing is missing: [`RoomState::handle_caught_up`] comes before anything else that the relay says.
    pub is_caught_up: bool,
}

impl Entry {
    /// For the first time, with the place in the group that we have now.
    pub fn first() -> Self {
        Self { step: Step::Join, is_again: false, attempts: 1 }
    }

    /// With a place that we were in with before.
    pub fn again() -> Self {
        Self { step: Step::CatchUpBefore, is_again: true, attempts: 1 }
    }

    /// What to ask for now.
    pub fn step(&self) -> Step {
        self.step
    }

    /// The last request was granted, or refused for this.
    pub fn next(&mut self, refusal: Option<&Refusal>, state: &RoomState) -> NextStep {
        let (step, wait) = match (self.step, refusal) {
            // Refused, the room is not there any more, or not the one that it was: joining shows.
            (Step::CatchUpBefore, _) => (Step::Join, Duration::ZERO),
            (Step::Join, None) if state.is_missing_messages() => (Step::CatchUpAfter, Duration::ZERO),
            (Step::Join | Step::CatchUpAfter, None) => return NextStep::Done,
            (Step::Join, Some(refusal))
                if refusal.reason == RefusalReason::JoinProof && self.may_knock_again(state) =>
            {
                self.attempts += 1;
                (Step::Join, PAUSE)
            }
            (Step::Join | Step::CatchUpAfter, Some(_)) => return NextStep::Refused,
        };
        self.step = step;
        NextStep::Ask(step, wait)
    }

    /// Into a room with a door somebody inside can let us.
    fn may_knock_again(&self, state: &RoomState) -> bool {
        self.is_again && !state.has_door && self.attempts < ATTEMPTS_MAX
    }
}

impl RoomState {
    /// The request of a step, on the connection whose channel this is. Of a room that stands, `door` shows that it may be on
    /// us to open it.
    ///
    /// # Errors
    /// [`Error::Removed`].
    pub fn entry_request(
        &self,
        step: Step,
        channel: &Channel,
        door: Option<&Door>,
    ) -> Result<client_message::Body, Error> {
        match step {
            Step::CatchUpBefore | Step::CatchUpAfter => Ok(self.catch_up_request()),
            Step::Join => self.join_request(channel, door),
        }
    }

    /// The reply to a step's request.
    pub fn handle_entry_reply(
        &mut self,
        step: Step,
        reply: Result<&relay_message::Body, &Refusal>,
        now: Moment,
    ) -> Progress {
        match (step, reply) {
            (Step::Join, Ok(relay_message::Body::RoomJoined(joined))) => {
                let wishes = self.handle_joined(joined, now);
                Progress { wishes, is_caught_up: !self.is_missing_messages() }
            }
            (Step::CatchUpAfter, Ok(_)) => Progress { wishes: Vec::new(), is_caught_up: true },
            // What came before our joining is not to be had.
            (Step::CatchUpAfter, Err(_)) => Progress { wishes: self.fall_behind(), is_caught_up: false },
            (Step::Join | Step::CatchUpBefore, _) => Progress { wishes: Vec::new(), is_caught_up: false },
        }
    }
}
