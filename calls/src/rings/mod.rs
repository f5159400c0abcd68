//! How a call begins, and how somebody comes into a room: what is asked of the relay, said and waited for, one after the
//! other.
//!
//! - [`Calling`]: a ring of ours, to a person or at the door of a room.
//! - [`Came`], [`Judged`], [`Incoming`]: a ring of somebody's, and whether anybody is shown it. [`Answering`]: our answer.
//! - [`Guest`]: somebody who waits at a door. [`Admitting`]: a member who lets them in.
//!
//! Each begins with something to be done, and says what comes next when it is told how that went. What is waited for ends
//! when its time is over: then the ring is dropped.

mod admitting;
mod answering;
mod calling;
mod guest;
mod incoming;
#[cfg(test)]
mod tests;

use std::time::Duration;

use supernode_e2ee::Group;
use supernode_proto::{
    control::{RefusalReason, client_message},
    identity::DeviceKey,
    limits,
};
use supernode_session::Refusal;

use crate::rights::{LobbyError, OutgoingError};

pub use admitting::{AdmissionStep, Admitting, ENTRY_TIMEOUT, GuestPlace};
pub use answering::{Answering, LobbyTerms};
pub use calling::{Caller, Calling, End};
pub use guest::{ADMISSION_TIMEOUT, Guest, NotLetIn};
pub use incoming::{Came, Incoming, Judge, Judged, NotShown, Rooms, decline};

/// What is to be done next for a ring.
#[derive(Debug)]
pub enum Next {
    /// Nothing for so long, and nothing more if somebody else settles the ring meanwhile. Then [`Answering::open_lobby`].
    Pause(Duration),
    /// The relay is to be asked for this. Its reply: `handle_reply`.
    Ask(Box<client_message::Body>),
    /// The relay's room of this group, which is that of a call, is to be entered. Then `handle_done`.
    Join(Box<Group>),
    /// The relay will say how the ring ended: [`Calling::handle_outcome`], or [`Calling::handle_lost`] without its connection.
    AwaitOutcome,
    /// This device is to be in the call, for which it has the time of a request. Then `handle_done`.
    AwaitDevice(DeviceKey),
    /// Everybody but ourselves and this device is to be removed from the call. Then `handle_done`.
    KeepOnly(DeviceKey),
    /// Nothing.
    Over,
}

/// Whether somebody who knocked at a room with its link and was refused for this is the first one there, and opens it. If
/// another is faster, they have lost their place before they had it, and knock as anybody who has.
pub fn opens_room(refusal: &Refusal) -> bool {
    refusal.reason == RefusalReason::Offline
}

impl Next {
    fn ask(request: client_message::Body) -> Self {
        Self::Ask(Box::new(request))
    }
}

/// Why a ring came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// What was sealed does not open, or a key package does not do.
    #[error(transparent)]
    EndToEnd(#[from] supernode_e2ee::Error),
    /// The relay, or whoever is at the other end, says what no honest one says.
    #[error("{0}")]
    Protocol(&'static str),
    /// The Welcome for all devices of a person is too long: so long, in bytes.
    #[error("the Welcome for all devices has {0} bytes: at most {max}", max = limits::RING_PAYLOAD_BYTES_MAX)]
    TooLarge(usize),
    /// The member at the door does not let us in.
    #[error("a member does not let us in")]
    NotAdmitted,
    /// No member is at the door.
    #[error("nobody is at the door")]
    NobodyAtDoor,
    /// It has come to its end before.
    #[error("the ring is settled")]
    Settled,
}

impl From<OutgoingError> for RingError {
    fn from(error: OutgoingError) -> Self {
        match error {
            OutgoingError::EndToEnd(error) => Self::EndToEnd(error),
            OutgoingError::Revoked => Self::Protocol("a key package of a device that its owner has taken back"),
            OutgoingError::NobodyToRing => Self::Protocol("there is no key package to ring with"),
            OutgoingError::TooLarge(bytes) => Self::TooLarge(bytes),
        }
    }
}

impl From<LobbyError> for RingError {
    fn from(error: LobbyError) -> Self {
        match error {
            LobbyError::EndToEnd(error) => Self::EndToEnd(error),
            LobbyError::OtherDevice => Self::Protocol("a key package of another device than the one that knocks"),
            LobbyError::NobodyAdded => Self::Protocol("nobody was added"),
        }
    }
}
