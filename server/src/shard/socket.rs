//! One shard's UDP socket: batches in with GRO, batches out with GSO across connections.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn_proto::{EcnCodepoint, Transmit};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use super::{counters::Tally, sys};

/// What is asked of the kernel for each socket buffer: 8 MiB hold 40 ms of 200,000 packets a second. The kernel grants
/// what `net.core.rmem_max` and `wmem_max` allow; the grant is in the metrics.
pub const BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// Most that one receive can return: 64 KiB of coalesced datagrams.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Receive calls in one turn, so that a flood of input cannot keep output waiting.
const RECEIVES_PER_TURN: usize = 4;
/// Most bytes that a turn reads.
pub(super) const TURN_BYTES_MAX: usize = RECEIVES_PER_TURN * BATCH_SIZE * RECEIVE_BYTES;

/// The oldest stamp that is believed: a full socket buffer is read in less, a clock that was set may be off by years.
const STAMP_AGE_MAX: Duration = Duration::from_secs(1);

/// The socket and its buffers.
pub(super) struct ShardSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    ipv6: bool,
    receive: Box<[u8]>,
}

/// A received UDP datagram.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) remote: SocketAddr,
    pub(super) local_ip: Option<IpAddr>,
    pub(super) ecn: Option<EcnCodepoint>,
    /// When the kernel took it from the network.
    pub(super) arrived: Instant,
    pub(super) data: BytesMut,
}

/// One moment on both clocks: the kernel stamps packets with the time of day, everything else is monotonic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    pub(super) instant: Instant,
    /// Since 1970.
    pub(super) unix: Duration,
}

impl Clocks {
    /// The monotonic time of a stamp; this moment, if there is none or the clock was set back since.
    fn instant_of(&self, stamp: Option<Duration>) -> Instant {
        let ago = stamp.map_or(Duration::ZERO, |stamp| self.unix.saturating_sub(stamp)).min(STAMP_AGE_MAX);
        self.instant.checked_sub(ago).unwrap_or(self.instant)
    }
}

/// Opens one socket for each shard, all on the same port, in the order by which the kernel numbers them.
///
/// The first takes the port for itself, so that a port another relay has is an error, and port 0 is a free one; only
/// then is it shared, with the others.
///
/// # Errors
/// What the system says.
pub(super) fn bind(address: SocketAddr, shards: usize) -> io::Result<Vec<UdpSocket>> {
    let first = open(address)?;
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    let first = UdpSocket::from(first);
    let shared = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..shards {
        let socket = open(shared)?;
        socket.set_reuse_port(true)?;
        socket.bind(&shared.into())?;
        sockets.push(socket.into());
    }
    Ok(sockets)
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl ShardSocket {
    /// Prepares a bound socket.
    ///
    /// # Errors
    /// When the system refuses a socket option that QUIC needs.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Less than asked for still works: the grant is read back.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), BUFFER_BYTES);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), BUFFER_BYTES);
        let ipv6 = socket.local_addr()?.is_ipv6();
        Ok(Self { socket, state, ipv6, receive: vec![0; BATCH_SIZE * RECEIVE_BYTES].into_boxed_slice() })
    }

    /// Granted buffer sizes, receive and send, in bytes.
    pub(super) fn buffer_bytes(&self) -> (u64, u64) {
        let socket = UdpSockRef::from(&self.socket);
        let granted = |size: io::Result<usize>| size.unwrap_or(0) as u64;
        let socket_again = UdpSockRef::from(&self.socket);
        (granted(self.state.recv_buffer_size(socket)), granted(self.state.send_buffer_size(socket_again)))
    }

    /// Most segments in one send.
    pub(super) fn segments_max(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Most datagrams in one receive.
    pub(super) fn segments_in_max(&self) -> usize {
        self.state.gro_segments()
    }

    /// Packets that the kernel has thrown away because this socket's buffer was full.
    pub(super) fn kernel_drops(&self) -> u64 {
        sys::receive_drops(self.socket.as_fd()).unwrap_or(0)
    }

    /// Passes on what can be read now, up to one turn's worth. Returns whether more may be there.
    pub(super) fn receive(
        &mut self,
        clocks: Clocks,
        tally: &mut Tally,
        mut pass: impl FnMut(Received, &mut Tally),
    ) -> bool {
        for _ in 0..RECEIVES_PER_TURN {
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let mut buffers = self.receive.chunks_exact_mut(RECEIVE_BYTES).map(IoSliceMut::new);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            // An error is "nothing to read", or an ICMP message about an earlier send, which QUIC's timers handle.
            let Ok(count) = self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas) else {
                return false;
            };
            tally.recv_batches += 1;
            for (meta, slice) in metas.iter().zip(&slices).take(count) {
                tally.bytes_in += meta.len as u64;
                let arrived = clocks.instant_of(meta.timestamp);
                // Each in memory of its own: QUIC keeps a packet for as long as one byte of it waits for those before it,
                // and would keep all that came together with it.
                for datagram in slice[..meta.len].chunks(meta.stride.max(1)) {
                    let data = BytesMut::from(datagram);
                    tally.datagrams_in += 1;
                    let ecn = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
                    let (remote, local_ip) = (unmapped(meta.addr), meta.dst_ip);
                    pass(Received { remote, local_ip, ecn, arrived, data }, tally);
                }
            }
            if count < BATCH_SIZE {
                return false;
            }
        }
        true
    }
}

impl AsFd for ShardSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// An IPv4 client of an IPv6 socket is an IPv4 client.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Packets that are built but not sent, of all connections in the order they were built. Its buffers are reused.
#[derive(Default)]
pub(super) struct SendBatch {
    buffers: Vec<Vec<u8>>,
    transmits: Vec<Transmit>,
}

impl SendBatch {
    /// An empty buffer for the next packets.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        let next = self.transmits.len();
        if self.buffers.len() == next {
            self.buffers.push(Vec::with_capacity(2048));
        }
        self.buffers[next].clear();
        &mut self.buffers[next]
    }

    /// What was written to [`Self::buffer`] and is not committed.
    pub(super) fn written(&self) -> &[u8] {
        self.buffers.get(self.transmits.len()).map_or(&[], |buffer| buffer)
    }

    /// Packets were written to [`Self::buffer`]. Returns whether it is time to flush.
    pub(super) fn commit(&mut self, transmit: Transmit) -> bool {
        self.transmits.push(transmit);
        self.is_full()
    }

    /// Whether nothing more fits before a flush.
    pub(super) fn is_full(&self) -> bool {
        self.transmits.len() >= sys::MESSAGES_MAX
    }

    /// How many sends wait.
    pub(super) fn len(&self) -> usize {
        self.transmits.len()
    }

    /// Passes on every datagram instead of sending it.
    pub(super) fn take(&mut self, mut pass: impl FnMut(SocketAddr, &[u8])) {
        for (transmit, buffer) in self.transmits.drain(..).zip(&self.buffers) {
            let bytes = &buffer[..transmit.size];
            for datagram in bytes.chunks(transmit.segment_size.unwrap_or(transmit.size).max(1)) {
                pass(transmit.destination, datagram);
            }
        }
    }

    /// Sends everything. What the kernel has no room for is lost, like on any full path, and counted.
    pub(super) fn flush(&mut self, socket: &ShardSocket, tally: &mut Tally) {
        let mut next = 0;
        while next < self.transmits.len() {
            let message = |index| self.message(next + index);
            let taken = match sys::send(socket.as_fd(), socket.ipv6, self.transmits.len() - next, message) {
                Ok(sent) => {
                    tally.send_batches += 1;
                    for message in (0..sent).map(message) {
                        tally.bytes_out += message.bytes.len() as u64;
                        tally.datagrams_out += datagrams(&message);
                    }
                    sent
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(_) => {
                    tally.send_errors += datagrams(&message(0));
                    1
                }
            };
            next += taken;
        }
        self.transmits.clear();
    }

    fn message(&self, index: usize) -> sys::Message<'_> {
        let Transmit { destination, ecn, size, segment_size, src_ip } = self.transmits[index];
        sys::Message {
            bytes: &self.buffers[index][..size],
            destination,
            segment_size: segment_size.map(|size| size as u16),
            ecn,
            source: src_ip,
        }
    }
}

fn datagrams(message: &sys::Message<'_>) -> u64 {
    message.segment_size.map_or(1, |size| message.bytes.len().div_ceil(usize::from(size)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_arrived_when_the_kernel_says_so_unless_the_clock_was_set() {
        let clocks = Clocks { instant: Instant::now() + Duration::from_secs(9), unix: Duration::from_secs(1_000) };
        let ago = |stamp| clocks.instant - clocks.instant_of(stamp);
        assert_eq!(ago(None), Duration::ZERO);
        assert_eq!(ago(Some(Duration::from_millis(999_997))), Duration::from_millis(3));
        assert_eq!(ago(Some(Duration::from_secs(2_000))), Duration::ZERO);
        assert_eq!(ago(Some(Duration::ZERO)), STAMP_AGE_MAX);
    }

    #[test]
    fn the_shards_share_a_port_that_nobody_else_gets() {
        let sockets = bind("127.0.0.1:0".parse().expect("an address"), 4).expect("bound");
        let address = sockets[0].local_addr().expect("bound");
        assert!(sockets.iter().all(|socket| socket.local_addr().is_ok_and(|other| other == address)));
        assert_eq!(bind(address, 1).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
    }
}
