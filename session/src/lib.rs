//! A client's side of the wire (`docs/PROTOCOL.md`), for whoever has a connection to a relay: the SDK, the load
//! generator, `supernode doctor`, tests and attacks.
//!
//! - [`Channel`]: what is signed on one connection: the Hello, tickets that are shown, proofs for rooms.
//! - [`Challenged`]: what a page's link begins with.
//! - [`Greeting`] and [`Session`]: the control stream: bytes in, events and bytes out, over as many connections as it takes.
//! - [`StreamReader`], and [`put_datagram`] and its siblings: objects as they travel.
//! - [`Reconnect`], [`Move`], [`Backoff`] and [`Silence`]: when a relay is gone, and when to try again.
//! - [`ClockSkew`]: whose clock is wrong.
//! - [`places`]: which of a relay's addresses to try, and when.
//! - [`pin`]: whether certificates lead to the relay that is meant; [`pages`]: which of them a page may demand.
//! - [`transport`]: how a client's QUIC behaves, in numbers.
//!
//! No I/O, no clock, no randomness, and no key that could open a call: bytes and times ([`Moment`]) are arguments, and what
//! is to be sent is a value.

mod channel;
mod control;
mod media;
mod moment;
mod reach;

pub use channel::{ChallengeError, Channel, Introduction};
pub use control::{
    demand::Demand,
    greeting::{Challenged, Fault, Greeting, Known, Welcomed},
    presence::Presence,
    refusal::Refusal,
    session::{Event, Reply, RoomEvent, Session},
};
pub use media::{
    objects::{put_datagram, put_object, put_stream_head},
    stream_reader::StreamReader,
};
pub use moment::Moment;
pub use reach::{
    backoff::Backoff,
    pages, pin, places,
    reconnect::{Move, NAMED_FOR, Next, Obstacle, Patience, Reconnect, Step, Whither},
    silence::{Clocks, Seen, Silence, Verdict},
    skew::ClockSkew,
    transport,
};
