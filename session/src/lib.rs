//! A client's side of the wire (`docs/PROTOCOL.md`), for whoever has a connection to a relay: the SDK, the load
//! generator, `supernode doctor`, tests and attacks.
//!
//! - [`Channel`]: what is signed on one connection: the Hello, tickets that are shown, proofs for rooms.
//! - [`Requests`]: their numbers, and what waits for their replies.
//! - [`StreamReader`], and [`put_datagram`] and its siblings: objects as they travel.
//! - [`pin`]: whether certificates lead to the relay that is meant.
//! - [`transport`]: how a client's QUIC behaves, in numbers.
//!
//! No I/O, no clock, no randomness, and no key that could open a call: bytes and times are arguments, and what is to be
//! sent is a value.

mod channel;
mod objects;
pub mod pin;
mod requests;
mod stream_reader;
pub mod transport;

pub use channel::{Channel, Introduction};
pub use objects::{put_datagram, put_object, put_stream_head};
pub use requests::Requests;
pub use stream_reader::StreamReader;
