//! A shard's door: what becomes of clients' first packets, and of those who are not let in yet when there are too many.
//!
//! Bounds of the relay are divided among its shards, over which the kernel spreads clients evenly, so none asks another.

pub(crate) mod answers;
pub(crate) mod knocks;
pub(crate) mod newcomer;
pub(crate) mod pace;
pub(crate) mod places;
pub(crate) mod prefixes;

mod reviews;
mod undecided;

use std::{net::SocketAddr, sync::Arc, time::Instant};

use quinn_proto::{Endpoint, Incoming, Transmit};
use supernode_proto::{
    close::CloseCode,
    control::{ClientMessage, Hello, client_message::Body},
    identity::RelayPin,
    limits as wire,
};

use self::{
    answers::Answers,
    knocks::{Knocks, Waiting},
    newcomer::Newcomer,
    pace::{FIRST_PACKETS_SPAN, HANDSHAKES_SPAN, Pace},
    places::{Place, Places},
    prefixes::{Excess, Network, Prefixes, Verdict},
    reviews::Reviews,
    undecided::Undecided,
};
use super::{
    connections::{
        Connections,
        connection::{Connection, Phase},
    },
    figures::counters::Tally,
    net::socket::SendBatch,
    quic::transport,
    tcp,
};
use crate::core::{Admit, Greeting, NotOpened, Now, Outbox, ShardCore, limits::Limits};

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

/// The longest Hello body that is put aside: a delegation, the longest token, and room for what a newer client may add.
const HELLO_ASIDE_BYTES_MAX: usize = wire::ADMISSION_TOKEN_BYTES_MAX + 1024;

/// One shard's door.
pub(crate) struct Door {
    shards: usize,
    /// The name that clients sign for: the key of the certificate that they are shown.
    pin: RelayPin,
    admission: Arc<dyn Admit>,
    /// What networks have at all shards' doors.
    prefixes: Arc<Prefixes>,
    is_shut: bool,
    answers: Answers,
    places: Places,
    pace: Pace,
    /// Twice the pace, of which next to nothing can be saved up.
    at_once: Pace,
    first_packets: Pace,
    knocks: Knocks,
    waiting: Waiting,
    undecided: Undecided,
    reviews: Reviews,
}

/// A client that has begun a handshake.
pub(crate) struct Begun {
    pub(crate) link: u32,
    pub(crate) connection: Connection,
    pub(crate) place: Place,
}

/// What the door has inside: the core, what that wants done, and what is counted.
pub(crate) struct Inside<'a> {
    pub(crate) core: &'a mut ShardCore,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) tally: &'a mut Tally,
}

/// What the door has outside: the endpoint, where answers go, what is counted, and what may be.
pub(crate) struct Outside<'a> {
    pub(crate) endpoint: &'a mut Endpoint,
    pub(crate) out: &'a mut SendBatch,
    pub(crate) tally: &'a mut Tally,
    pub(crate) limits: &'a Limits,
}

impl Door {
    /// The door of one of so many shards.
    pub(crate) fn new(
        shards: usize,
        pin: RelayPin,
        admission: Arc<dyn Admit>,
        prefixes: Arc<Prefixes>,
        now: Instant,
    ) -> Self {
        Self {
            shards,
            pin,
            prefixes,
            is_shut: false,
            answers: Answers::new(now),
            places: Places::default(),
            pace: Pace::new(HANDSHAKES_SPAN, 1, now),
            at_once: Pace::new(HANDSHAKES_SPAN, AT_ONCE_PART, now),
            first_packets: Pace::new(FIRST_PACKETS_SPAN, FIRST_PACKETS_PART, now),
            knocks: Knocks::default(),
            waiting: Waiting::new(now),
            undecided: Undecided::default(),
            reviews: Reviews::new(admission.generation()),
            admission,
        }
    }

    /// From now on clients are shown a certificate whose key has this pin.
    pub(crate) fn set_pin(&mut self, pin: RelayPin) {
        self.pin = pin;
    }

    /// Nobody new is let in from now on.
    pub(crate) fn shut(&mut self) {
        self.is_shut = true;
    }

    /// Whether a datagram is dropped before QUIC is asked: there is no time to answer it.
    pub(crate) fn is_too_much(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        limits: &Limits,
        tally: &mut Tally,
        now: Instant,
    ) -> bool {
        if answers::is_of_another_version(datagram) && !self.answers.tell_version(datagram, now) {
            tally.strangers_dropped += 1;
            return true;
        }
        if !answers::is_initial(datagram) {
            return false;
        }
        // It begins with an Initial packet: its network may have had as many looked at as there is time for.
        let network = self.prefixes.network(from.ip());
        let is_too_much = !self.may_look_at(&network, from, datagram, limits, now);
        tally.first_packets_unread += u64::from(is_too_much);
        is_too_much
    }

    /// A client's first packet, of so many bytes. Returns the connection that begins with it, if one does.
    pub(crate) fn meet(
        &mut self,
        incoming: Incoming,
        bytes: usize,
        outside: &mut Outside<'_>,
        now: Now,
    ) -> Option<Begun> {
        if self.is_shut {
            outside.tally.handshakes_refused += 1;
            self.turn_away(incoming, outside, now.instant);
            return None;
        }
        let limits = outside.limits;
        // TCP's own handshake proves an address; a Retry token would not know it again, for it has no room for the link.
        let proven = incoming.remote_address_validated() || tcp::is_over_tcp(incoming.remote_address());
        let pressed = !proven && self.must_prove(limits, now.instant);
        let network = self.prefixes.network(incoming.remote_address().ip());
        let verdict = match pressed {
            true => Verdict::Prove,
            false => self.prefixes.enter(&network, proven, limits, now.instant),
        };
        let prefix = match verdict {
            Verdict::Enter(prefix) => prefix,
            Verdict::Prove => {
                outside.tally.retries += 1;
                match pressed {
                    true => outside.tally.over_before_retry += 1,
                    false => outside.tally.over_prefix_handshakes += 1,
                }
                // An address that is not validated may always be asked to.
                if let Ok(transmit) = outside.endpoint.retry(incoming, outside.out.buffer()) {
                    outside.out.commit(transmit);
                }
                return None;
            }
            Verdict::Refuse(excess) => {
                outside.tally.refused_by_prefix += 1;
                match excess {
                    Excess::Connections => outside.tally.over_prefix_connections += 1,
                    Excess::Handshakes => outside.tally.over_prefix_handshakes += 1,
                    Excess::Networks => {}
                }
                self.turn_away(incoming, outside, now.instant);
                return None;
            }
        };
        if !self.may_begin(&network, incoming.remote_address(), limits, now.instant) {
            outside.tally.over_pace += 1;
            outside.tally.handshakes_refused += 1;
            self.prefixes.leave(prefix, now.instant);
            // It asks again by itself, as if its packet had been lost: after a second there is another second's pace.
            outside.endpoint.ignore(incoming);
            return None;
        }
        match outside.endpoint.accept(incoming, now.instant, outside.out.buffer(), None) {
            Ok((handle, quic)) => {
                let link = handle.0 as u32;
                let hello_by = now.instant + limits.hello_timeout;
                let place = self.places.take(link, network);
                let newcomer = Newcomer::new(hello_by, self.pin, place, (!proven).then_some(bytes));
                outside.tally.handshaking += 1;
                outside.tally.connections += 1;
                Some(Begun { link, connection: Connection::new(quic, handle, prefix, newcomer), place })
            }
            Err(error) => {
                self.prefixes.leave(prefix, now.instant);
                outside.tally.handshakes_failed += 1;
                if let Some(transmit) = error.response {
                    self.answer(transmit, outside, now.instant);
                }
                None
            }
        }
    }

    /// Sends an answer that QUIC has for a packet of no connection, and that was written to the batch's buffer.
    pub(crate) fn answer(&mut self, transmit: Transmit, outside: &mut Outside<'_>, now: Instant) {
        if answers::is_close(outside.out.written()) && !self.answers.turn_away(now) {
            outside.tally.strangers_dropped += 1;
            return;
        }
        outside.tally.strangers_answered += 1;
        outside.out.commit(transmit);
    }

    fn turn_away(&mut self, incoming: Incoming, outside: &mut Outside<'_>, now: Instant) {
        if self.answers.turn_away(now) {
            outside.tally.strangers_answered += 1;
            let transmit = outside.endpoint.refuse(incoming, outside.out.buffer());
            outside.out.commit(transmit);
        } else {
            outside.tally.strangers_dropped += 1;
            outside.endpoint.ignore(incoming);
        }
    }

    /// A client's first message, which nothing but a Hello can be.
    ///
    /// # Errors
    /// The code to close the connection with.
    pub(crate) fn greet(
        &mut self,
        link: u32,
        connection: &mut Connection,
        message: ClientMessage,
        inside: &mut Inside<'_>,
        now: Now,
    ) -> Result<(), CloseCode> {
        let Some(Body::Hello(hello)) = message.body else { return Err(CloseCode::UNEXPECTED_MESSAGE) };
        if self.undecided.has(link) {
            return Err(CloseCode::UNEXPECTED_MESSAGE);
        }
        self.admit(link, connection, hello, inside, now)
    }

    /// Opens a session if the Hello holds and its identity is admitted; puts it aside while that is not decided.
    ///
    /// # Errors
    /// The code to close the connection with.
    pub(crate) fn admit(
        &mut self,
        link: u32,
        connection: &mut Connection,
        hello: Hello,
        inside: &mut Inside<'_>,
        now: Now,
    ) -> Result<(), CloseCode> {
        if connection.phase == Phase::Closed {
            return Ok(()); // while it was put aside
        }
        let from = tcp::plain(connection.quic.remote_address()).ip();
        let Some(newcomer) = &connection.newcomer else { return Err(CloseCode::UNEXPECTED_MESSAGE) };
        let binding = connection.codec.binding(&connection.quic, newcomer.pin).ok_or(CloseCode::INTERNAL)?;
        let greeting = Greeting { hello: &hello, binding, from };
        let session = match inside.core.open_session(link, &greeting, &*self.admission, now, inside.outbox) {
            Ok(session) => session,
            Err(NotOpened::Close(code)) => return Err(code),
            // What is put aside is kept, so it is no larger than it need be.
            Err(NotOpened::Undecided(..)) if hello.body.len() > HELLO_ASIDE_BYTES_MAX => {
                return Err(CloseCode::NOT_ADMITTED);
            }
            Err(NotOpened::Undecided(who)) => {
                self.undecided.put(link, who, hello, now.instant);
                return Ok(());
            }
        };
        connection.phase = Phase::Open(session);
        transport::open_window(&mut connection.quic, &mut connection.kept, connection.codec.own_streams());
        connection.count_anew();
        if let Some(newcomer) = connection.newcomer.take() {
            self.places.leave(newcomer.place);
        }
        inside.tally.handshaking -= 1;
        Ok(())
    }

    /// The Hellos that were put aside and are decided now, with their links, if it is time to ask.
    pub(crate) fn take_decided(&mut self, now: Now) -> Vec<(u32, Hello)> {
        self.undecided.take_decided(&*self.admission, now)
    }

    /// When to call [`Self::take_decided`] next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.undecided.ask_at()
    }

    /// Hellos whose admission is not decided.
    pub(crate) fn undecided(&self) -> usize {
        self.undecided.len()
    }

    /// Looks at some of the sessions, once a second: whether they may stay. Returns who may not, and why.
    pub(crate) fn review_second(
        &mut self,
        connections: &Connections,
        core: &mut ShardCore,
        now: Now,
    ) -> Vec<(u32, CloseCode)> {
        self.reviews.review_second(connections, core, &*self.admission, now)
    }

    /// The same once a turn, while everybody is to be looked at because the door has changed.
    pub(crate) fn review_turn(
        &mut self,
        connections: &Connections,
        core: &mut ShardCore,
        now: Now,
    ) -> Vec<(u32, CloseCode)> {
        self.reviews.review_turn(connections, core, &*self.admission, now)
    }

    /// Whether it goes on in the next turn.
    pub(crate) fn is_reviewing(&self) -> bool {
        self.reviews.is_under_way()
    }

    /// A connection that was not let in is over, whoever ended it: its place is the next to go, and what its client said is
    /// forgotten, for the next connection may get the same link.
    pub(crate) fn end(&mut self, link: u32, connection: &Connection) {
        if let Some(newcomer) = &connection.newcomer {
            self.places.end(newcomer.place);
            self.undecided.forget(link);
        }
    }

    /// A connection is no more.
    pub(crate) fn leave(&mut self, connection: &Connection, now: Instant) {
        self.prefixes.leave(connection.prefix, now);
        if let Some(newcomer) = &connection.newcomer {
            self.places.leave(newcomer.place);
        }
    }

    /// Who gives a place up for somebody who has begun, if another must.
    pub(crate) fn next_to_go(&self, newcomer: Place, limits: &Limits) -> Option<u32> {
        let full = self.places.len() > self.part(limits.handshakes_max).max(1);
        if full { self.places.next_to_go(newcomer) } else { None }
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
    /// that come for the second time have a half of their own.
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
        let looked_at = self.first_packets.begin_in_turn(self.knocks.is_known(knock), network, per_second_max, now);
        self.knocks.remember(knock, looked_at);
        looked_at
    }

    /// Whether a client of this network may begin a handshake now. Whoever was told nothing and comes again has a half of the
    /// pace that those who come for the first time leave alone, and these have theirs.
    fn may_begin(&mut self, network: &Network, from: SocketAddr, limits: &Limits, now: Instant) -> bool {
        let (per_second_max, at_once) = (self.per_second_max(limits), 2 * limits.handshakes_per_second_max);
        // Not by its packet: what answers a Retry is another one than what asked.
        let begins = self.at_once.has_any(at_once, now)
            && self.pace.begin_in_turn(self.waiting.is_known(from, now), network, per_second_max, now);
        match begins {
            true => self.at_once.spend(),
            false => self.waiting.remember(from),
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{HashMap, VecDeque},
        net::{IpAddr, Ipv4Addr},
        time::Duration,
    };

    use super::*;
    use crate::core::{Applicant, Grant};

    const MS: Duration = Duration::from_millis(1);
    /// From a first packet that is taken to the Hello: a round trip, of half the world.
    const ROUND_TRIP: Duration = Duration::from_millis(300);
    /// When a client sends a first packet again that was not answered.
    const AGAIN: Duration = Duration::from_secs(1);

    struct Nobody;

    impl Admit for Nobody {
        fn admit(&self, _: &Applicant, _: u64) -> Result<Grant, CloseCode> {
            Err(CloseCode::NOT_ADMITTED)
        }
    }

    fn door(shards: usize, now: Instant) -> Door {
        Door::new(shards, RelayPin([0; 32]), Arc::new(Nobody), Arc::default(), now)
    }

    /// A door at which everybody floods at full rate, and who has a place behind it.
    struct Siege {
        door: Door,
        limits: Limits,
        now: Instant,
        inside: HashMap<u32, Place>,
        links: u32,
    }

    impl Siege {
        fn of(shards: usize) -> Self {
            let now = Instant::now();
            Self { door: door(shards, now), limits: Limits::default(), now, inside: HashMap::new(), links: 0 }
        }

        /// A first packet whose address is proven.
        fn knock(&mut self, ip: IpAddr) -> Option<u32> {
            let network = self.door.prefixes.network(ip);
            if !self.door.may_begin(&network, SocketAddr::from((ip, 9)), &self.limits, self.now) {
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
        // Each of them has a network of its own, and comes once.
        everybody_gets_in(1, || v4(0x0a00_0000 + (next() as u32).wrapping_mul(2_654_435_761) % 0x7000_0000));
        // Each of them comes again and again, but not as soon as a client that has had no answer.
        everybody_gets_in(1, || v4(0x0a00_0000 + (next() % 131_072) as u32));
        everybody_gets_in(4, || v6(0x2a02_0001_0002, 48, next()));
        everybody_gets_in(4, || v6(0x2a02_0001, 32, next()));
    }

    //
    #[test]
    fn whoever_comes_while_a_crowd_goes_round_ever_faster_gets_in_the_second_time() {
        let mut siege = Siege::of(1);
        siege.limits.handshakes_max = 340;
        // Each comes until it was met once. Those who are left come again sooner and sooner.
        let mut crowd: VecDeque<IpAddr> = (0..30_000).map(|number| v4(0x0a00_0000 + number)).collect();
        let mut coming: VecDeque<(Duration, IpAddr)> = VecDeque::new();
        let (mut came, mut time) = (0, Duration::ZERO);
        while !crowd.is_empty() {
            if time.as_millis() % 10 != 0 {
                let ip = crowd.pop_front().expect("not empty");
                if siege.knock(ip).is_none() {
                    crowd.push_back(ip);
                }
            }
            if time.as_millis() % 500 == 250 {
                came += 1;
                let ip = v4(0xc000_0000 + came);
                if siege.knock(ip).is_none() {
                    coming.push_back((time + AGAIN, ip));
                }
            }
            while let Some((_, ip)) = coming.pop_front_if(|(at, _)| *at <= time) {
                assert!(siege.knock(ip).is_some(), "{ip} was told nothing twice, with {} left", crowd.len());
            }
            (time, siege.now) = (time + MS, siege.now + MS);
        }
        assert!(came > 60, "{came}");
    }

    //
    #[test]
    fn one_network_s_first_packets_leave_time_for_those_of_others() {
        let (prefixes, limits, start) = (Prefixes::default(), Limits::default(), Instant::now());
        let mut door = door(1, start);
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
        let mut door = door(1, start);
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
