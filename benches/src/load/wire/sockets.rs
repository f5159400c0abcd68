//! A worker's UDP sockets: batches in with GRO, batches out with `sendmmsg` across connections and GSO within one.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn_proto::{EcnCodepoint, Transmit};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg, sockopt},
};

/// Asked of the kernel for each socket, which grants what `net.core.rmem_max` and `wmem_max` allow.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Most that one receive can return: 64 KiB of coalesced datagrams.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Receive calls on one socket before the others have their turn.
const RECEIVES_PER_TURN: usize = 4;
/// Datagrams of one connection in one GSO send.
pub(crate) const SEGMENTS_MAX: usize = 10;
/// Messages in one `sendmmsg`.
const MESSAGES_MAX: usize = 64;

/// The sockets of one worker, all towards one relay.
pub(crate) struct Sockets {
    sockets: Vec<Socket>,
    relay: SocketAddrAny,
    receive: Box<[u8]>,
    /// UDP datagrams received.
    pub(crate) datagrams_in: u64,
    /// UDP datagrams handed to the kernel.
    pub(crate) datagrams_out: u64,
    /// Those that it did not take.
    pub(crate) send_errors: u64,
}

struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    readable: bool,
    out: Out,
}

/// Packets that are built but not sent; the buffers are reused.
#[derive(Default)]
struct Out {
    buffers: Vec<Vec<u8>>,
    transmits: Vec<Transmit>,
}

/// A received UDP datagram.
pub(crate) struct Received {
    pub(crate) ecn: Option<EcnCodepoint>,
    pub(crate) remote: SocketAddr,
    pub(crate) data: BytesMut,
}

impl Sockets {
    /// Opens `count` sockets that can reach `relay`.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn open(count: usize, relay: SocketAddr) -> io::Result<Self> {
        let sockets = (0..count).map(|_| Socket::open(relay)).collect::<io::Result<_>>()?;
        Ok(Self {
            sockets,
            relay: relay.into(),
            receive: vec![0; BATCH_SIZE * RECEIVE_BYTES].into_boxed_slice(),
            datagrams_in: 0,
            datagrams_out: 0,
            send_errors: 0,
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.sockets.len()
    }

    /// Sleeps until something can be read or `timeout` has passed.
    pub(crate) fn wait(&mut self, timeout: Duration) {
        let timeout = Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as _ };
        let mut fds: Vec<PollFd<'_>> =
            self.sockets.iter().map(|socket| PollFd::new(&socket.socket, PollFlags::IN)).collect();
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Some(&timeout));
        let readable: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        self.sockets.iter_mut().zip(readable).for_each(|(socket, readable)| socket.readable = readable);
    }

    /// Passes on what can be read now, with the time at which it was read.
    pub(crate) fn receive(&mut self, mut pass: impl FnMut(Received, Instant)) {
        for socket in self.sockets.iter_mut().filter(|socket| socket.readable) {
            for _ in 0..RECEIVES_PER_TURN {
                let mut metas = [RecvMeta::default(); BATCH_SIZE];
                let mut buffers = self.receive.chunks_exact_mut(RECEIVE_BYTES).map(IoSliceMut::new);
                let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                    std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
                // An error is "nothing to read", or an ICMP message about an earlier send, which QUIC's timers handle.
                let read = socket.state.recv(UdpSockRef::from(&socket.socket), &mut slices, &mut metas);
                let Ok(count) = read else { break };
                let now = Instant::now();
                for (meta, slice) in metas.iter().zip(&slices).take(count) {
                    let mut rest = BytesMut::from(&slice[..meta.len]);
                    let ecn = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
                    while !rest.is_empty() {
                        let data = rest.split_to(meta.stride.min(rest.len()).max(1));
                        self.datagrams_in += 1;
                        pass(Received { ecn, remote: meta.addr, data }, now);
                    }
                }
                if count < BATCH_SIZE {
                    break;
                }
            }
        }
    }

    /// An empty buffer for the next packets of a socket.
    pub(crate) fn buffer(&mut self, socket: usize) -> &mut Vec<u8> {
        let out = &mut self.sockets[socket].out;
        let next = out.transmits.len();
        if out.buffers.len() == next {
            out.buffers.push(Vec::with_capacity(2048));
        }
        out.buffers[next].clear();
        &mut out.buffers[next]
    }

    /// Packets were written to [`Self::buffer`].
    pub(crate) fn commit(&mut self, socket: usize, transmit: Transmit) {
        let out = &mut self.sockets[socket].out;
        out.transmits.push(transmit);
        if out.transmits.len() == MESSAGES_MAX {
            self.flush_one(socket);
        }
    }

    /// Sends everything. What the kernel has no room for is lost, like on any full path, and counted.
    pub(crate) fn flush(&mut self) {
        (0..self.sockets.len()).for_each(|socket| self.flush_one(socket));
    }

    /// Ports in use, to find the sockets in the kernel's table.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.sockets.iter().map(|socket| socket.local.port()).collect()
    }

    fn flush_one(&mut self, index: usize) {
        let Socket { socket, state, out, .. } = &mut self.sockets[index];
        let mut next = 0;
        while next < out.transmits.len() {
            // Only a send of one connection's several packets needs GSO, which this wrapper of sendmmsg cannot say.
            let single = out.transmits[next..].iter().take_while(|transmit| transmit.segment_size.is_none()).count();
            let (sent, datagrams) = if single > 0 {
                let singles = out.transmits[next..next + single].iter().zip(&out.buffers[next..]);
                let bytes: Vec<[IoSlice<'_>; 1]> =
                    singles.map(|(transmit, buffer)| [IoSlice::new(&buffer[..transmit.size])]).collect();
                let sent = send_singles(socket, &self.relay, &bytes);
                (sent, sent as u64)
            } else {
                let transmit = &out.transmits[next];
                let sent = send_segments(socket, state, transmit, &out.buffers[next]);
                let segments = transmit.size.div_ceil(transmit.segment_size.unwrap_or(transmit.size).max(1));
                (usize::from(sent), if sent { segments as u64 } else { 0 })
            };
            self.datagrams_out += datagrams;
            self.send_errors += u64::from(sent == 0);
            next += sent.max(1);
        }
        out.transmits.clear();
    }
}

impl Socket {
    fn open(relay: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match relay {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), BUFFER_BYTES);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), BUFFER_BYTES);
        // What quinn asks for on every packet (RFC 3168's ECT(0)), once for the socket: without it the relay would see
        // packets that are not ECN-capable, and acknowledge less than a real client has it acknowledge.
        if relay.is_ipv4() {
            let _ = sockopt::set_ip_tos(&socket, EcnCodepoint::Ect0 as u8);
        } else {
            let _ = sockopt::set_ipv6_tclass(&socket, EcnCodepoint::Ect0 as u32);
        }
        let local = socket.local_addr()?;
        Ok(Self { socket, state, local, readable: true, out: Out::default() })
    }
}

/// Returns how many of the messages went out.
fn send_singles(socket: &UdpSocket, relay: &SocketAddrAny, messages: &[[IoSlice<'_>; 1]]) -> usize {
    let mut controls: Vec<_> = messages.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut headers: Vec<MMsgHdr<'_>> = messages
        .iter()
        .zip(&mut controls)
        .map(|(bytes, control)| MMsgHdr::new_with_addr(relay, bytes, control))
        .collect();
    sendmmsg(socket, &mut headers, SendFlags::empty()).unwrap_or(0)
}

fn send_segments(socket: &UdpSocket, state: &UdpSocketState, transmit: &Transmit, buffer: &[u8]) -> bool {
    let transmit = quinn_udp::Transmit {
        destination: transmit.destination,
        ecn: Some(quinn_udp::EcnCodepoint::Ect0),
        contents: &buffer[..transmit.size],
        segment_size: transmit.segment_size,
        src_ip: None,
    };
    state.try_send(UdpSockRef::from(socket), &transmit).is_ok()
}
