//! Where a UDP datagram goes that was read from a shard's socket: the one place that decides it, from its bytes and its
//! addresses, before anything of it is copied. The kernel follows the same rule by [`steering_program`], as far as it can.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use bytes::BytesMut;
use quinn_proto::EcnCodepoint;

use super::socket::Received;
use crate::{
    core::ShardId,
    shard::quic::cid::{CID_BYTES, CID_INCARNATION_AT, CID_SHARD_AT, Incarnation},
};

/// This bit of a QUIC packet's first byte says that its header is a long one (RFC 9000 section 17).
pub(crate) const LONG_HEADER: u8 = 0x80;
/// Where the connection ID begins in a short header (RFC 9000 section 17.3), and where a long one has its length, right
/// before it: behind the first byte and the version (section 17.2).
const SHORT_CID_AT: usize = 1;
const LONG_CID_LENGTH_AT: usize = 5;

/// A datagram as it lies in the buffer that it was received in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagram<'a> {
    pub(crate) remote: SocketAddr,
    pub(crate) local_ip: Option<IpAddr>,
    pub(crate) ecn: Option<EcnCodepoint>,
    pub(crate) arrived: Instant,
    pub(crate) data: &'a [u8],
}

impl Datagram<'_> {
    /// A copy to keep, in memory of its own: QUIC keeps a packet for as long as one byte of it waits for those before it, and
    /// would keep all that came together with it.
    pub(crate) fn to_received(self) -> Received {
        let Self { remote, local_ip, ecn, arrived, data } = self;
        Received { remote, local_ip, ecn, arrived, data: BytesMut::from(data) }
    }
}

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To this shard's own QUIC.
    Here,
    /// To another shard of this process.
    Shard(ShardId),
    /// To the process whose sockets these were, which still has connections.
    Predecessor,
}

/// Decides for one shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demultiplexer {
    shard: ShardId,
    shards: usize,
    predecessor: Option<Incarnation>,
    /// This process, if its shards dial others.
    dialling: Option<Incarnation>,
}

impl Demultiplexer {
    /// For one of so many shards.
    pub(crate) fn new(shard: ShardId, shards: usize) -> Self {
        Self { shard, shards, predecessor: None, dialling: None }
    }

    /// The same of a process whose shards dial others, as this incarnation. What answers them has long headers too, which name
    /// the shard that dialled.
    pub(crate) fn with_dialling(self, dialling: Option<Incarnation>) -> Self {
        Self { dialling, ..self }
    }

    /// The same, with a process before this one that still has connections.
    pub(crate) fn with_predecessor(self, predecessor: Option<Incarnation>) -> Self {
        Self { predecessor, ..self }
    }

    /// Where this datagram goes. Today its bytes decide alone.
    pub(crate) fn destination(&self, datagram: &Datagram<'_>) -> Destination {
        if self.predecessor.is_some_and(|predecessor| incarnation_of(datagram.data) == Some(predecessor)) {
            return Destination::Predecessor;
        }
        match shard_of(datagram.data).or_else(|| self.who_dialled(datagram.data)) {
            Some(owner) if owner != self.shard && owner.index() < self.shards => Destination::Shard(owner),
            _ => Destination::Here,
        }
    }

    /// The shard of this process that a long header's connection ID names, if that may be one of ours.
    fn who_dialled(&self, datagram: &[u8]) -> Option<ShardId> {
        let dialling = self.dialling?;
        let is_long = datagram.first().is_some_and(|first| first & LONG_HEADER != 0);
        if !is_long || incarnation_of(datagram) != Some(dialling) {
            return None;
        }
        datagram.get(LONG_CID_LENGTH_AT + 1 + CID_SHARD_AT).map(|shard| ShardId(u16::from(*shard)))
    }
}

/// The shard that a datagram belongs to, or `None` for whichever the kernel chose. A short header begins with a connection
/// ID of ours; a long one may carry the client's own choice, and no client migrates before its handshake is done (RFC 9000
/// section 9). So a connection goes on from any address.
pub(crate) fn shard_of(datagram: &[u8]) -> Option<ShardId> {
    match datagram.first() {
        Some(first) if first & LONG_HEADER == 0 => {
            datagram.get(SHORT_CID_AT + CID_SHARD_AT).map(|shard| ShardId(u16::from(*shard)))
        }
        _ => None,
    }
}

/// The process that a datagram belongs to, if its connection ID may be one of the relay's. In a long header that is so from
/// a client's second packet on (RFC 9000 section 7.2); of those that a client chooses itself, one in 65,536 of this length
/// looks the same.
pub(crate) fn incarnation_of(datagram: &[u8]) -> Option<Incarnation> {
    let cid = if datagram.first()? & LONG_HEADER == 0 {
        &datagram[SHORT_CID_AT..]
    } else if usize::from(*datagram.get(LONG_CID_LENGTH_AT)?) == CID_BYTES {
        &datagram[LONG_CID_LENGTH_AT + 1..]
    } else {
        return None;
    };
    let cid: &[u8; CID_BYTES] = cid.first_chunk()?;
    Some(Incarnation(u16::from_be_bytes([cid[CID_INCARNATION_AT], cid[CID_INCARNATION_AT + 1]])))
}

/// The same rule for the kernel, in classic BPF: a short header's datagram goes to the socket whose number is the shard's,
/// in the order in which the sockets of the port were bound. Everything else, and numbers without a socket, goes by the
/// hash of the addresses. Which process is meant the kernel cannot tell: both have the same sockets.
pub(crate) fn steering_program() -> [libc::sock_filter; 6] {
    let instruction = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let load_byte = |at: usize| instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, at as u32);
    [
        load_byte(0),
        instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 2, u32::from(LONG_HEADER)),
        instruction(libc::BPF_LD | libc::BPF_IMM, 0, 0, u32::MAX), // no socket has this number
        instruction(libc::BPF_RET | libc::BPF_A, 0, 0, 0),
        load_byte(SHORT_CID_AT + CID_SHARD_AT),
        instruction(libc::BPF_RET | libc::BPF_A, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsFd, time::Duration};

    use proptest::prelude::*;
    use quinn_proto::ConnectionIdGenerator;

    use super::*;
    use crate::shard::{
        net::{socket, sys},
        quic::cid::Generator,
    };

    const OLD: Incarnation = Incarnation(0x0102);
    const SHARDS: usize = 4;

    fn datagram(data: &[u8]) -> Datagram<'_> {
        let remote = SocketAddr::from(([192, 0, 2, 7], 4433));
        Datagram { remote, local_ip: None, ecn: None, arrived: Instant::now(), data }
    }

    fn destination(shard: u16, predecessor: Option<Incarnation>, data: &[u8]) -> Destination {
        Demultiplexer::new(ShardId(shard), SHARDS).with_predecessor(predecessor).destination(&datagram(data))
    }

    /// A packet of a connection of this shard and process: with a short header, a long one, and a long one of a client that
    /// chose another length.
    fn packets(shard: u16, incarnation: Incarnation, seed: u8) -> [Vec<u8>; 3] {
        let cid = Generator::new(ShardId(shard), incarnation, [seed; 32]).generate_cid();
        [
            [&[0x40], &cid[..], &[seed; 20]].concat(),
            [&[0xe0, 0, 0, 0, 1, 8], &cid[..], &[seed; 20]].concat(),
            [&[0xc0, 0, 0, 0, 1, 20], &cid[..], &[seed; 20]].concat(),
        ]
    }

    //
    #[test]
    fn a_short_header_names_its_shard_and_a_long_one_does_not() {
        let [short, long, chosen] = packets(3, OLD, 7);
        assert_eq!(destination(0, None, &short), Destination::Shard(ShardId(3)));
        assert_eq!(destination(3, None, &short), Destination::Here);
        for anywhere in [&long[..], &chosen, &[0xc0, 3, 0, 0], &[0x40], &[]] {
            assert_eq!(destination(0, None, anywhere), Destination::Here);
        }
        let [nobodys, ..] = packets(SHARDS as u16, OLD, 7);
        assert_eq!(destination(0, None, &nobodys), Destination::Here);
    }

    //
    #[test]
    fn what_answers_a_shard_that_dialled_comes_to_it_wherever_the_kernel_gives_it() {
        let [_, long, chosen] = packets(3, OLD, 7);
        let dialling = Demultiplexer::new(ShardId(0), SHARDS).with_dialling(Some(OLD));
        assert_eq!(dialling.destination(&datagram(&long)), Destination::Shard(ShardId(3)));
        assert_eq!(dialling.destination(&datagram(&chosen)), Destination::Here, "not of our length");
        let [_, another, _] = packets(3, Incarnation(OLD.0 + 1), 7);
        assert_eq!(dialling.destination(&datagram(&another)), Destination::Here);
        let [_, beyond, _] = packets(SHARDS as u16, OLD, 7);
        assert_eq!(dialling.destination(&datagram(&beyond)), Destination::Here);
        assert_eq!(destination(0, None, &long), Destination::Here, "a relay that dials nobody looks at no long header");
        for cut in 0..LONG_CID_LENGTH_AT + 1 + CID_BYTES {
            assert_eq!(dialling.destination(&datagram(&long[..cut])), Destination::Here, "not whole");
        }
    }

    #[test]
    fn both_headers_name_their_process_unless_a_client_chose_another_length() {
        let [short, long, chosen] = packets(3, OLD, 7);
        for shard in [0, 3] {
            assert_eq!(
                destination(shard, Some(OLD), &short),
                Destination::Predecessor,
                "whichever shard's it is there"
            );
            assert_eq!(destination(shard, Some(OLD), &long), Destination::Predecessor);
            assert_ne!(destination(shard, Some(OLD), &chosen), Destination::Predecessor);
            assert_ne!(destination(shard, Some(Incarnation(OLD.0 + 1)), &short), Destination::Predecessor);
        }
        for cut in 0..9 {
            assert_ne!(destination(0, Some(OLD), &short[..cut]), Destination::Predecessor);
            assert_ne!(destination(0, Some(OLD), &long[..cut]), Destination::Predecessor);
        }
    }

    /// Runs the program as the kernel does: what lies behind the end ends it with 0.
    fn steered(data: &[u8]) -> u32 {
        let program = steering_program();
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let libc::sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            match u32::from(code) {
                code if code == libc::BPF_LD | libc::BPF_B | libc::BPF_ABS => match data.get(k as usize) {
                    Some(byte) => accumulator = u32::from(*byte),
                    None => return 0,
                },
                code if code == libc::BPF_LD | libc::BPF_IMM => accumulator = k,
                code if code == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K => {
                    at += usize::from(if accumulator & k != 0 { jt } else { jf });
                }
                code if code == libc::BPF_RET | libc::BPF_A => return accumulator,
                code => panic!("not in the program: {code:#x}"),
            }
        }
    }

    /// Whoever the kernel gives a datagram to, by number or by hash, keeps it.
    fn agree(data: &[u8]) {
        let number = steered(data);
        let sockets = if (number as usize) < SHARDS { number as u16..number as u16 + 1 } else { 0..SHARDS as u16 };
        for shard in sockets {
            assert_eq!(destination(shard, None, data), Destination::Here, "{data:02x?} at {shard}, steered {number}");
        }
    }

    proptest! {
        #[test]
        fn the_steering_program_and_the_shards_agree_on_any_bytes(
            data in prop::collection::vec(any::<u8>(), 0..64),
            shard in 0..2 * SHARDS as u16,
            incarnation in any::<u16>(),
            seed in any::<u8>(),
        ) {
            agree(&data);
            for packet in packets(shard, Incarnation(incarnation), seed) {
                agree(&packet);
                (0..packet.len()).for_each(|cut| agree(&packet[..cut]));
            }
        }

        #[test]
        fn every_datagram_has_one_destination_and_only_the_old_process_s_own_go_there(
            data in prop::collection::vec(any::<u8>(), 0..64),
            shard in 0..SHARDS as u16,
            old in any::<u16>(),
        ) {
            let (with, without) = (destination(shard, Some(Incarnation(old)), &data), destination(shard, None, &data));
            if with == Destination::Predecessor {
                prop_assert!(data.windows(2).any(|bytes| bytes == old.to_be_bytes()));
            } else {
                prop_assert_eq!(with, without);
            }
            // Where it is passed on to, it stays: a datagram goes through two shards at most.
            if let Destination::Shard(owner) = without {
                prop_assert!(owner != ShardId(shard) && owner.index() < SHARDS);
                prop_assert_eq!(destination(owner.0, None, &data), Destination::Here);
            }
        }
    }

    #[test]
    fn the_kernel_gives_each_datagram_to_a_shard_that_keeps_it() {
        let sockets = socket::bind("127.0.0.1:0".parse().expect("an address"), SHARDS).expect("bound");
        if sys::steer_by_connection_id(sockets[0].as_fd()).is_err() {
            return; // a kernel that does not steer: the shards hand over
        }
        let (sender, to) = (UdpSocket::bind("127.0.0.1:0").expect("bound"), sockets[0].local_addr().expect("bound"));
        let mut sent = vec![Vec::new(), vec![0x40], vec![0xc0]];
        for seed in 0..32 {
            sent.extend((0..2 * SHARDS as u16).flat_map(|shard| packets(shard, OLD, seed)));
        }
        let mut by_shard = [0; SHARDS];
        for data in &sent {
            sender.send_to(data, to).expect("sent");
            let mut buffer = [0; 100];
            let mut read =
                || sockets.iter().enumerate().find_map(|(shard, socket)| Some((shard, socket.recv(&mut buffer).ok()?)));
            let deadline = Instant::now() + Duration::from_secs(5);
            let (shard, length) = loop {
                match read() {
                    Some(read) => break read,
                    None => assert!(Instant::now() < deadline, "{data:02x?} does not come"),
                }
            };
            assert_eq!(buffer[..length], data[..]);
            assert_eq!(destination(shard as u16, None, data), Destination::Here, "{data:02x?} at {shard}");
            by_shard[shard] += 1;
        }
        assert!(by_shard.iter().all(|count| *count >= 32), "each got those of its own: {by_shard:?}");
    }
}
