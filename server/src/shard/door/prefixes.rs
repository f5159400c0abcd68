//! How much of the relay each network has, so that none can take the others' places.
//!
//! A network is an IPv4 address or the first 56 bits of an IPv6 address: what a household or a host is given. Only a
//! keyed hash of it is kept, under a key that is drawn at the start, and only while it has a connection or had a
//! handshake a moment ago.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    time::{Duration, Instant},
};

use dashmap::{DashMap, mapref::entry::Entry};

use crate::core::limits::Limits;

/// Networks that are known at once; beyond it those that are not are refused. More than there can be sessions.
pub const PREFIXES_MAX: usize = 131_072;
/// What each takes at most: a table that has just grown is half empty.
pub const PREFIX_BYTES: usize = 96;
/// Handshakes are counted by the second.
const WINDOW: Duration = Duration::from_secs(1);

/// A network's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix(u64);

/// A client's network at three widths, each by its keyed hash: of an IPv6 address the first 32 bits, which a provider is
/// given, the first 48 and the first 56; of an IPv4 address itself, whose neighbours are other people's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    /// The widest first.
    pub(crate) groups: [u64; 3],
}

/// What becomes of a client's first packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may go on; [`Prefixes::leave`] gives the place back.
    Enter(Prefix),
    /// It must prove its address by Retry first (RFC 9000 section 8.1.2).
    Prove,
    /// Its network has as much as it may of this.
    Refuse(Excess),
}

/// What there is too much of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// Connections of this network.
    Connections,
    /// Handshakes of this network in this second.
    Handshakes,
    /// Networks.
    Networks,
}

/// All networks with a connection, of all shards.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    hasher: RandomState,
    known: DashMap<u64, Use>,
}

#[derive(Debug)]
struct Use {
    connections: u32,
    window: Instant,
    /// Handshakes of this window from addresses that nobody has proven. Counted apart: whoever forges another's address
    /// uses up these only, and its owner gets in by a Retry.
    unproven: u32,
    proven: u32,
}

impl Prefixes {
    /// The network of an address.
    pub(crate) fn network(&self, ip: IpAddr) -> Network {
        let narrow = network(ip);
        let group = |bytes: usize| {
            let kept = if narrow[0] == 6 { &narrow[..=bytes] } else { &narrow };
            self.hasher.hash_one((bytes, kept))
        };
        Network { groups: [group(4), group(6), group(7)] }
    }

    /// A client's first packet from this network; `proven` says that it came back with a Retry token.
    pub(crate) fn enter(&self, network: &Network, proven: bool, limits: &Limits, now: Instant) -> Verdict {
        let [.., key] = network.groups;
        if self.known.len() >= PREFIXES_MAX && !self.known.contains_key(&key) {
            self.known.retain(|_, usage| !usage.is_idle(now));
            if self.known.len() >= PREFIXES_MAX {
                return Verdict::Refuse(Excess::Networks);
            }
        }
        let mut usage =
            self.known.entry(key).or_insert_with(|| Use { connections: 0, window: now, unproven: 0, proven: 0 });
        if now.saturating_duration_since(usage.window) >= WINDOW {
            (usage.window, usage.unproven, usage.proven) = (now, 0, 0);
        }
        if usage.connections >= limits.connections_per_prefix_max {
            return Verdict::Refuse(Excess::Connections);
        }
        let handshakes = if proven { &mut usage.proven } else { &mut usage.unproven };
        if *handshakes >= limits.handshakes_per_prefix_per_second_max {
            return if proven { Verdict::Refuse(Excess::Handshakes) } else { Verdict::Prove };
        }
        *handshakes += 1;
        usage.connections += 1;
        Verdict::Enter(Prefix(key))
    }

    /// Gives a connection's place back.
    pub(crate) fn leave(&self, prefix: Prefix, now: Instant) {
        if let Entry::Occupied(mut usage) = self.known.entry(prefix.0) {
            usage.get_mut().connections = usage.get().connections.saturating_sub(1);
            if usage.get().is_idle(now) {
                usage.remove();
            }
        }
    }

    /// Networks that are known.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.known.len()
    }
}

impl Use {
    fn is_idle(&self, now: Instant) -> bool {
        self.connections == 0 && now.saturating_duration_since(self.window) >= WINDOW
    }
}

/// An IPv4 address, also where it is written as an IPv6 one, or the first 56 bits of an IPv6 address.
fn network(ip: IpAddr) -> [u8; 8] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [4, a, b, c, d, 0, 0, 0]
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, g, ..] = ip.octets();
            [6, a, b, c, d, e, f, g]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: u32, handshakes: u32) -> Limits {
        Limits {
            connections_per_prefix_max: connections,
            handshakes_per_prefix_per_second_max: handshakes,
            ..Limits::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn as_many_networks_as_there_may_be_take_what_the_memory_table_says() {
        let (prefixes, limits, now) = (Prefixes::default(), Limits::default(), Instant::now());
        let mut refused = 0;
        for number in 0..PREFIXES_MAX as u32 + 10 {
            let network = prefixes.network(IpAddr::from((0x0a00_0000 + number).to_be_bytes()));
            refused += u32::from(prefixes.enter(&network, true, &limits, now) == Verdict::Refuse(Excess::Networks));
        }
        assert_eq!((prefixes.len(), refused), (PREFIXES_MAX, 10));
        // Seven of eight places are filled before a table doubles; each has a byte beside its entry.
        let places = prefixes.known.capacity() * 8 / 7;
        let bytes = places * (size_of::<(u64, Use)>() + 1);
        assert!(bytes <= PREFIXES_MAX * PREFIX_BYTES, "{} bytes each", bytes / PREFIXES_MAX);
    }

    //
    #[test]
    fn a_network_has_so_many_connections_and_others_theirs() {
        let (prefixes, limits, now) = (Prefixes::default(), limits(2, 100), Instant::now());
        let enter = |address| prefixes.enter(&prefixes.network(ip(address)), false, &limits, now);
        let Verdict::Enter(first) = enter("192.0.2.1") else { panic!("the first") };
        assert!(matches!(enter("::ffff:192.0.2.1"), Verdict::Enter(_)), "the same network, written otherwise");
        assert_eq!(enter("192.0.2.1"), Verdict::Refuse(Excess::Connections));
        assert!(matches!(enter("192.0.2.2"), Verdict::Enter(_)));
        assert!(matches!(enter("2001:db8:0:100::1"), Verdict::Enter(_)));
        assert!(matches!(enter("2001:db8:0:1ff::2"), Verdict::Enter(_)));
        assert_eq!(enter("2001:db8:0:1aa::3"), Verdict::Refuse(Excess::Connections));
        assert!(matches!(enter("2001:db8:0:200::1"), Verdict::Enter(_)));
        prefixes.leave(first, now);
        assert!(matches!(enter("192.0.2.1"), Verdict::Enter(_)), "a place was given back");
    }

    //
    #[test]
    fn whoever_forges_an_address_does_not_keep_its_owner_out() {
        let (prefixes, limits, now) = (Prefixes::default(), limits(100, 2), Instant::now());
        let enter = |proven, at| prefixes.enter(&prefixes.network(ip("192.0.2.1")), proven, &limits, at);
        for _ in 0..2 {
            assert!(matches!(enter(false, now), Verdict::Enter(_)));
        }
        assert_eq!(enter(false, now), Verdict::Prove);
        for _ in 0..2 {
            assert!(matches!(enter(true, now), Verdict::Enter(_)));
        }
        assert_eq!(enter(true, now), Verdict::Refuse(Excess::Handshakes));
        assert!(matches!(enter(true, now + WINDOW), Verdict::Enter(_)), "the next second");
    }

    #[test]
    fn who_has_left_is_forgotten() {
        let (prefixes, limits, now) = (Prefixes::default(), limits(100, 100), Instant::now());
        let network = prefixes.network(ip("192.0.2.1"));
        let Verdict::Enter(prefix) = prefixes.enter(&network, false, &limits, now) else { panic!("room") };
        prefixes.leave(prefix, now + WINDOW);
        assert_eq!(prefixes.len(), 0);
    }
}
