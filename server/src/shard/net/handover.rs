//! Two processes and one port: how an upgrade keeps the connections of the old process alive.
//!
//! The old process gives its sockets away, so nothing changes in the kernel: no packet is lost, and the steering stays.
//! From then on only the new process reads them. It knows the packets of the old one's connections by their
//! connection ID and passes them on over a pair of Unix sockets for each shard; the old process goes on sending by
//! itself. When either process is gone its end of the pair closes, and the other goes on alone.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Instant,
};

use crossbeam_channel::Sender;
use quinn_proto::EcnCodepoint;
use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair},
};

use super::demultiplexer::Datagram;
use crate::shard::{figures::counters::Tally, quic::cid::Incarnation};

/// Bytes of one record: as many packets as fit, so that a turn's packets cost one system call.
const RECORD_BYTES_MAX: usize = 60 * 1024;
/// What stands before a packet in a record: its length, ECN bits, whether a local address is known, the remote address
/// and port, and the local address, both as IPv6.
const HEAD_BYTES: usize = 2 + 1 + 1 + 16 + 2 + 16;
/// Asked for each direction of the pair: as long as the old process is busy, packets wait here. The kernel may grant
/// less.
const PAIR_BYTES: usize = 4 * 1024 * 1024;
/// Records that the old process reads in a turn.
const RECORDS_PER_TURN: usize = 16;

/// A pair for one shard: the end that the new process writes to, and the one that the old process reads from.
///
/// # Errors
/// When the system has no descriptor left.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (write, read) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    // Less than asked for still works: what does not fit is lost as on any path, and counted.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&write, PAIR_BYTES);
    Ok((write, read))
}

/// The new process's end: where packets of the old one's connections go.
#[derive(Debug)]
pub(crate) struct Predecessor {
    incarnation: Incarnation,
    socket: OwnedFd,
    record: Vec<u8>,
    packets: u64,
}

impl Predecessor {
    pub(crate) fn new(incarnation: Incarnation, socket: OwnedFd) -> Self {
        Self { incarnation, socket, record: Vec::new(), packets: 0 }
    }

    /// Which process it is.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Takes a packet that belongs to the old process.
    pub(crate) fn take(&mut self, packet: &Datagram<'_>, tally: &mut Tally) {
        let bytes = HEAD_BYTES + packet.data.len();
        if bytes > RECORD_BYTES_MAX {
            tally.passed_back_lost += 1;
            return;
        }
        if self.record.len() + bytes > RECORD_BYTES_MAX {
            self.flush(tally);
        }
        write_packet(&mut self.record, packet);
        self.packets += 1;
    }

    /// Passes on what was taken. Returns whether the old process is still there.
    pub(crate) fn flush(&mut self, tally: &mut Tally) -> bool {
        if self.packets == 0 {
            return true;
        }
        let sent = send(&self.socket, &self.record, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        let packets = std::mem::take(&mut self.packets);
        self.record.clear();
        match sent {
            Ok(_) => tally.passed_back += packets,
            Err(_) => tally.passed_back_lost += packets,
        }
        !matches!(sent, Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN))
    }

    /// Whether the old process has ended.
    pub(crate) fn is_gone(&self) -> bool {
        is_gone(self.socket.as_fd())
    }
}

/// Whether the old process at the other end of a passage has ended. It never sends anything, so all there can be is the
/// end.
pub(crate) fn is_gone(passage: BorrowedFd<'_>) -> bool {
    !matches!(recv(passage, &mut [0; 1], RecvFlags::DONTWAIT), Err(Errno::AGAIN | Errno::INTR))
}

/// The old process's end: where its packets come from.
#[derive(Debug)]
pub(crate) struct Successor {
    socket: OwnedFd,
    buffer: Box<[u8]>,
}

/// What a process's shards and its control thread know together of an upgrade.
#[derive(Debug)]
pub(crate) struct Upgrade {
    /// Whether the sockets are this process's for good. Until then the old one may take them back.
    settled: AtomicBool,
    /// Shards whose sockets another process reads.
    relieved: AtomicUsize,
}

impl Upgrade {
    pub(crate) fn new(settled: bool) -> Self {
        Self { settled: AtomicBool::new(settled), relieved: AtomicUsize::new(0) }
    }

    pub(crate) fn settle(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    pub(crate) fn reads_no_more(&self) {
        self.relieved.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn reads_again(&self) {
        self.relieved.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether every shard reads its own socket.
    pub(crate) fn reads_all(&self) -> bool {
        self.relieved.load(Ordering::Relaxed) == 0
    }
}

/// Whose turn it is to read a shard's socket.
#[derive(Debug)]
pub(crate) enum Relief {
    /// Another process's, from now on; whoever waits is to be told.
    Begin(Successor, Sender<()>),
    /// This one's again; whoever waits is to be told.
    End(Sender<()>),
}

/// What [`Successor::receive`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Everything that was there.
    All,
    /// There may be more.
    More,
    /// The new process is gone: the sockets are ours to read again.
    Gone,
}

impl Successor {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: vec![0; RECORD_BYTES_MAX].into_boxed_slice() }
    }

    /// Passes on what the new process has passed back. It counts as arrived now: the way here is short.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        tally: &mut Tally,
        mut pass: impl FnMut(Datagram<'_>, &mut Tally),
    ) -> Passed {
        for _ in 0..RECORDS_PER_TURN {
            let length = match recv(&self.socket, &mut *self.buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(Errno::CONNRESET) => return Passed::Gone,
                Ok((length, _)) => length,
                Err(_) => return Passed::All,
            };
            tally.recv_batches += 1;
            let mut rest = &self.buffer[..length];
            while let Some(packet) = read_packet(&mut rest, now) {
                tally.datagrams_in += 1;
                tally.bytes_in += packet.data.len() as u64;
                pass(packet, tally);
            }
        }
        Passed::More
    }
}

impl AsFd for Successor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn write_packet(record: &mut Vec<u8>, packet: &Datagram<'_>) {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    record.extend_from_slice(&(packet.data.len() as u16).to_be_bytes());
    record.push(packet.ecn.map_or(0, |ecn| ecn as u8));
    record.push(u8::from(packet.local_ip.is_some()));
    record.extend_from_slice(&bits(packet.remote.ip()));
    record.extend_from_slice(&packet.remote.port().to_be_bytes());
    record.extend_from_slice(&packet.local_ip.map_or([0; 16], bits));
    record.extend_from_slice(packet.data);
}

/// The next packet of a record; `None` at its end.
fn read_packet<'a>(rest: &mut &'a [u8], arrived: Instant) -> Option<Datagram<'a>> {
    let head: &[u8; HEAD_BYTES] = rest.first_chunk()?;
    let address = |at: usize| {
        let octets: [u8; 16] = std::array::from_fn(|index| head[at + index]);
        IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
    };
    let length = usize::from(u16::from_be_bytes([head[0], head[1]]));
    let data = rest.get(HEAD_BYTES..HEAD_BYTES + length)?;
    let packet = Datagram {
        remote: SocketAddr::new(address(4), u16::from_be_bytes([head[20], head[21]])),
        local_ip: (head[3] != 0).then(|| address(22)),
        ecn: EcnCodepoint::from_bits(head[2]),
        arrived,
        data,
    };
    *rest = &rest[HEAD_BYTES + length..];
    Some(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(data: &[u8]) -> Datagram<'_> {
        Datagram {
            remote: "192.0.2.7:4433".parse().expect("an address"),
            local_ip: Some("2001:db8::1".parse().expect("an address")),
            ecn: Some(EcnCodepoint::Ect0),
            arrived: Instant::now(),
            data,
        }
    }

    fn received(successor: &mut Successor, tally: &mut Tally) -> (Vec<u8>, Passed) {
        let mut lasts = Vec::new();
        let passed = successor.receive(Instant::now(), tally, |got, _| {
            let sent = packet(&[]);
            assert_eq!((got.remote, got.local_ip, got.ecn), (sent.remote, sent.local_ip, sent.ecn));
            lasts.extend(got.data.last());
        });
        (lasts, passed)
    }

    #[test]
    fn packets_of_the_old_process_reach_it_as_they_came() {
        let (write, read) = pair().expect("a pair");
        let mut predecessor = Predecessor::new(Incarnation(7), write);
        let mut successor = Successor::new(read);
        let mut tally = Tally::default();
        // More than a record holds: none is lost at the seam.
        let count = RECORD_BYTES_MAX / (HEAD_BYTES + 10) + 5;
        for last in 0..count {
            predecessor.take(&packet(&[0x40, 0, 0, 7, 1, 2, 3, 4, 5, last as u8]), &mut tally);
        }
        assert!(predecessor.flush(&mut tally));
        let (lasts, passed) = received(&mut successor, &mut tally);
        assert_eq!(lasts, (0..count).map(|last| last as u8).collect::<Vec<_>>());
        assert_eq!(passed, Passed::All);
        assert_eq!((tally.passed_back, tally.passed_back_lost), (count as u64, 0));
        assert_eq!(tally.datagrams_in, count as u64);
    }

    #[test]
    fn each_side_notices_that_the_other_is_gone() {
        let mut tally = Tally::default();
        let (write, read) = pair().expect("a pair");
        let mut predecessor = Predecessor::new(Incarnation(7), write);
        assert!(!predecessor.is_gone());
        drop(read);
        assert!(predecessor.is_gone());
        predecessor.take(&packet(&[7; 10]), &mut tally);
        assert!(!predecessor.flush(&mut tally));
        assert_eq!(tally.passed_back_lost, 1);

        let (write, read) = pair().expect("a pair");
        drop(write);
        assert_eq!(received(&mut Successor::new(read), &mut tally).1, Passed::Gone);
    }

    #[test]
    fn a_record_that_is_cut_ends_early_and_harms_nobody() {
        let mut record = Vec::new();
        write_packet(&mut record, &packet(&[7; 10]));
        for cut in 0..record.len() {
            assert!(read_packet(&mut &record[..cut], Instant::now()).is_none());
        }
        assert!(read_packet(&mut &record[..], Instant::now()).is_some());
    }
}
