//! QUIC of our own, by quinn: over UDP, and over TCP where that does not get through.

mod connection;
mod dial;
mod handed;
mod icmp;
mod lookup;
mod network;
mod reach;
mod socket;
mod transport;

use crate::Transport;

pub(crate) use connection::{Connection, RecvStream, SendStream, ask};
pub(crate) use dial::{Candidate, Tried};
pub use network::{Network, Ways};
pub(crate) use reach::{Reach, keep};

/// Where a relay is: its address by UDP.
pub(crate) type Place = std::net::SocketAddr;

/// By what sessions go if nothing stands in the way.
pub(crate) const USUAL: Transport = Transport::Udp;
