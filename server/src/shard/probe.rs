//! What this machine's kernel offers to the shards, found out on sockets of loopback that nobody uses.

use std::{io, net::Ipv4Addr, os::fd::AsFd};

use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use super::{socket::BUFFER_BYTES, sys};

/// What is asked for each socket buffer, in bytes.
pub const BUFFER_WANTED_BYTES: u64 = BUFFER_BYTES as u64;

/// Whether something, such as an NTP client, keeps this machine's clock right; `None` where the kernel does not say.
pub fn clock_is_synchronised() -> Option<bool> {
    sys::clock_is_synchronised().ok()
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offers {
    /// Datagrams in one send at most (GSO); 1 is none.
    pub segments_out_max: usize,
    /// Datagrams in one receive at most (GRO); 1 is none.
    pub segments_in_max: usize,
    /// Whether packets of a client that moved are steered to its shard.
    pub steering: bool,
    /// What is asked for each socket buffer, in bytes.
    pub buffer_wanted_bytes: u64,
    /// The receive buffer that a new socket is granted, in bytes.
    pub receive_buffer_bytes: u64,
    /// The send buffer, in bytes.
    pub send_buffer_bytes: u64,
}

/// Asks the kernel.
///
/// # Errors
/// When it refuses a socket at all.
pub fn offers() -> io::Result<Offers> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    // Less than asked for still works: the grant is what we want to know.
    let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), BUFFER_BYTES);
    let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), BUFFER_BYTES);
    Ok(Offers {
        segments_out_max: state.max_gso_segments(),
        segments_in_max: state.gro_segments(),
        steering: sys::steer_by_connection_id(socket.as_fd()).is_ok(),
        buffer_wanted_bytes: BUFFER_WANTED_BYTES,
        receive_buffer_bytes: state.recv_buffer_size(UdpSockRef::from(&socket))? as u64,
        send_buffer_bytes: state.send_buffer_size(UdpSockRef::from(&socket))? as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_it_offers() {
        let offers = offers().expect("a socket");
        assert!(offers.segments_out_max >= 1 && offers.segments_in_max >= 1);
        assert!(offers.receive_buffer_bytes > 0 && offers.send_buffer_bytes > 0);
    }
}
