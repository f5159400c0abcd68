//! The way over TCP, from a client's end, for networks that let no UDP through: QUIC's packets travel as WebSocket messages in
//! TLS (`docs/PROTOCOL.md`, section "The way over TCP").
//!
//! [`open`] reaches the relay, through an HTTP proxy if there is one; a [`Way`] is the socket that quinn is given, and may
//! move to UDP under a connection; [`Carrier`] keeps both together. [`Waits`] says what is too late for TCP, at either end.

mod age;
mod carrier;
mod open;
mod outgoing;
mod probe;
mod proxy;
mod way;

pub use self::{
    age::{Came, Waits, give},
    carrier::Carrier,
    open::{OpenError, Stream, Target, open},
    probe::{answers, udp_answers},
    proxy::{BadProxy, Proxy, ProxyChoice},
    way::{Sending, Way},
};
