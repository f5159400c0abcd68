//! A shard's door: what becomes of clients' first packets, and of those who are not let in yet when there are too many.
//!
//! Bounds of the relay are divided among its shards, over which the kernel spreads clients evenly, so none asks another.

pub(crate) mod answers;
pub(crate) mod knocks;
pub(crate) mod newcomer;
pub(crate) mod pace;
pub(crate) mod places;
pub(crate) mod prefixes;

use std::{net::SocketAddr, time::Instant};

use quinn_proto::{EndpointEvent, Incoming, Transmit};
use supernode_proto::close::CloseCode;

use self::{
    answers::Answers,
    knocks::Knocks,
    newcomer::Newcomer,
    pace::{FIRST_PACKETS_SPAN, HANDSHAKES_SPAN, Pace},
    places::{Place, Places},
    prefixes::{Excess, Network, Verdict},
};
use crate::{
    core::{Now, limits::Limits},
    shard::{connections::connection::Connection, engine::Engine, net::socket::SendBatch},
};

/// How often in a second a place may change hands when all are taken: so long has everybody to answer, which takes a round
/// trip.
const STAYS_PER_SECOND: u64 = 2;
/// Initial packets that are looked at for each handshake that may begin. Default 8: one that asks, one that answers a
/// Retry, two that acknowledge, and as many again for what is lost.
const FIRST_PACKETS: u64 = 8;
/// The part of a second whose handshakes may begin at once, at twice the pace. Default a 64th, 31 handshakes: they hold
/// everybody's media up by 10 ms.
const AT_ONCE_PART: u64 = 64;
/// The part of a second whose first packets may be looked at at once. Default a tenth: 6 ms.
const FIRST_PACKETS_PART: u64 = 10;

/// One shard's door.
pub(crate) struct Door {
    shards: usize,
    pub(crate) answers: Answers,
    pub(crate) places: Places,
    pace: Pace,
    /// Twice the pace, of which next to nothing can be saved up.
    at_once: Pace,
    first_packets: Pace,
    knocks: Knocks,
}

impl Door {
    /// The door of one of so many shards.
    pub(crate) fn new(shards: usize, now: Instant) -> Self {
        Self {
            shards,
            answers: Answers::new(now),
            places: Places::default(),
            pace: Pace::new(HANDSHAKES_SPAN, 1, now),
            at_once: Pace::new(HANDSHAKES_SPAN, AT_ONCE_PART, now),
            first_packets: Pace::new(FIRST_PACKETS_SPAN, FIRST_PACKETS_PART, now),
            knocks: Knocks::default(),
        }
    }

    /// This shard's part of what the relay may have.
    fn part(&self, whole: usize) -> usize {
        whole.div_ceil(self.shards)
    }

    /// How many handshakes a second may begin now. Once all places are taken, each that begins costs another its place,
    /// so there are only as many as leave everybody a while to answer.
    fn per_second_max(&self, limits: &Limits) -> u64 {
        let places_max = self.part(limits.handshakes_max);
        if self.places.len() < places_max {
            limits.handshakes_per_second_max
        } else {
            limits.handshakes_per_second_max.min(places_max as u64 * STAYS_PER_SECOND).max(1)
        }
    }

    /// Whether an address must prove itself before anything is done for it.
    fn must_prove(&mut self, limits: &Limits, now: Instant) -> bool {
        self.places.len() >= self.part(limits.handshakes_before_retry)
            || self.pace.is_pressed(self.per_second_max(limits), now)
    }

    /// Whether QUIC is to be given another first packet of this network, which costs it keys. When few are left, packets
    /// that come for the second time go before those that come for the first.
    fn may_look_at(
        &mut self,
        network: &Network,
        from: SocketAddr,
        datagram: &[u8],
        limits: &Limits,
        now: Instant,
    ) -> bool {
        let per_second_max = limits.handshakes_per_second_max * FIRST_PACKETS;
        if !self.first_packets.is_pressed(per_second_max, now) {
            return self.first_packets.begin(network, per_second_max, now);
        }
        let knock = self.knocks.knock(from, datagram);
        let looked_at = match self.knocks.is_known(knock) {
            true => self.first_packets.begin(network, per_second_max, now),
            false => self.first_packets.begin_first_time(network, per_second_max, now),
        };
        self.knocks.remember(knock, looked_at);
        looked_at
    }

    /// Whether a client of this network may begin a handshake now.
    fn may_begin(&mut self, network: &Network, limits: &Limits, now: Instant) -> bool {
        let (per_second_max, at_once) = (self.per_second_max(limits), 2 * limits.handshakes_per_second_max);
        let begins = self.at_once.has_any(at_once, now) && self.pace.begin(network, per_second_max, now);
        if begins {
            self.at_once.spend();
        }
        begins
    }

    /// Who gives a place up for this one, if somebody must.
    fn next_to_go(&self, newcomer: Place, limits: &Limits) -> Option<u32> {
        let full = self.places.len() > self.part(limits.handshakes_max).max(1);
        if full { self.places.next_to_go(newcomer) } else { None }
    }
}

impl Engine {
    /// Whether a datagram is dropped before QUIC is asked: it begins with an Initial packet, and its network has had as
    /// many looked at as there is time for.
    pub(crate) fn is_too_much(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) -> bool {
        if !answers::is_initial(datagram) {
            return false;
        }
        let network = self.prefixes.network(from.ip());
        !self.door.may_look_at(&network, from, datagram, self.core.limits(), now)
    }

    /// A client's first packet.
    pub(crate) fn welcome(&mut self, incoming: Incoming, bytes: usize, now: Now, out: &mut SendBatch) {
        if self.draining {
            self.tally.handshakes_refused += 1;
            return self.turn_away(incoming, now, out);
        }
        let limits = self.core.limits();
        let proven = incoming.remote_address_validated();
        let pressed = !proven && self.door.must_prove(limits, now.instant);
        let network = self.prefixes.network(incoming.remote_address().ip());
        let verdict = match pressed {
            true => Verdict::Prove,
            false => self.prefixes.enter(&network, proven, limits, now.instant),
        };
        let prefix = match verdict {
            Verdict::Enter(prefix) => prefix,
            Verdict::Prove => {
                self.tally.retries += 1;
                match pressed {
                    true => self.tally.over_before_retry += 1,
                    false => self.tally.over_prefix_handshakes += 1,
                }
                // An address that is not validated may always be asked to.
                if let Ok(transmit) = self.endpoint.retry(incoming, out.buffer()) {
                    out.commit(transmit);
                }
                return;
            }
            Verdict::Refuse(excess) => {
                self.tally.refused_by_prefix += 1;
                match excess {
                    Excess::Connections => self.tally.over_prefix_connections += 1,
                    Excess::Handshakes => self.tally.over_prefix_handshakes += 1,
                    Excess::Networks => {}
                }
                return self.turn_away(incoming, now, out);
            }
        };
        if !self.door.may_begin(&network, limits, now.instant) {
            self.tally.over_pace += 1;
            self.tally.handshakes_refused += 1;
            self.prefixes.leave(prefix, now.instant);
            // It asks again by itself, as if its packet had been lost: after a second there is another second's pace.
            return self.endpoint.ignore(incoming);
        }
        match self.endpoint.accept(incoming, now.instant, out.buffer(), None) {
            Ok((handle, quic)) => {
                let link = handle.0 as u32;
                let hello_by = now.instant + limits.hello_timeout;
                if self.connections.len() <= handle.0 {
                    self.connections.resize_with(handle.0 + 1, || None);
                }
                let place = self.door.places.take(link, network);
                let newcomer = Newcomer::new(hello_by, self.pin, place, (!proven).then_some(bytes));
                self.connections[handle.0] = Some(Box::new(Connection::new(quic, handle, prefix, newcomer)));
                self.tally.handshaking += 1;
                self.tally.connections += 1;
                self.touch(link);
                while let Some(other) = self.door.next_to_go(place, self.core.limits()) {
                    self.put_out(other, now, out);
                }
            }
            Err(error) => {
                self.prefixes.leave(prefix, now.instant);
                self.tally.handshakes_failed += 1;
                if let Some(transmit) = error.response {
                    self.answer_stranger(transmit, now, out);
                }
            }
        }
    }

    /// An answer that QUIC has for a packet of no connection, and that was written to the batch's buffer.
    pub(crate) fn answer_stranger(&mut self, transmit: Transmit, now: Now, out: &mut SendBatch) {
        if answers::is_close(out.written()) && !self.door.answers.turn_away(now.instant) {
            self.tally.strangers_dropped += 1;
            return;
        }
        self.tally.strangers_answered += 1;
        out.commit(transmit);
    }

    /// A connection is no more.
    pub(crate) fn forget(&mut self, link: u32, connection: &mut Connection, now: Instant) {
        self.tally.connections -= 1;
        self.prefixes.leave(connection.prefix, now);
        self.control_bytes -= connection.control_counted;
        if let Some(newcomer) = connection.newcomer.take() {
            self.door.places.leave(newcomer.place);
        }
        self.deadlines.arm(link, None);
    }

    fn turn_away(&mut self, incoming: Incoming, now: Now, out: &mut SendBatch) {
        if self.door.answers.turn_away(now.instant) {
            self.tally.strangers_answered += 1;
            let transmit = self.endpoint.refuse(incoming, out.buffer());
            out.commit(transmit);
        } else {
            self.tally.strangers_dropped += 1;
            self.endpoint.ignore(incoming);
        }
    }

    /// Takes the place of one who is not let in yet, and tells it once. What QUIC would keep for three time-outs, to
    /// tell it again, is what there is no room for.
    fn put_out(&mut self, link: u32, now: Now, out: &mut SendBatch) {
        self.tally.over_handshakes += 1;
        self.close(link, CloseCode::OVERLOADED, now);
        let Some(mut connection) = self.connections.get_mut(link as usize).and_then(Option::take) else { return };
        if let Some(transmit) = connection.quic.poll_transmit(now.instant, 1, out.buffer())
            && connection.newcomer.as_mut().is_some_and(|newcomer| newcomer.may_send(transmit.size))
        {
            out.commit(transmit);
        }
        self.endpoint.handle_event(connection.handle, EndpointEvent::drained());
        self.forget(link, &mut connection, now.instant);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        net::{IpAddr, Ipv4Addr},
        time::Duration,
    };

    use super::*;
    use crate::shard::door::prefixes::Prefixes;

    const MS: Duration = Duration::from_millis(1);
    /// From a first packet that is taken to the Hello: a round trip, of half the world.
    const ROUND_TRIP: Duration = Duration::from_millis(300);
    /// When a client sends a first packet again that was not answered.
    const AGAIN: Duration = Duration::from_secs(1);

    /// A door at which everybody floods at full rate, and who has a place behind it.
    struct Siege {
        door: Door,
        prefixes: Prefixes,
        limits: Limits,
        now: Instant,
        inside: HashMap<u32, Place>,
        links: u32,
    }

    impl Siege {
        fn of(shards: usize) -> Self {
            let now = Instant::now();
            let (prefixes, limits) = (Prefixes::default(), Limits::default());
            Self { door: Door::new(shards, now), prefixes, limits, now, inside: HashMap::new(), links: 0 }
        }

        /// A first packet whose address is proven.
        fn knock(&mut self, ip: IpAddr) -> Option<u32> {
            let network = self.prefixes.network(ip);
            if !self.door.may_begin(&network, &self.limits, self.now) {
                return None;
            }
            self.links += 1;
            let place = self.door.places.take(self.links, network);
            self.inside.insert(self.links, place);
            while let Some(other) = self.door.next_to_go(place, &self.limits) {
                let place = self.inside.remove(&other).expect("it had a place");
                self.door.places.leave(place);
            }
            assert!(self.door.places.len() <= self.door.part(self.limits.handshakes_max));
            Some(self.links)
        }

        /// Lets time pass in which `flood` names so many addresses a millisecond, none of which ever answers.
        fn pass(&mut self, time: Duration, per_ms: usize, flood: &mut impl FnMut() -> IpAddr) {
            let until = self.now + time;
            while self.now < until {
                for _ in 0..per_ms {
                    self.knock(flood());
                }
                self.now += MS;
            }
        }

        /// How long somebody from this address takes to get in while the flood goes on.
        fn comes_in(&mut self, ip: IpAddr, per_ms: usize, flood: &mut impl FnMut() -> IpAddr) -> Duration {
            let begin = self.now;
            loop {
                if let Some(link) = self.knock(ip) {
                    self.pass(ROUND_TRIP, per_ms, flood);
                    if let Some(place) = self.inside.remove(&link) {
                        self.door.places.leave(place);
                        return self.now - begin;
                    }
                } else {
                    self.pass(AGAIN, per_ms, flood);
                }
                assert!(self.now - begin < Duration::from_secs(60), "{ip} never gets in");
            }
        }
    }

    fn v4(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    /// An address of the network with this number below a prefix of so many bits.
    fn v6(prefix: u64, bits: u32, number: u64) -> IpAddr {
        let upper = (prefix << (64 - bits)) | ((number % (1 << (56 - bits))) << 8);
        IpAddr::from((u128::from(upper) << 64 | 1).to_be_bytes())
    }

    /// Six newcomers, each from a network of its own, while this flood has been going on for a while.
    fn everybody_gets_in(shards: usize, mut flood: impl FnMut() -> IpAddr) {
        let mut siege = Siege::of(shards);
        let per_ms = 4;
        siege.pass(Duration::from_secs(20), per_ms, &mut flood);
        for number in 0..6u32 {
            let ip =
                if number % 2 == 0 { v4(0xc000_0200 + number) } else { v6(0x2001_0db8, 32, u64::from(number) << 16) };
            let took = siege.comes_in(ip, per_ms, &mut flood);
            assert!(took <= 2 * AGAIN, "{ip} took {took:?}");
            siege.pass(100 * MS, per_ms, &mut flood);
        }
    }

    //
    #[test]
    fn whoever_comes_from_elsewhere_gets_in_while_others_flood() {
        let mut number = 0u64;
        let mut next = || {
            number += 1;
            number
        };
        everybody_gets_in(1, || v4(0x0a00_0000 + (next() % 4000) as u32 * 7919));
        everybody_gets_in(4, || v4(0x0a00_0001));
        everybody_gets_in(4, || v4(0x0a00_0000 + (next() % 64) as u32));
        everybody_gets_in(4, || v4(0x0a00_0000 + (next() % 4000) as u32 * 7919));
        everybody_gets_in(4, || v6(0x2a02_0001_0002, 48, next()));
        everybody_gets_in(4, || v6(0x2a02_0001, 32, next()));
    }

    //
    #[test]
    fn one_network_s_first_packets_leave_time_for_those_of_others() {
        let (prefixes, limits, start) = (Prefixes::default(), Limits::default(), Instant::now());
        let mut door = Door::new(1, start);
        let mut look = |from: [u8; 4], id: u32, now| {
            let network = prefixes.network(from.into());
            door.may_look_at(&network, SocketAddr::from((from, 9)), &initial(id), &limits, now)
        };
        let mut looked_at = 0;
        for ms in 0..1000 {
            let now = start + ms * MS;
            // As one who sends the same packet all the time, and so is known.
            looked_at += (0..100).filter(|_| look([192, 0, 2, 1], 0, now)).count();
            if ms % 100 == 99 {
                let other = [198, 51, 100, (ms / 100) as u8];
                assert!((0..4).all(|id| look(other, id, now)), "a whole handshake");
            }
        }
        let most = (limits.handshakes_per_second_max * FIRST_PACKETS) as usize;
        assert!((most / 2..most * 11 / 10).contains(&looked_at), "{looked_at} of 100,000");
    }

    /// An Initial packet to a connection ID that is this one's.
    fn initial(id: u32) -> Vec<u8> {
        [&[0xc0, 0, 0, 0, 1, 4][..], &id.to_be_bytes()].concat()
    }

    //
    #[test]
    fn whoever_sends_a_first_packet_again_is_looked_at_whatever_is_forged() {
        let (prefixes, limits, start) = (Prefixes::default(), Limits::default(), Instant::now());
        let mut door = Door::new(1, start);
        let mut look = |from: Ipv4Addr, id: u32, now| {
            let network = prefixes.network(from.into());
            door.may_look_at(&network, SocketAddr::from((from, 9)), &initial(id), &limits, now)
        };
        let (mut forged, mut looked_at) = (0u32, 0);
        for ms in 0..4000 {
            let now = start + ms * MS;
            for _ in 0..100 {
                // A few million addresses, whose order nobody could tell from chance.
                let from = 0x0a00_0000 + forged.wrapping_mul(2_654_435_761) % 4_000_000;
                looked_at += usize::from(look(from.into(), forged, now));
                forged += 1;
            }
            // A client comes every tenth of a second, again after one, and then once more, for a Retry has other names.
            if ms % 100 == 50 {
                look(client(ms), ms, now);
                if let Some(since) = ms.checked_sub(1000) {
                    assert!(look(client(since), since, now), "after {ms} ms, the second time");
                    assert!((0..3).all(|id| look(client(since), id, now)), "and the rest of its handshake");
                }
            }
        }
        let most = 4 * (limits.handshakes_per_second_max * FIRST_PACKETS) as usize;
        assert!((most * 9 / 10..most * 11 / 10).contains(&looked_at), "{looked_at} of {forged}");
    }

    fn client(number: u32) -> Ipv4Addr {
        (0xc633_0000 + number).into()
    }
}
