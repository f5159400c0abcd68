//! Datagrams from any address of the loopback network, as fast as a core sends them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use quinn_udp::{Transmit, UdpSocketState};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::attacks::{Report, Target};

/// Datagrams that are sent at once, all from one address. Networks bring them in batches too, and one by one this side
/// would be the slower one.
const BATCH: usize = 1;
/// How long a socket whose buffer is full is left alone.
const FULL: Duration = Duration::from_micros(50);

/// A socket that says it is somebody else.
pub(crate) struct Flood {
    socket: UdpSocket,
    state: UdpSocketState,
    to: SocketAddr,
}

impl Flood {
    pub(crate) fn new(to: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket, state, to })
    }

    /// Sends datagrams of `each` bytes, however long it takes.
    pub(crate) fn send(&self, from: Ipv4Addr, contents: &[u8], each: usize) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.to,
            ecn: None,
            contents,
            segment_size: Some(each),
            src_ip: Some(IpAddr::V4(from)),
        };
        loop {
            match self.state.try_send((&self.socket).into(), &transmit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(FULL),
                result => return result,
            }
        }
    }
}

/// Sends datagrams of `bytes` each, which `fill` makes, until the time is over: every batch from
/// another address.
pub(crate) fn spray(
    target: &Target,
    bytes: usize,
    mut fill: impl FnMut(&mut SmallRng, &mut [u8]),
) -> anyhow::Result<Report> {
    let flood = Flood::new(target.door()?.address)?;
    let mut rng = SmallRng::from_rng(&mut rand::rng());
    let mut datagrams = vec![0; BATCH * bytes];
    let mut report = Report::of("datagrams");
    let begin = Instant::now();
    while begin.elapsed() < target.duration() {
        datagrams.chunks_mut(bytes).for_each(|datagram| fill(&mut rng, datagram));
        flood.send(stranger(&mut rng), &datagrams, bytes)?;
        report.count += BATCH as u64;
    }
    Ok(report)
}

/// An address in a network that belongs to attackers only.
pub(crate) fn stranger(rng: &mut SmallRng) -> Ipv4Addr {
    Ipv4Addr::new(127, rng.random_range(64..128), rng.random(), rng.random_range(1..255))
}
