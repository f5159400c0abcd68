//! How we come into the relay's room: for the first time; again, after our connection or our place there was lost; or with
//! another place in the group.

use std::time::Duration;

use supernode_e2ee::Error;
use supernode_proto::control::{RefusalReason, client_message, relay_message};
use supernode_session::{Channel, Moment, Refusal};

use super::RoomState;
use crate::{
    rights::Door,
    room::{CallEnd, Wish},
};

/// How often we knock at a room that we were in, in all: the others may be about to change its key.
const ATTEMPTS_MAX: u32 = 5;
/// How far apart.
const PAUSE: Duration = Duration::from_millis(300);

/// What is asked of the relay on the way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// To take us out of its room, where we are or may be.
    Leave,
    /// What was said while we were away, of which the newest join key is made.
    CatchUpBefore,
    /// To be let in.
    Join,
    /// What came between the last message that we have and our joining.
    CatchUpAfter,
}

/// A way into the relay's room, one request after the other: [`RoomState::entry_request`] of each step. Its reply has its
/// effect in its place among all that the relay says ([`RoomState::handle_entry_reply`]); then [`Self::handle_answer`] says what
/// comes next. With its connection it is over: the next one is another way in.
#[derive(Debug)]
pub struct Entry {
    why: Why,
    step: Step,
    attempts: u32,
}

/// Why we come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    First,
    Again,
    PutOut,
    LetIn,
    OldPlace,
    /// The room is not empty, and our place is of the past there.
    TurnedAway,
}

/// What became of a step's request.
#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    /// It was granted.
    Granted,
    /// It was refused for this.
    Refused(&'a Refusal),
    /// The relay said nothing in time.
    Missing,
}

/// What comes next on the way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// To ask for this, after this wait.
    Ask(Step, Duration),
    /// To take the place in the group that a member has given us ([`RoomState::handle_replaced`]). Then
    /// [`Entry::handle_place_taken`].
    TakePlace,
    /// We are in, or know that we are behind ([`RoomState::is_behind`]).
    Done,
    /// The place in the group that we have is of no use any more: somebody inside is to give us another
    /// ([`RoomState::fall_behind`]).
    FallBehind,
    /// It is over for us.
    End(CallEnd),
    /// We are not let in, for what the relay said last: whoever asked hears of it.
    Failed,
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
    pub fn first() -> (Self, NextStep) {
        Self::begin(Why::First, NextStep::Ask(Step::Join, Duration::ZERO))
    }

    /// With a place that we were in with before, on another connection.
    pub fn again() -> (Self, NextStep) {
        Self::begin(Why::Again, NextStep::Ask(Step::CatchUpBefore, Duration::ZERO))
    }

    /// The relay has put us out of its room, and no member's commit did: each time we come in again a little later.
    pub fn put_out(state: &mut RoomState) -> (Self, NextStep) {
        // What the relay says may not be so: whoever is in cannot come in.
        Self::begin(Why::PutOut, NextStep::Ask(Step::Leave, state.pause_before_coming_in_again()))
    }

    /// With a place that a member has just given us, on this connection. Whoever was in the relay's room all the time is told no
    /// labels that were sealed again: it comes in anew.
    pub fn let_in(state: &RoomState, connection: u64) -> (Self, NextStep) {
        let is_in = state.is_entered_on(connection);
        Self::begin(Why::LetIn, if is_in { NextStep::Ask(Step::Leave, Duration::ZERO) } else { NextStep::TakePlace })
    }

    /// With the place that we have although the group moved on, on this connection: it is good where nobody is in the room any
    /// more, or the commit that we could not follow does not count. Else we are out of the relay's room afterwards.
    pub fn with_old_place(state: &RoomState, connection: u64) -> (Self, NextStep) {
        let step = if state.is_entered_on(connection) { Step::Leave } else { Step::Join };
        Self::begin(Why::OldPlace, NextStep::Ask(step, Duration::ZERO))
    }

    fn begin(why: Why, next: NextStep) -> (Self, NextStep) {
        let step = if let NextStep::Ask(step, _) = next { step } else { Step::Join };
        (Self { why, step, attempts: 1 }, next)
    }

    /// We have the place in the group that a member has given us.
    pub fn handle_place_taken(&mut self) -> NextStep {
        self.ask(Step::Join, Duration::ZERO)
    }

    /// What became of the last request.
    pub fn handle_answer(&mut self, answer: Answer<'_>, state: &RoomState) -> NextStep {
        match (self.step, answer) {
            (Step::Leave, Answer::Granted) if self.why == Why::LetIn => NextStep::TakePlace,
            (Step::Leave, Answer::Granted | Answer::Refused(_)) if self.why == Why::OldPlace => {
                self.ask(Step::Join, Duration::ZERO)
            }
            // Refused, we were not in.
            (Step::Leave, _) if self.why == Why::PutOut && state.is_behind() => NextStep::Done,
            (Step::Leave, _) if self.why == Why::PutOut => self.ask(Step::CatchUpBefore, Duration::ZERO),
            // Refused, the room is not there any more, or not the one that it was: joining shows.
            (Step::CatchUpBefore, Answer::Granted | Answer::Refused(_)) => self.ask(Step::Join, Duration::ZERO),
            (Step::Join, Answer::Granted) if state.is_missing_messages() => {
                self.ask(Step::CatchUpAfter, Duration::ZERO)
            }
            (Step::Join, Answer::Granted) | (Step::CatchUpAfter, Answer::Granted | Answer::Refused(_))
                if self.why == Why::OldPlace && state.is_behind() =>
            {
                self.why = Why::TurnedAway;
                self.ask(Step::Leave, Duration::ZERO)
            }
            (Step::Join | Step::CatchUpAfter, Answer::Granted) => NextStep::Done,
            (Step::Join, Answer::Refused(refusal)) => {
                let is_key = refusal.reason == RefusalReason::JoinProof;
                if is_key && self.may_knock_again(state) {
                    self.attempts += 1;
                    return self.ask(Step::Join, PAUSE);
                }
                self.handle_not_let_in(is_key, state)
            }
            (Step::Leave | Step::CatchUpBefore | Step::CatchUpAfter, _) | (Step::Join, Answer::Missing) => {
                self.handle_not_let_in(false, state)
            }
        }
    }

    fn ask(&mut self, step: Step, wait: Duration) -> NextStep {
        self.step = step;
        NextStep::Ask(step, wait)
    }

    /// Into a room with a door somebody inside can let us.
    fn may_knock_again(&self, state: &RoomState) -> bool {
        matches!(self.why, Why::Again | Why::PutOut) && !state.has_door && self.attempts < ATTEMPTS_MAX
    }

    /// `is_key` says that the room's key is another one.
    fn handle_not_let_in(&self, is_key: bool, state: &RoomState) -> NextStep {
        match self.why {
            // Somebody else came or went while we were at the door: our place is already of the past.
            Why::First if is_key && state.has_door => NextStep::FallBehind,
            Why::Again | Why::PutOut if state.has_door => NextStep::FallBehind,
            Why::Again | Why::PutOut => NextStep::End(CallEnd::NotLetIn),
            Why::First | Why::LetIn | Why::OldPlace | Why::TurnedAway => NextStep::Failed,
        }
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
            Step::Leave => Ok(self.leave_request()),
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
            // We may have been out already.
            (Step::Leave, Ok(_)) if self.entered_on.is_some() => {
                Progress { wishes: self.handle_left_to_come_in_anew(), is_caught_up: false }
            }
            (Step::Join, Ok(relay_message::Body::RoomJoined(joined))) => {
                let wishes = self.handle_joined(joined, now);
                Progress { wishes, is_caught_up: !self.is_missing_messages() }
            }
            (Step::CatchUpAfter, Ok(_)) => Progress { wishes: Vec::new(), is_caught_up: true },
            // What came before our joining is not to be had.
            (Step::CatchUpAfter, Err(_)) => Progress { wishes: self.fall_behind(), is_caught_up: false },
            (Step::Leave | Step::CatchUpBefore | Step::Join, _) => Progress { wishes: Vec::new(), is_caught_up: false },
        }
    }
}
