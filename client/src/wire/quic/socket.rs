//! The UDP socket under QUIC: what the kernel does not take is sent in another way where there is one, and told.

use std::{
    collections::HashMap,
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

use libc::{ECONNREFUSED, EHOSTUNREACH, EINVAL, EIO, EMSGSIZE, ENETUNREACH};
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use tokio::{io::Interest, sync::watch, task::AbortHandle};

use super::icmp::{self, Report};
use crate::{Error, sync::lock};

/// How often at most the log tells that the kernel does not take packets.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// The smallest packet size that QUIC works with (RFC 9000 section 14).
const QUIC_BYTES_MIN: usize = 1200;
/// Addresses of which the network's reports are kept: more than are tried at once. Whoever forges reports fills no memory.
const REPORTED_MAX: usize = 64;

/// A socket of a client.
#[derive(Debug)]
pub(crate) struct Socket {
    io: Arc<tokio::net::UdpSocket>,
    state: UdpSocketState,
    faults: Arc<Faults>,
    /// Reads what the network reports.
    reports: AbortHandle,
}

impl Socket {
    pub(crate) fn new(socket: std::net::UdpSocket, faults: Arc<Faults>) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        if let Err(error) = icmp::keep(&socket) {
            tracing::debug!(%error, "the system keeps no reports of packets that do not arrive");
        }
        let io = Arc::new(tokio::net::UdpSocket::from_std(socket)?);
        let reports = tokio::spawn(read_reports(io.clone(), faults.clone())).abort_handle();
        Ok(Self { io, state, faults, reports })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reports.abort();
    }
}

/// Reports take room in the socket's receive buffer until they are read.
async fn read_reports(io: Arc<tokio::net::UdpSocket>, faults: Arc<Faults>) {
    while io.ready(Interest::ERROR).await.is_ok() {
        while let Ok(report) = io.try_io(Interest::ERROR, || icmp::next(&*io)) {
            faults.note_report(report);
        }
    }
}

/// What kernel and network have said to packets of a client.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// The kernel does not even take the smallest packets that QUIC may begin with.
    too_narrow: AtomicBool,
    refused: Mutex<Refused>,
    /// The last report on packets to an address.
    reports: watch::Sender<HashMap<SocketAddr, Report>>,
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
        self.reports.send_modify(HashMap::clear);
    }

    /// Whether packets do not get out or through because they are as large as QUIC needs them.
    pub(crate) fn is_too_narrow(&self) -> bool {
        let too_narrow = |report: &Report| report.bytes_max.is_some_and(|bytes_max| bytes_max < QUIC_BYTES_MIN);
        self.too_narrow.load(Relaxed) || self.reports.borrow().values().any(too_narrow)
    }

    /// Why nothing gets out, as far as the kernel has said since [`Self::clear`].
    pub(crate) fn why(&self) -> Option<String> {
        if self.is_too_narrow() {
            return Some(format!("This path takes no packets of {QUIC_BYTES_MIN} bytes: it is too narrow for QUIC"));
        }
        lock(&self.refused).last.as_ref().map(|error| format!("This machine refuses to send: {error}"))
    }

    /// Waits until the network says of an address that no packet of ours can have an answer there. That a machine or a
    /// network cannot be reached is no such word: it may be for a moment.
    pub(crate) async fn no_way(&self, address: SocketAddr) -> Error {
        let mut reports = self.reports.subscribe();
        let is_said = |reports: &HashMap<SocketAddr, Report>| {
            of(reports, address).is_some_and(|report| matches!(report.errno, ECONNREFUSED | EMSGSIZE))
        };
        // The sender is ours: it does not end.
        match reports.wait_for(is_said).await.ok().and_then(|reports| of(&reports, address)) {
            Some(Report { errno: EMSGSIZE, .. }) => Error::TimedOut("packets as large as QUIC needs them"),
            _ => Error::NothingListens,
        }
    }

    /// What the network says of packets to there.
    pub(crate) fn reported(&self, address: SocketAddr) -> Option<io::Error> {
        of(&self.reports.borrow(), address).map(|report| io::Error::from_raw_os_error(report.errno))
    }

    pub(crate) fn note_report(&self, report: Report) {
        tracing::debug!(errno = report.errno, "the network reports a packet that did not arrive");
        self.reports.send_if_modified(|reports| {
            let has_room = reports.len() < REPORTED_MAX || reports.contains_key(&report.to);
            // A probe for a larger size hides nothing.
            let says_more = report.errno != EMSGSIZE || report.bytes_max.is_some_and(|max| max < QUIC_BYTES_MIN);
            has_room && says_more && reports.insert(report.to, report) != Some(report)
        });
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

/// What is known of an address. The kernel's own word on a packet that is too long names no port.
fn of(reports: &HashMap<SocketAddr, Report>, address: SocketAddr) -> Option<Report> {
    let there = icmp::plain(address);
    reports.get(&there).or_else(|| reports.get(&SocketAddr::new(there.ip(), 0))).copied()
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
    let Err(mut error) = once(transmit) else { return Ok(()) };
    // That may have been said of an earlier packet, by the network: then this one was not tried yet.
    if matches!(error.raw_os_error(), Some(ECONNREFUSED | EHOSTUNREACH | ENETUNREACH | EMSGSIZE)) {
        match once(transmit) {
            Ok(()) => return Ok(()),
            Err(of_this_one) => error = of_this_one,
        }
    }
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
    fn a_word_of_the_network_on_an_earlier_packet_costs_the_next_one_nothing() {
        for errno in [ECONNREFUSED, EHOSTUNREACH, EMSGSIZE] {
            let (faults, mut out, mut said) = (Faults::default(), 0, false);
            let kernel = |_: &Transmit<'_>| match std::mem::replace(&mut said, true) {
                false => Err(io::Error::from_raw_os_error(errno)),
                true => {
                    out += 1;
                    Ok(())
                }
            };
            send(&bundle(&[0; 25]), kernel, &faults, Instant::now()).expect("sent");
            assert_eq!((out, faults.why()), (1, None));
        }
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
