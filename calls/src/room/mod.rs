//! A room, or a call of those who were rung, as one of its members has it: without locks on time, tasks or timers.
//!
//! It is in three parts, so that whoever has threads can work on one while others ask another:
//!
//! - [`Membership`] is our place in the group: commits that are made and followed. Its work takes up to tens of
//!   milliseconds in a large room.
//! - [`RoomState`] is what is known of the room: who is here, how far its mailbox is read, what is due. It is changed by
//!   what the membership found, and answers at once.
//! - [`FrameKeys`] is what frames are sealed and opened by, for several threads at once. It waits for neither of the others.
//!
//! [`Tracks`] are those of its members, ours and those of others. [`Entry`] is the way into the relay's room; [`Attempts`] and [`ComingBack`] say when what did not come about is tried again.
//!
//! What comes goes to the membership first where it is for the group, and then, with what the membership made of it, to the
//! state: [`Membership::read`], then [`RoomState::handle_read`]. What is to be done about it comes back as [`Wish`]es, to be
//! granted in their order. [`Parts`] does so for whoever has one thread. Who locks does so in the order membership, state, and
//! what is inside the frame keys; whoever works on the membership keeps it until the state knows.
//!
//! Times never go back. `uniform` picks from the range that it is given.

mod attempts;
mod coming_back;
mod frame_keys;
mod membership;
mod parts;
mod state;
#[cfg(test)]
mod tests;
mod tracks;

use std::{
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use supernode_proto::control::{MlsDelivery, client_message};

use crate::{Member, rights::Said};

pub use attempts::{AfterRefusal, Attempts, WINNER_TIMEOUT, commit_message};
pub use coming_back::{ComingBack, Hindrance, NextWay, Way};
pub use frame_keys::{EarlyObjects, FrameKeys, Opened, SealedObject};
pub use membership::{Entered, Membership, Read, Rejection, Settled};
pub use parts::Parts;
pub use state::{
    Answer, Duty, Entry, Keeping, Knocker, NextStep, Progress, Removal, RoomState, RosterEntry, Step, has_left,
};
pub use tracks::{AlreadySubscribed, LocalId, RemoteId, Route, TrackWish, Tracks};

/// Picks from a range, all of it equally likely.
pub type Uniform<'a> = &'a dyn Fn(RangeInclusive<Duration>) -> Duration;

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Wish {
    /// People are to hear of it.
    Tell(Event),
    /// A member says something to whoever is at a door; what nobody waits for is dropped.
    Said(Member, Said),
    /// There are other keys. What waited for them opens, our tracks' labels are sealed again for whoever has only these
    /// labels that did not open are tried again, and tracks of those who have no place in the group any more are
    /// dropped.
    UseKeys,
    /// Our place in the relay's room is gone: no track is anywhere any more ([`Tracks::handle_lost`]).
    LoseRoutes,
    /// To the relay, of which nobody waits for the reply.
    Send(Box<client_message::Body>),
    /// It is this message's turn, which came before others that lie before it: as if it came now.
    Read(Box<MlsDelivery>),
    /// It is over for us.
    End(CallEnd),
}

impl From<Event> for Wish {
    fn from(event: Event) -> Self {
        Self::Tell(event)
    }
}

/// Something happened in a room. What it changed is asked of the [`RoomState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Somebody came.
    MemberJoined(Member),
    /// Somebody left, or their connection broke.
    MemberLeft(Member),
    /// Somebody has no place in the group any more, ourselves perhaps: whose commit it was is signed.
    Removed {
        /// Who.
        who: Member,
        /// By whom.
        by: Member,
        /// Put out by a host, or else only taken for gone: then they come back by any door.
        put_out: bool,
    },
    /// The group is in a new epoch: the safety number is another.
    KeysChanged,
    /// Everybody is in the same group again, or those who were not are gone.
    Healed,
    /// Something is not as it should be.
    Warning(Warning),
    /// The connection broke, or our place on it is gone.
    Interrupted,
    /// We are back in the room.
    Resumed,
}

/// What neither an honest relay nor an honest member does. What follows from it is said with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The relay passed on a message of the group and said of it what the message itself denies. It was dropped.
    FalseEnvelope,
    /// This member's commit came with another key for the door than the group's, or the relay says so. It was replaced.
    WrongDoorKey(Member),
    /// This call has been split: the member is in another group than we are, or what they send is kept from us. Nothing is
    /// sent until it is healed, or a person says to go on.
    Split(Member),
}

/// Why a call is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallEnd {
    /// We left.
    #[error("we left")]
    Left,
    /// All others left.
    #[error("all others left")]
    OthersLeft,
    /// Another member removed us.
    #[error("we were removed")]
    Removed,
    /// The room's keys moved on while we were away, so that we cannot follow.
    #[error("the keys changed while we were away")]
    MissedKeys,
    /// The relay would not let us back in.
    #[error("the relay did not let us back in")]
    NotLetIn,
    /// The client was closed or gave up on the relay.
    #[error("the session is gone")]
    SessionGone,
}

/// No invariant here spans a panic, so a poisoned lock is as good as a sound one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
