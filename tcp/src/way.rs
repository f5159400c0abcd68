//! The socket that quinn is given: packets go over TCP, and later by UDP if that is found to get through.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use bytes::Bytes;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use supernode_proto::tcp::CLIENT_PACKET_BYTES_MAX;

use crate::outgoing::Outgoing;

/// Packets that came and that QUIC has not read yet; more are lost, as in a full socket buffer. Default 1,024: QUIC reads
/// them as soon as its task runs.
const INCOMING_MAX: usize = 1024;

/// Which way packets go out. They come in by both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// As WebSocket messages.
    Tcp,
    /// As UDP datagrams.
    Udp,
}

/// A socket for one QUIC connection. To QUIC the relay has one address whichever way packets go, so a change of the way is
/// nothing that it must know of; to the relay it is a client that has moved (RFC 9000 section 9).
#[derive(Debug)]
pub struct Way {
    remote: SocketAddr,
    incoming: Mutex<Incoming>,
    outgoing: Outgoing,
    udp: Mutex<Option<Arc<dyn AsyncUdpSocket>>>,
    by_udp: AtomicBool,
    heard_by_udp: AtomicU64,
}

#[derive(Debug, Default)]
struct Incoming {
    packets: VecDeque<Bytes>,
    waker: Option<Waker>,
}

impl Way {
    /// To the relay that QUIC shall know by this address, which is its UDP address. Goes over TCP.
    pub fn new(remote: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            remote,
            incoming: Mutex::default(),
            outgoing: Outgoing::default(),
            udp: Mutex::default(),
            by_udp: AtomicBool::new(false),
            heard_by_udp: AtomicU64::new(0),
        })
    }

    /// The relay's address, as QUIC knows it.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Which way packets go out now.
    pub fn sending(&self) -> Sending {
        if self.by_udp.load(Relaxed) { Sending::Udp } else { Sending::Tcp }
    }

    /// Sends by this UDP socket from now on, and listens at it.
    pub fn send_by_udp(&self, socket: Arc<dyn AsyncUdpSocket>) {
        *lock(&self.udp) = Some(socket);
        self.by_udp.store(true, Relaxed);
        self.outgoing.let_go();
        // It has to be asked for what comes.
        if let Some(waker) = lock(&self.incoming).waker.take() {
            waker.wake();
        }
    }

    /// Sends over TCP again; what still comes by UDP is taken.
    pub fn send_by_tcp(&self) {
        self.by_udp.store(false, Relaxed);
    }

    /// Datagrams that came by UDP.
    pub fn heard_by_udp(&self) -> u64 {
        self.heard_by_udp.load(Relaxed)
    }

    /// Packets that were too old, once TCP would have taken them.
    pub fn dropped(&self) -> u64 {
        self.outgoing.dropped()
    }

    pub(crate) fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }

    /// A packet came over TCP.
    pub(crate) fn receive(&self, packet: Bytes) {
        let mut incoming = lock(&self.incoming);
        if incoming.packets.len() < INCOMING_MAX {
            incoming.packets.push_back(packet);
        }
        if let Some(waker) = incoming.waker.take() {
            waker.wake();
        }
    }

    fn udp(&self) -> Option<Arc<dyn AsyncUdpSocket>> {
        lock(&self.udp).clone()
    }

    fn udp_to_send(&self) -> Option<Arc<dyn AsyncUdpSocket>> {
        if self.by_udp.load(Relaxed) { self.udp() } else { None }
    }
}

impl AsyncUdpSocket for Way {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { way: self, udp: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if let Some(udp) = self.udp_to_send() {
            return udp.try_send(transmit);
        }
        if !self.outgoing.has_room() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let now = Instant::now();
        for packet in transmit.contents.chunks(transmit.segment_size.unwrap_or(usize::MAX).max(1)) {
            // QUIC asks how large packets may be: what gets through here may not where it moves to.
            if packet.len() <= CLIENT_PACKET_BYTES_MAX {
                self.outgoing.push(Bytes::copy_from_slice(packet), now);
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut count = 0;
        {
            let mut incoming = lock(&self.incoming);
            for (buffer, meta) in bufs.iter_mut().zip(meta.iter_mut()) {
                let Some(packet) = incoming.packets.pop_front() else { break };
                let len = packet.len().min(buffer.len());
                buffer[..len].copy_from_slice(&packet[..len]);
                (meta.addr, meta.len, meta.stride, meta.ecn, meta.dst_ip) = (self.remote, len, len, None, None);
                count += 1;
            }
            if count == 0 {
                incoming.waker = Some(cx.waker().clone());
            }
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        let Some(udp) = self.udp() else { return Poll::Pending };
        let count = ready!(udp.poll_recv(cx, bufs, meta))?;
        for meta in &mut meta[..count] {
            self.heard_by_udp.fetch_add(1, Relaxed);
            (meta.addr, meta.dst_ip) = (self.remote, None);
        }
        Poll::Ready(Ok(count))
    }

    /// Of the family that the relay's address has, so that QUIC leaves it as it is.
    fn local_addr(&self) -> io::Result<SocketAddr> {
        let any = match self.remote {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Ok(SocketAddr::new(any, 0))
    }

    fn may_fragment(&self) -> bool {
        false
    }

    fn max_transmit_segments(&self) -> usize {
        self.udp_to_send().map_or(1, |udp| udp.max_transmit_segments())
    }

    fn max_receive_segments(&self) -> usize {
        // Buffers are made once, and UDP may come later.
        64
    }
}

/// Waits until there is room.
struct Poller {
    way: Arc<Way>,
    udp: Option<UdpRoom>,
}

/// A UDP socket, and who waits for room there.
type UdpRoom = (Arc<dyn AsyncUdpSocket>, Pin<Box<dyn UdpPoller>>);

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(udp) = self.way.udp_to_send() else { return self.way.outgoing.poll_room(cx).map(Ok) };
        match &mut self.udp {
            Some((known, poller)) if Arc::ptr_eq(known, &udp) => poller.as_mut().poll_writable(cx),
            place => {
                let (_, poller) = place.insert((udp.clone(), udp.create_io_poller()));
                poller.as_mut().poll_writable(cx)
            }
        }
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Poller(..)")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done where it may panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn over_tcp_no_packet_is_longer_than_any_path_takes_and_bundles_are_cut() {
        let way = Way::new("192.0.2.1:4433".parse().expect("an address"));
        let send = |bytes: usize, segment_size| {
            let contents = &vec![7; bytes][..];
            let transmit = Transmit { destination: way.remote(), ecn: None, contents, segment_size, src_ip: None };
            way.try_send(&transmit).expect("there is room");
        };
        send(1200, None);
        send(1201, None);
        send(2500, Some(1000));
        let sent: Vec<usize> = way.outgoing.take(usize::MAX, Instant::now()).iter().map(Bytes::len).collect();
        assert_eq!(sent, [1200, 1000, 1000, 500]);
    }

    #[test]
    fn what_comes_over_tcp_comes_from_the_relay_s_address() {
        let way = Way::new("192.0.2.1:4433".parse().expect("an address"));
        way.receive(Bytes::from_static(b"first"));
        way.receive(Bytes::from_static(b"second"));
        let mut buffers = [[0; 16]; 3];
        let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut meta = [RecvMeta::default(); 3];
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(way.poll_recv(&mut cx, &mut slices, &mut meta), Poll::Ready(Ok(2))));
        assert_eq!((&slices[0][..meta[0].len], &slices[1][..meta[1].len]), (&b"first"[..], &b"second"[..]));
        assert!(meta[..2].iter().all(|meta| meta.addr == way.remote()));
        assert!(way.poll_recv(&mut cx, &mut slices, &mut meta).is_pending());
    }
}
