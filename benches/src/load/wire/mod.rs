//! One client on the wire: QUIC as the SDK speaks it, many to a socket.

pub(super) mod client;
pub(super) mod link;
pub(super) mod page;
pub(super) mod sockets;
pub(super) mod streams;
pub(super) mod transport;
