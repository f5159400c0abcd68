//! One shard's UDP socket: batches in with GRO, batches out with GSO across connections.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use quinn_proto::{EcnCodepoint, Transmit};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use super::{demultiplexer::Datagram, sys};
use crate::shard::{figures::counters::Tally, tcp, tcp::Links};

/// What is asked of the kernel for each socket buffer: 8 MiB hold 40 ms of 200,000 packets a second. The kernel grants
/// what `net.core.rmem_max` and `wmem_max` allow; the grant is in the metrics.
pub const BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// Most that one receive can return: 64 KiB of coalesced datagrams.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Receive calls in one turn, so that a flood of input cannot keep output waiting.
const RECEIVES_PER_TURN: usize = 4;
/// Most bytes that a turn reads.
pub(crate) const TURN_BYTES_MAX: usize = RECEIVES_PER_TURN * BATCH_SIZE * RECEIVE_BYTES;

/// How long a socket whose bundles were refused sends packets one by one before it tries bundles again: a network card may
/// have been changed, or a tunnel taken down.
const BUNDLES_AGAIN: Duration = Duration::from_secs(60);

/// How often at most the log tells that the kernel does not take packets.
const REFUSALS_TOLD_EVERY: Duration = Duration::from_secs(60);

/// The oldest stamp that is believed: a full socket buffer is read in less, a clock that was set may be off by years.
const STAMP_AGE_MAX: Duration = Duration::from_secs(1);

/// The socket and its buffers.
pub(crate) struct ShardSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    ipv6: bool,
    bundles: Bundles,
    refusals: Refusals,
    receive: Box<[u8]>,
}

/// Whether the kernel takes several packets in one send (GSO). It says so in general; that a network card or a tunnel on
/// the way out cannot, it tells only when it is given some.
#[derive(Debug)]
struct Bundles {
    segments_max: usize,
    /// When to try again after a refusal.
    refused_until: Option<Instant>,
    /// Where some ways out take bundles and others do not, the state changes every minute: it is told once.
    told: bool,
}

impl Bundles {
    /// Most packets in one send now.
    fn segments_max(&self, now: Instant) -> usize {
        if self.refused_until.is_some_and(|until| now < until) { 1 } else { self.segments_max }
    }

    fn handle_refused(&mut self, error: &io::Error, now: Instant) {
        self.refused_until = Some(now + BUNDLES_AGAIN);
        if !std::mem::replace(&mut self.told, true) {
            let again_s = BUNDLES_AGAIN.as_secs();
            tracing::warn!(
                %error,
                again_s,
                "the kernel refuses bundles of packets (GSO) on a way out: sending them one by one, which costs more CPU"
            );
        }
    }

    fn handle_taken(&mut self, now: Instant) {
        if self.refused_until.is_some_and(|until| until <= now) {
            self.refused_until = None;
            tracing::debug!("the kernel takes bundles of packets (GSO) again");
        }
    }
}

/// What the kernel did not take and nobody was told of yet.
#[derive(Debug, Default)]
struct Refusals {
    packets: u64,
    told_at: Option<Instant>,
}

impl Refusals {
    fn count(&mut self, error: &io::Error, packets: u64, now: Instant, tally: &mut Tally) {
        let counter = match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => &mut tally.send_no_room,
            Some(libc::EPERM | libc::EACCES) => &mut tally.send_forbidden,
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::EADDRNOTAVAIL) => {
                &mut tally.send_unreachable
            }
            // No fault: QUIC tries how large a packet may be.
            Some(libc::EMSGSIZE) => return tally.send_too_large += packets,
            _ => &mut tally.send_other,
        };
        *counter += packets;
        self.packets += packets;
        if self.told_at.is_none_or(|told| now - told >= REFUSALS_TOLD_EVERY) {
            tracing::warn!(%error, packets = self.packets, "the kernel does not take packets");
            (self.packets, self.told_at) = (0, Some(now));
        }
    }
}

/// A received UDP datagram.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) remote: SocketAddr,
    pub(crate) local_ip: Option<IpAddr>,
    pub(crate) ecn: Option<EcnCodepoint>,
    /// When the kernel took it from the network.
    pub(crate) arrived: Instant,
    pub(crate) data: BytesMut,
}

impl Received {
    /// How it came.
    pub(crate) fn datagram(&self) -> Datagram<'_> {
        let Self { remote, local_ip, ecn, arrived, data } = self;
        Datagram { remote: *remote, local_ip: *local_ip, ecn: *ecn, arrived: *arrived, data }
    }
}

/// One moment on both clocks: the kernel stamps packets with the time of day, everything else is monotonic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    pub(crate) instant: Instant,
    /// Since 1970.
    pub(crate) unix: Duration,
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
pub(crate) fn bind(address: SocketAddr, shards: usize) -> io::Result<Vec<UdpSocket>> {
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
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Less than asked for still works: the grant is read back.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), BUFFER_BYTES);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), BUFFER_BYTES);
        let ipv6 = socket.local_addr()?.is_ipv6();
        let bundles = Bundles { segments_max: state.max_gso_segments(), refused_until: None, told: false };
        let receive = vec![0; BATCH_SIZE * RECEIVE_BYTES].into_boxed_slice();
        Ok(Self { socket, state, ipv6, bundles, refusals: Refusals::default(), receive })
    }

    /// Granted buffer sizes, receive and send, in bytes.
    pub(crate) fn buffer_bytes(&self) -> (u64, u64) {
        let socket = UdpSockRef::from(&self.socket);
        let granted = |size: io::Result<usize>| size.unwrap_or(0) as u64;
        let socket_again = UdpSockRef::from(&self.socket);
        (granted(self.state.recv_buffer_size(socket)), granted(self.state.send_buffer_size(socket_again)))
    }

    /// Most segments in one send now: 1 while the kernel refuses more.
    pub(crate) fn segments_max(&self, now: Instant) -> usize {
        self.bundles.segments_max(now)
    }

    /// Most datagrams in one receive.
    pub(crate) fn segments_in_max(&self) -> usize {
        self.state.gro_segments()
    }

    /// Packets that the kernel has thrown away because this socket's buffer was full.
    pub(crate) fn kernel_drops(&self) -> u64 {
        sys::receive_drops(self.socket.as_fd()).unwrap_or(0)
    }

    /// Passes on what can be read now, up to one turn's worth. Returns whether more may be there.
    pub(crate) fn receive(
        &mut self,
        clocks: Clocks,
        tally: &mut Tally,
        mut pass: impl FnMut(Datagram<'_>, &mut Tally),
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
                let ecn = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
                let (remote, local_ip) = (unmapped(meta.addr), meta.dst_ip);
                for data in slice[..meta.len].chunks(meta.stride.max(1)) {
                    tally.datagrams_in += 1;
                    pass(Datagram { remote, local_ip, ecn, arrived, data }, tally);
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
pub(crate) struct SendBatch {
    buffers: Vec<Vec<u8>>,
    transmits: Vec<Transmit>,
    /// Where packets for clients on TCP go, if there may be any.
    links: Option<Links>,
    over_tcp: Vec<(SocketAddr, usize, Bytes)>,
}

impl SendBatch {
    /// One that may have packets for clients on TCP.
    pub(crate) fn with_links(links: Option<Links>) -> Self {
        Self { links, ..Self::default() }
    }

    /// An empty buffer for the next packets.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        let next = self.transmits.len();
        if self.buffers.len() == next {
            self.buffers.push(Vec::with_capacity(2048));
        }
        self.buffers[next].clear();
        &mut self.buffers[next]
    }

    /// What was written to [`Self::buffer`] and is not committed.
    pub(crate) fn written(&self) -> &[u8] {
        self.buffers.get(self.transmits.len()).map_or(&[], |buffer| buffer)
    }

    /// Packets were written to [`Self::buffer`]. Returns whether it is time to flush.
    pub(crate) fn commit(&mut self, transmit: Transmit) -> bool {
        if tcp::is_over_tcp(transmit.destination) {
            self.commit_over_tcp(&transmit);
        } else {
            self.transmits.push(transmit);
        }
        self.is_full()
    }

    /// Out of the way of packets by UDP, which are nearly all.
    #[cold]
    #[inline(never)]
    fn commit_over_tcp(&mut self, transmit: &Transmit) {
        let Transmit { destination, size, segment_size, .. } = *transmit;
        // As large as they are: they may wait, and the buffer is made for the largest.
        let packets = Bytes::copy_from_slice(&self.buffers[self.transmits.len()][..size]);
        self.over_tcp.push((destination, segment_size.unwrap_or(size), packets));
    }

    /// Whether nothing more fits before a flush.
    pub(crate) fn is_full(&self) -> bool {
        self.transmits.len().max(self.over_tcp.len()) >= sys::MESSAGES_MAX
    }

    /// How many sends wait.
    pub(crate) fn len(&self) -> usize {
        self.transmits.len()
    }

    /// Passes on every datagram instead of sending it.
    pub(crate) fn take(&mut self, mut pass: impl FnMut(SocketAddr, &[u8])) {
        for (transmit, buffer) in self.transmits.drain(..).zip(&self.buffers) {
            let bytes = &buffer[..transmit.size];
            for datagram in bytes.chunks(transmit.segment_size.unwrap_or(transmit.size).max(1)) {
                pass(transmit.destination, datagram);
            }
        }
    }

    /// Sends everything. What the kernel has no room for is lost, like on any full path, and counted. A bundle that it
    /// refuses goes out again at once, packet by packet.
    pub(crate) fn flush(&mut self, socket: &mut ShardSocket, now: Instant, tally: &mut Tally) {
        for (to, size, packets) in self.over_tcp.drain(..) {
            if let Some(links) = &self.links {
                links.send(to, &packets, size, now);
            }
        }
        let mut next = 0;
        while next < self.transmits.len() {
            let message = |index| self.message(next + index);
            next += match sys::send(socket.as_fd(), socket.ipv6, self.transmits.len() - next, message) {
                Ok(sent) => {
                    tally.send_batches += 1;
                    for message in (0..sent).map(message) {
                        tally.bytes_out += message.bytes.len() as u64;
                        let datagrams = datagrams(&message);
                        tally.datagrams_out += datagrams;
                        if datagrams > 1 {
                            socket.bundles.handle_taken(now);
                        }
                    }
                    sent
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) if message(0).segment_size.is_some() && refuses_bundles(&error) => {
                    tally.bundles_refused += 1;
                    socket.bundles.handle_refused(&error, now);
                    send_singly(socket, &message(0), now, tally);
                    1
                }
                Err(error) => {
                    socket.refusals.count(&error, datagrams(&message(0)), now, tally);
                    1
                }
            };
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

/// What Linux says to a bundle that it cannot cut: EIO where the network card computes no checksums or IPsec is on the
/// way, EINVAL where the socket or the interface does not allow it. Neither is said of a single packet that is well made.
fn refuses_bundles(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL))
}

/// Sends the packets of a bundle one by one.
fn send_singly(socket: &mut ShardSocket, bundle: &sys::Message<'_>, now: Instant, tally: &mut Tally) {
    let size = usize::from(bundle.segment_size.unwrap_or(u16::MAX)).max(1);
    let packet = |index: usize| {
        let rest = &bundle.bytes[index * size..];
        sys::Message { bytes: &rest[..rest.len().min(size)], segment_size: None, ..*bundle }
    };
    let (mut next, count) = (0, bundle.bytes.len().div_ceil(size));
    while next < count {
        next += match sys::send(socket.as_fd(), socket.ipv6, count - next, |index| packet(next + index)) {
            Ok(sent) => {
                tally.send_batches += 1;
                tally.bytes_out += (next..next + sent).map(|index| packet(index).bytes.len() as u64).sum::<u64>();
                tally.datagrams_out += sent as u64;
                sent
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => {
                socket.refusals.count(&error, 1, now, tally);
                1
            }
        };
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

    fn bundle(to: &UdpSocket, packets: usize) -> (Transmit, Vec<u8>) {
        let bytes: Vec<u8> = (0..packets).flat_map(|packet| [packet as u8; 100]).collect();
        let destination = to.local_addr().expect("bound");
        let transmit = Transmit { destination, ecn: None, size: bytes.len(), segment_size: Some(100), src_ip: None };
        (transmit, bytes)
    }

    fn received(from: &UdpSocket) -> Vec<(usize, u8)> {
        let mut buffer = [0; 1_000];
        std::iter::from_fn(|| from.recv(&mut buffer).ok().map(|length| (length, buffer[0]))).collect()
    }

    #[test]
    fn a_bundle_that_the_kernel_refuses_goes_out_packet_by_packet_and_is_tried_again_later() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        receiver.set_nonblocking(true).expect("set");
        let sender = bind("127.0.0.1:0".parse().expect("an address"), 1).expect("bound").remove(0);
        let mut socket = ShardSocket::new(sender).expect("prepared");
        let (mut out, mut tally, start) = (SendBatch::default(), Tally::default(), Instant::now());
        let may = socket.segments_max(start);
        if may == 1 {
            return; // a kernel that never takes any
        }
        let mut send = |socket: &mut ShardSocket, tally: &mut Tally, now| {
            for packets in [5, 1, 3] {
                let (transmit, bytes) = bundle(&receiver, packets);
                out.buffer().extend(bytes);
                out.commit(transmit);
            }
            out.flush(socket, now, tally);
            received(&receiver)
        };
        let whole: Vec<(usize, u8)> = [0, 1, 2, 3, 4, 0, 0, 1, 2].map(|first| (100, first)).to_vec();
        assert_eq!(send(&mut socket, &mut tally, start), whole);
        assert_eq!((tally.bundles_refused, tally.datagrams_out, tally.bytes_out), (0, 9, 900));

        sys::tests::refuse_bundles(socket.as_fd(), true);
        assert_eq!(send(&mut socket, &mut tally, start), whole, "nothing is lost");
        assert_eq!((tally.bundles_refused, tally.send_errors()), (3, 0));
        assert_eq!((tally.datagrams_out, tally.bytes_out), (18, 1_800));
        assert_eq!(socket.segments_max(start), 1);
        assert_eq!(socket.segments_max(start + BUNDLES_AGAIN), may, "tried again");

        sys::tests::refuse_bundles(socket.as_fd(), false);
        send(&mut socket, &mut tally, start);
        assert_eq!(socket.segments_max(start), 1, "what was built before says nothing of what comes");
        send(&mut socket, &mut tally, start + BUNDLES_AGAIN);
        assert_eq!((socket.segments_max(start), tally.bundles_refused), (may, 3), "and in use again");
    }

    #[test]
    fn what_the_kernel_does_not_take_is_counted_by_reason_and_told_once_a_minute() {
        let (mut refusals, mut tally, start) = (Refusals::default(), Tally::default(), Instant::now());
        let mut refuse = |errno, after_s| {
            let error = io::Error::from_raw_os_error(errno);
            refusals.count(&error, 3, start + Duration::from_secs(after_s), &mut tally);
            refusals.packets
        };
        assert_eq!(refuse(libc::EPERM, 0), 0, "told");
        assert_eq!([refuse(libc::ENETUNREACH, 1), refuse(libc::EAGAIN, 59)], [3, 6], "kept for the next time");
        assert_eq!(refuse(libc::EMSGSIZE, 60), 6, "a probe for a larger size is no fault");
        assert_eq!(refuse(libc::EIO, 60), 0);
        let counted = (tally.send_forbidden, tally.send_unreachable, tally.send_no_room, tally.send_other);
        assert_eq!((counted, tally.send_too_large, tally.send_errors()), ((3, 3, 3, 3), 3, 12));
    }

    #[test]
    fn the_shards_share_a_port_that_nobody_else_gets() {
        let sockets = bind("127.0.0.1:0".parse().expect("an address"), 4).expect("bound");
        let address = sockets[0].local_addr().expect("bound");
        assert!(sockets.iter().all(|socket| socket.local_addr().is_ok_and(|other| other == address)));
        assert_eq!(bind(address, 1).expect_err("taken").kind(), io::ErrorKind::AddrInUse);
    }
}
