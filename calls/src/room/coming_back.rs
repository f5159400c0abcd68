//! Where to knock at a room that went on without us, and when to knock again.

use std::{collections::VecDeque, time::Duration};

use supernode_e2ee::{LinkSecret, Pass};
use supernode_proto::control::RefusalReason;
use supernode_session::{Backoff, Moment, Patience, Refusal};

use super::{CallEnd, RoomState, Uniform};

/// So often somebody who has not been in the room is told that it is not empty, and that nobody is in it whom the relay may
/// ring for them, until that is no matter of who came and went in between: those inside have shut them out.
const SHUT_OUT_AFTER: u32 = 4;

/// A way to be let in.
#[derive(Debug, Clone)]
pub enum Way {
    /// By the link of the room: whoever is inside is rung ([`Calling::at_door`](crate::rings::Calling::at_door)).
    Link(LinkSecret),
    /// By a member who gave us this pass ([`Calling::by_pass`](crate::rings::Calling::by_pass)).
    Door(Box<Pass>),
    /// By the place in the group that we have ([`Entry::with_old_place`](super::Entry::with_old_place)): nobody may be inside
    /// any more.
    OldPlace,
}

/// Why a way did not lead inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    /// The relay rang nobody for us.
    NobodyRung,
    /// It may pass by itself.
    Passing,
    /// A member does not let us in.
    NotLetIn,
    /// Another attempt would end in the same way.
    Lasting,
}

impl Hindrance {
    /// What the relay refused it for.
    pub fn of_refusal(refusal: &Refusal) -> Self {
        if refusal.reason == RefusalReason::Offline { Self::NobodyRung } else { Self::Passing }
    }
}

/// What comes next on the way back into a room.
#[derive(Debug)]
pub enum NextWay {
    /// To knock there, and to come in with the place in the group that a member gives us
    /// ([`Entry::let_in`](super::Entry::let_in)). If we are not in then, or are behind again: [`ComingBack::handle_failed`].
    Try(Way),
    /// Nothing for so long. Then [`ComingBack::begin`].
    Wait(Duration),
    /// Nobody lets us in: it is over for us.
    Over(CallEnd),
}

/// How we come back into a room that went on without us: by each way that there is, again and again.
#[derive(Debug)]
pub struct ComingBack {
    backoff: Backoff,
    give_up_at: Moment,
    nobody_rung: u32,
    /// All ways were tried before.
    is_again: bool,
    /// Those that are still to be tried before we wait.
    ways: VecDeque<Way>,
}

impl ComingBack {
    /// Begins to be patient.
    pub fn new(patience: &Patience, now: Moment) -> Self {
        Self {
            backoff: Backoff::new(patience.backoff_base, patience.backoff_max),
            give_up_at: now + patience.give_up_after,
            nobody_rung: 0,
            is_again: false,
            ways: VecDeque::new(),
        }
    }

    /// Tries all ways: the link of the room, if it stands, and the passes of those in it. Before it tries them again, it tries
    /// whether the room is empty, and leaves it: of members who all cannot follow nobody can let anybody in, and whoever comes
    /// first once all have left opens the room again.
    pub fn begin(&mut self, state: &RoomState, link: Option<&LinkSecret>) -> NextWay {
        let doors = state.doors().into_iter().map(|pass| Way::Door(Box::new(pass)));
        let old_place = (self.is_again && state.has_old_place()).then_some(Way::OldPlace);
        self.is_again = true;
        self.ways = old_place.into_iter().chain(link.cloned().map(Way::Link)).chain(doors).collect();
        // Without a link, and without anybody who has given us a pass, nobody can be asked.
        self.ways.pop_front().map_or(NextWay::Over(CallEnd::MissedKeys), NextWay::Try)
    }

    /// The last way did not lead inside. What the last of all did not for is what says whether they are tried again.
    pub fn handle_failed(&mut self, why: Hindrance, state: &RoomState, now: Moment, uniform: Uniform<'_>) -> NextWay {
        if let Some(way) = self.ways.pop_front() {
            return NextWay::Try(way);
        }
        self.nobody_rung = if why == Hindrance::NobodyRung { self.nobody_rung + 1 } else { 0 };
        match why {
            Hindrance::NotLetIn => NextWay::Over(CallEnd::NotLetIn),
            _ if self.nobody_rung >= SHUT_OUT_AFTER && state.is_new_to_us() => NextWay::Over(CallEnd::NotLetIn),
            Hindrance::NobodyRung | Hindrance::Passing if now < self.give_up_at => {
                NextWay::Wait(self.backoff.next_wait(uniform))
            }
            _ => NextWay::Over(CallEnd::MissedKeys),
        }
    }
}
