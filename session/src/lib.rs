//! A client's side of the wire (`docs/PROTOCOL.md`), for whoever has a connection to a relay: the SDK, the load
//! generator, `supernode doctor`, tests and attacks.
//!
//! - [`Channel`]: what is signed on one connection: the Hello, tickets that are shown, proofs for rooms.
//! - [`Greeting`] and [`Session`]: the control stream: bytes in, events and bytes out, over as many connections as it takes.
//! - [`Requests`]: their numbers, and what waits for their replies.
//! - [`StreamReader`], and [`put_datagram`] and its siblings: objects as they travel.
//! - [`Reconnect`], [`Move`], [`Backoff`] and [`Silence`]: when a relay is gone, and when to try again.
//! - [`ClockSkew`]: whose clock is wrong.
//! - [`pin`]: whether certificates lead to the relay that is meant.
//! - [`transport`]: how a client's QUIC behaves, in numbers.
//!
//! No I/O, no clock, no randomness, and no key that could open a call: bytes and times ([`Moment`]) are arguments, and what
//! is to be sent is a value.

mod backoff;
mod channel;
mod demand;
mod greeting;
mod moment;
mod objects;
pub mod pin;
mod presence;
mod reconnect;
mod refusal;
mod requests;
mod rings;
mod session;
mod silence;
mod skew;
mod stream_reader;
pub mod transport;

pub use backoff::Backoff;
pub use channel::{Channel, Introduction};
pub use demand::Demand;
pub use greeting::{Fault, Greeting, Welcomed};
pub use moment::Moment;
pub use objects::{put_datagram, put_object, put_stream_head};
pub use presence::Presence;
pub use reconnect::{Move, Next, Obstacle, Patience, Reconnect, split_address};
pub use refusal::Refusal;
pub use requests::Requests;
pub use session::{Event, Reply, RoomEvent, Session};
pub use silence::{Clocks, Seen, Silence, Verdict};
pub use skew::ClockSkew;
pub use stream_reader::StreamReader;
