//! What members of a call do, for whoever has a session with a relay ([`supernode_session`]) and keys
//! ([`supernode_e2ee`]): the SDK, a page, a simulation.
//!
//! - [`Frame`], [`FrameTimes`], [`OutgoingFrame`]: what is inside the seal.
//! - [`Sending`]: what becomes of the frames of a track of ours.
//! - [`Order`]: the objects of a track in order. [`JitterBuffer`]: in time as well. [`Player`]: to the track's end.
//! - [`Member`]: who somebody is. [`rights`]: who may ring and come in.
//! - [`rings`]: how a call begins, and how somebody comes into a room.
//! - [`room`]: a room's group, mailbox and roster, and what keeps it in order.
//! - [`Histogram`]: how long they took.
//!
//! No I/O, no clock: bytes and times are arguments, and what is to be done is a value.

mod frame;
mod histogram;
mod jitter;
mod member;
mod order;
mod player;
pub mod rights;
pub mod rings;
pub mod room;
mod sending;

pub use frame::{FRAME_HEADER_BYTES, Frame, FrameTimes, OutgoingFrame};
pub use histogram::Histogram;
pub use jitter::{DelayBounds, JitterBuffer, Playout};
pub use member::Member;
pub use order::{Order, Turn};
pub use player::{Cue, Played, Player};
pub use sending::{Ends, Fate, LANES, Plan, Sending};
