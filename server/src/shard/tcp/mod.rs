//! Clients whose network lets no UDP through: QUIC's packets come and go as WebSocket messages in TLS on a TCP port
//! (`docs/PROTOCOL.md`, section "The way over TCP").
//!
//! One thread does all of it, apart from the shards. What these see of it are packets in their inboxes, from addresses that
//! say which link they came by, and [`Links`], which take the packets for such addresses. So nothing that the relay decides
//! of a client is decided twice, and QUIC finds a client that changes between TCP and UDP as it finds one that has moved.

mod figures;
mod link;
mod port;
mod queue;

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener},
    sync::Arc,
    time::Instant,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dashmap::DashMap;

pub(super) use self::port::Port;
use self::queue::Queue;
pub use self::{
    figures::{Figures, Snapshot},
    link::LINK_BYTES_MAX,
};

/// What the way over TCP is made of.
pub struct Config {
    /// The port.
    pub listener: TcpListener,
    /// TLS of the connections: the relay's certificate, and the ALPN of web sites.
    pub tls: Arc<rustls::ServerConfig>,
}

/// TLS of new connections, which may change.
pub(super) type Tls = Arc<ArcSwap<rustls::ServerConfig>>;

/// A link, by a number that no other has for the relay's life; never zero.
type LinkId = u32;

/// The address by which a shard and QUIC know a client at the other end of a link: its own, in IPv6's form, and the link's
/// number as the scope. What comes by UDP has no scope here, so the two never meet, whatever a client's port is.
fn address_of(peer: SocketAddr, link: LinkId) -> SocketAddr {
    let ip = match peer.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddrV6::new(ip, peer.port(), 0, link).into()
}

/// The link that leads to this address, if one does: the one comparison that a packet on its way out costs by UDP.
#[inline]
fn link_of(address: SocketAddr) -> Option<LinkId> {
    match address {
        SocketAddr::V6(address) if address.scope_id() != 0 => Some(address.scope_id()),
        _ => None,
    }
}

/// Whether packets for this address go over TCP. Whoever is there has proven its address by TCP's handshake.
#[inline]
pub(crate) fn is_over_tcp(address: SocketAddr) -> bool {
    link_of(address).is_some()
}

/// A client's address for people.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Every link, with what waits for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Links {
    queues: Arc<DashMap<LinkId, Arc<Queue>>>,
    figures: Arc<Figures>,
}

impl Links {
    /// Leaves packets for a link: one, or several of this size one after the other. What has no room, or no link any more, is
    /// lost, as on any full path.
    pub(crate) fn send(&self, to: SocketAddr, packets: &Bytes, size: usize, now: Instant) {
        let queue = link_of(to).and_then(|link| self.queues.get(&link).map(|queue| queue.clone()));
        let Some(queue) = queue else { return };
        let mut at = 0;
        while at < packets.len() {
            let end = (at + size.max(1)).min(packets.len());
            if !queue.push(packets.slice(at..end), now) {
                Figures::count(&self.figures.dropped_no_room, 1);
            }
            at = end;
        }
        queue.wake();
    }

    /// What is counted of them.
    pub(super) fn figures(&self) -> Arc<Figures> {
        self.figures.clone()
    }

    fn len(&self) -> usize {
        self.queues.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn an_address_says_its_link_and_is_never_one_of_udp_s() {
        for peer in ["192.0.2.7:5", "[2001:db8::7]:5"] {
            let peer: SocketAddr = peer.parse().expect("an address");
            let address = address_of(peer, 9);
            assert_eq!(link_of(address), Some(9));
            assert_ne!(address, address_of(peer, 8));
            assert_ne!(address, peer);
            assert_eq!((plain(address), link_of(peer), link_of(plain(address))), (peer, None, None));
        }
    }

    #[test]
    fn a_bundle_is_cut_into_its_packets_and_what_has_no_link_is_lost() {
        let links = Links::default();
        let peer = address_of("192.0.2.7:5".parse().expect("an address"), 1);
        let queue = Arc::new(Queue::new(Instant::now()));
        links.queues.insert(1, queue.clone());
        let now = Instant::now();
        links.send(peer, &Bytes::from_static(b"aaabbbc"), 3, now);
        links.send(peer, &Bytes::from_static(b"dd"), 2, now);
        links.send(address_of(peer, 2), &Bytes::from_static(b"lost"), 4, now);
        let (taken, late) = queue.take(usize::MAX, now);
        assert_eq!((taken, late), (["aaa", "bbb", "c", "dd"].map(Bytes::from).to_vec(), 0));
    }
}
