//! The UDP socket under QUIC: what the kernel does not take is sent in another way where there is one, and told.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use libc::{EINVAL, EIO, EMSGSIZE};
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use tokio::io::Interest;

use crate::sync::lock;

/// How often at most the log tells that the kernel does not take packets.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// The smallest packet size that QUIC works with (RFC 9000 section 14).
const QUIC_BYTES_MIN: usize = 1200;

/// A socket of a client.
#[derive(Debug)]
pub(crate) struct Socket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    faults: Arc<Faults>,
}

impl Socket {
    pub(crate) fn new(socket: std::net::UdpSocket, faults: Arc<Faults>) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { io: tokio::net::UdpSocket::from_std(socket)?, state, faults })
    }
}

/// What the kernel has said to packets of a client.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// It does not even take the smallest packets that QUIC may begin with.
    too_narrow: AtomicBool,
    refused: Mutex<Refused>,
}

#[derive(Debug, Default)]
struct Refused {
    packets: u64,
    told_at: Option<Instant>,
    last: Option<io::Error>,
}

impl Faults {
    /// Forgets what was said before.
    pub(crate) fn clear(&self) {
        self.too_narrow.store(false, Relaxed);
        lock(&self.refused).last = None;
    }

    /// Why nothing gets out, as far as the kernel has said since [`Self::clear`].
    pub(crate) fn why(&self) -> Option<String> {
        if self.too_narrow.load(Relaxed) {
            return Some(format!("This path takes no packets of {QUIC_BYTES_MIN} bytes: it is too narrow for QUIC"));
        }
        lock(&self.refused).last.as_ref().map(|error| format!("This machine refuses to send: {error}"))
    }

    fn note(&self, error: io::Error, bytes: usize, now: Instant) {
        if error.raw_os_error() == Some(EMSGSIZE) {
            // A larger one is QUIC's probe for how large a packet may be.
            if bytes <= QUIC_BYTES_MIN {
                self.too_narrow.store(true, Relaxed);
            }
            return;
        }
        let mut refused = lock(&self.refused);
        refused.packets += 1;
        if refused.told_at.is_none_or(|told| now - told >= TOLD_EVERY) {
            tracing::warn!(%error, packets = refused.packets, "this machine refuses to send packets");
            (refused.packets, refused.told_at) = (0, Some(now));
        }
        refused.last = Some(error);
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, writable: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || {
            send(transmit, |transmit| self.state.try_send((&self.io).into(), transmit), &self.faults, Instant::now())
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let received = self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, meta));
            // An error is "nothing there", or an ICMP message about an earlier send, which QUIC's timers handle.
            if let Ok(count) = received {
                return Poll::Ready(Ok(count));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// One, once the kernel has refused a bundle: another socket, as after a change of network, tries anew.
    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

/// Sends; a bundle that the kernel refuses (EIO or EINVAL: a network card or a tunnel that cannot cut it) packet by
/// packet. Only "not now" is an error: what else is lost, QUIC sends again.
fn send(
    transmit: &Transmit<'_>,
    mut once: impl FnMut(&Transmit<'_>) -> io::Result<()>,
    faults: &Faults,
    now: Instant,
) -> io::Result<()> {
    let Err(error) = once(transmit) else { return Ok(()) };
    let bytes = transmit.contents.len();
    let size = transmit.segment_size.unwrap_or(bytes).max(1);
    if error.kind() == io::ErrorKind::WouldBlock {
        return Err(error);
    }
    if size >= bytes || !matches!(error.raw_os_error(), Some(EIO | EINVAL)) {
        faults.note(error, size.min(bytes), now);
        return Ok(());
    }
    for (index, contents) in transmit.contents.chunks(size).enumerate() {
        let Transmit { destination, ecn, src_ip, .. } = *transmit;
        match once(&Transmit { destination, ecn, contents, segment_size: None, src_ip }) {
            Ok(()) => {}
            // Nothing is out yet: the whole bundle may wait.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && index == 0 => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => faults.note(error, contents.len(), now),
        }
    }
    Ok(())
}

/// Waits until the socket may take packets again.
struct Poller {
    socket: Arc<Socket>,
    writable: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket.clone();
        let writable = self.writable.get_or_insert_with(|| Box::pin(async move { socket.io.writable().await }));
        let ready = ready!(writable.as_mut().poll(cx));
        self.writable = None;
        Poll::Ready(ready)
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Poller(..)")
    }
}

#[cfg(test)]
mod tests {
    use libc::{EAGAIN, EPERM};

    use super::*;

    fn bundle(contents: &[u8]) -> Transmit<'_> {
        let destination = SocketAddr::from(([127, 0, 0, 1], 9));
        Transmit { destination, ecn: None, contents, segment_size: Some(10), src_ip: None }
    }

    /// What gets out through a kernel that says this to bundles, and this to the packet of that number.
    fn sent(to_bundles: i32, to_one: Option<(usize, i32)>, faults: &Faults) -> (io::Result<()>, Vec<usize>) {
        let (mut out, mut tried) = (Vec::new(), 0);
        let kernel = |transmit: &Transmit<'_>| {
            if transmit.segment_size.is_some() {
                return Err(io::Error::from_raw_os_error(to_bundles));
            }
            tried += 1;
            match to_one {
                Some((number, errno)) if number == tried => Err(io::Error::from_raw_os_error(errno)),
                _ => {
                    out.push(transmit.contents.len());
                    Ok(())
                }
            }
        };
        (send(&bundle(&[0; 25]), kernel, faults, Instant::now()), out)
    }

    #[test]
    fn a_bundle_that_the_kernel_refuses_goes_out_packet_by_packet() {
        for errno in [EIO, EINVAL] {
            let faults = Faults::default();
            let (result, out) = sent(errno, None, &faults);
            result.expect("sent");
            assert_eq!((out, faults.why()), (vec![10, 10, 5], None));
        }
    }

    #[test]
    fn a_full_buffer_is_waited_for_and_nothing_goes_twice() {
        let faults = Faults::default();
        assert_eq!(sent(EAGAIN, None, &faults).0.expect_err("later").kind(), io::ErrorKind::WouldBlock);
        let (result, out) = sent(EIO, Some((1, EAGAIN)), &faults);
        assert_eq!((result.expect_err("later").kind(), out), (io::ErrorKind::WouldBlock, vec![]));
        let (result, out) = sent(EIO, Some((2, EAGAIN)), &faults);
        assert_eq!((result.ok(), out), (Some(()), vec![10]), "the rest is lost as on any full path");
        assert_eq!(faults.why(), None);
    }

    #[test]
    fn what_keeps_packets_in_is_said_until_it_is_cleared() {
        let faults = Faults::default();
        faults.note(io::Error::from_raw_os_error(EMSGSIZE), 1_452, Instant::now());
        assert_eq!(faults.why(), None, "QUIC only tried");
        sent(EPERM, None, &faults).0.expect("lost");
        assert_eq!(faults.why().as_deref(), Some("This machine refuses to send: Operation not permitted (os error 1)"));
        faults.note(io::Error::from_raw_os_error(EMSGSIZE), 1_200, Instant::now());
        assert!(faults.why().is_some_and(|why| why.contains("no packets of 1200 bytes")));
        faults.clear();
        assert_eq!(faults.why(), None);
    }
}
