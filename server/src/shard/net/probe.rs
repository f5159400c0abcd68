//! What this machine's kernel offers to the shards, found out on sockets of loopback that nobody uses.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
};

use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use super::{socket::BUFFER_BYTES, sys};

/// What is asked for each socket buffer, in bytes.
pub const BUFFER_WANTED_BYTES: u64 = BUFFER_BYTES as u64;

/// Whether something, such as an NTP client, keeps this machine's clock right; `None` where the kernel does not say.
pub fn clock_is_synchronised() -> Option<bool> {
    sys::clock_is_synchronised().ok()
}

/// Packets of a bundle.
pub const BUNDLE_PACKETS: usize = 16;
/// Bytes of each, as QUIC builds them once it knows how large they may be, and before; where the interface takes no larger
/// ones, QUIC stays below.
const BUNDLE_PACKET_BYTES: [usize; 2] = [1452, 1200];
/// Addresses of nobody (RFC 5737, RFC 3849). The way to them is the way to everybody.
const NOBODY: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Sends a bundle of packets as the relay does (GSO) on this machine's default ways out, IPv4's and IPv6's; what the
/// kernel says to packets of how many bytes, where there is such a way. The packets end at the first router: they may make one
/// hop.
pub fn bundles_out() -> Vec<(&'static str, usize, io::Result<()>)> {
    let ways = NOBODY.iter().zip(["IPv4", "IPv6"]);
    ways.filter_map(|(nobody, family)| bundle_to(*nobody).map(|(bytes, sent)| (family, bytes, sent))).collect()
}

fn bundle_to(nobody: IpAddr) -> Option<(usize, io::Result<()>)> {
    let address = SocketAddr::new(nobody, 9);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).ok()?;
    match nobody {
        IpAddr::V4(_) => socket.set_ttl_v4(1).ok()?,
        IpAddr::V6(_) => socket.set_unicast_hops_v6(1).ok()?,
    }
    // Without a route there is no way out to speak of.
    socket.connect(&address.into()).ok()?;
    let send = |bytes: usize| (bytes, send_bundle(&socket, address, &vec![0; BUNDLE_PACKETS * bytes], bytes));
    let is_too_long = |(_, sent): &(usize, io::Result<()>)| {
        sent.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EMSGSIZE))
    };
    let [large, small] = BUNDLE_PACKET_BYTES;
    let sent = send(large);
    Some(if is_too_long(&sent) { send(small) } else { sent })
}

/// Sends packets of this size in one bundle, as the relay does.
///
/// # Errors
/// What the kernel says.
pub fn send_bundle(socket: &impl AsFd, to: SocketAddr, packets: &[u8], packet_bytes: usize) -> io::Result<()> {
    let segment_size = u16::try_from(packet_bytes).ok();
    let message = sys::Message { bytes: packets, destination: to, segment_size, ecn: None, source: None };
    sys::send(socket.as_fd(), to.is_ipv6(), 1, |_| message).map(drop)
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
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    // Where there is only one family, the other has no loopback either.
    let socket = loopback.iter().map(|ip| open(*ip)).find(Result::is_ok).unwrap_or_else(|| open(loopback[0]))?;
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

fn open(ip: IpAddr) -> io::Result<Socket> {
    let address = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_tried_where_there_is_a_way_out_and_loopback_takes_it() {
        let (bytes, sent) = bundle_to(IpAddr::V4(Ipv4Addr::LOCALHOST)).expect("loopback");
        assert!(bytes == 1452 && sent.is_ok(), "{sent:?}");
        assert!(bundles_out().len() <= NOBODY.len());
    }

    #[test]
    fn the_kernel_says_what_it_offers() {
        let offers = offers().expect("a socket");
        assert!(offers.segments_out_max >= 1 && offers.segments_in_max >= 1);
        assert!(offers.receive_buffer_bytes > 0 && offers.send_buffer_bytes > 0);
    }
}
