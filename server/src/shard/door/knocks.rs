//! Who has knocked of late: what tells a client that sends its first packet again from a flood of forged ones.
//!
//! Who forges addresses sends each packet once, under an address and a connection ID that nobody has had yet; a client
//! that is not answered sends its packet again after a second, from the same place and to the same connection ID. Kept of
//! either are 16 bits of a keyed hash, only while few first packets may be looked at, in a table of one size: a packet
//! costs two hashes and two looks, and what is new pushes out what is oldest of a few. Clients for whose handshakes there is
//! no time are known for a while in the same way.

use std::{
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Places in the table, of four marks each; a power of two. Default 2^18: of 300,000 forged packets a second, fewer than
/// one in thirty places gets four within the second after which a client sends its packet again.
const PLACES: usize = 1 << 18;
/// Places of those who came to wait for their handshakes in one span. Default 2^13: thirty thousand a second.
const WAITING_PLACES: usize = 1 << 13;
/// Spans for which who waits is known, the one in which they came among them. Default 6, of half a second: a client that is
/// not answered asks again after one second, and two seconds later; who comes after longer is one of a crowd that goes round.
const WAITING_SPANS: usize = 6;
const WAITING_SPAN: Duration = Duration::from_millis(500);
/// What the tables take: 2.4 MiB, none of it before the first mark.
pub const KNOCKS_BYTES: usize = (PLACES + WAITING_SPANS * WAITING_PLACES) * size_of::<u64>();
const MARK_BITS: u32 = 16;

/// One shard's.
#[derive(Debug)]
pub(crate) struct Knocks {
    hasher: RandomState,
    marks: Marks,
}

/// Clients for whose handshakes there was no time of late, by their addresses.
#[derive(Debug)]
pub(crate) struct Waiting {
    hasher: RandomState,
    /// Those of this span, of the one before, and so on.
    marks: [Marks; WAITING_SPANS],
    turned: Instant,
}

/// Marks of hashes, four in a place, the newest lowest.
#[derive(Debug)]
struct Marks {
    places: Box<[u64]>,
    /// Nothing has been marked: its memory may never have been touched.
    is_empty: bool,
}

/// A client's first packet, by what stays the same when it comes again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Knock {
    /// Of the address and the port that it comes from.
    from: u64,
    /// Of these, and of the connection ID that it is sent to.
    packet: u64,
}

impl Default for Knocks {
    fn default() -> Self {
        Self { hasher: RandomState::new(), marks: Marks::new(PLACES) }
    }
}

impl Knocks {
    /// What an Initial packet is known by.
    pub(crate) fn knock(&self, from: SocketAddr, datagram: &[u8]) -> Knock {
        let packet = self.hasher.hash_one((from, destination(datagram)));
        Knock { from: self.hasher.hash_one(from), packet }
    }

    /// Whether it came before, or something from there was looked at: by a Retry, connection IDs change.
    pub(crate) fn is_known(&self, knock: Knock) -> bool {
        self.marks.has(knock.from) || self.marks.has(knock.packet)
    }

    /// It was looked at, or it was not.
    pub(crate) fn remember(&mut self, knock: Knock, looked_at: bool) {
        self.marks.add(if looked_at { knock.from } else { knock.packet });
    }
}

impl Waiting {
    /// Nobody yet.
    pub(crate) fn new(now: Instant) -> Self {
        let marks = [(); WAITING_SPANS].map(|()| Marks::new(WAITING_PLACES));
        Self { hasher: RandomState::new(), marks, turned: now }
    }

    /// Whether there was no time for whoever comes from there when they came before.
    pub(crate) fn is_known(&mut self, from: SocketAddr, now: Instant) -> bool {
        let mut spans = 0;
        while now.saturating_duration_since(self.turned) >= WAITING_SPAN && spans < WAITING_SPANS {
            self.marks.rotate_right(1);
            self.marks[0].clear();
            self.turned += WAITING_SPAN;
            spans += 1;
        }
        if spans == WAITING_SPANS {
            self.turned = now;
        }
        let hash = self.hasher.hash_one(from);
        self.marks.iter().any(|marks| marks.has(hash))
    }

    /// There is no time for them now.
    pub(crate) fn remember(&mut self, from: SocketAddr) {
        self.marks[0].add(self.hasher.hash_one(from));
    }
}

impl Marks {
    fn new(places: usize) -> Self {
        Self { places: vec![0; places].into_boxed_slice(), is_empty: true }
    }

    fn add(&mut self, hash: u64) {
        if !self.has(hash) {
            self.is_empty = false;
            let place = hash as usize % self.places.len();
            self.places[place] = self.places[place] << MARK_BITS | mark(hash);
        }
    }

    fn clear(&mut self) {
        if !self.is_empty {
            self.places.fill(0);
            self.is_empty = true;
        }
    }

    fn has(&self, hash: u64) -> bool {
        if self.is_empty {
            return false;
        }
        let place = self.places[hash as usize % self.places.len()];
        (0..u64::BITS).step_by(MARK_BITS as usize).any(|bits| place >> bits & 0xffff == mark(hash))
    }
}

/// Never zero, which is no mark.
fn mark(hash: u64) -> u64 {
    hash >> (u64::BITS - MARK_BITS) | 1
}

/// The connection ID that a long header is sent to (RFC 9000 section 17.2), or nothing.
fn destination(datagram: &[u8]) -> &[u8] {
    let length = datagram.get(5).map_or(0, |length| usize::from(*length));
    datagram.get(6..6 + length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(id: u64) -> Vec<u8> {
        [&[0xc0, 0, 0, 0, 1, 8][..], &id.to_be_bytes(), &[7; 100]].concat()
    }

    fn from(number: u32, port: u16) -> SocketAddr {
        SocketAddr::from((number.to_be_bytes(), port))
    }

    //
    #[test]
    fn a_packet_that_comes_again_is_known_and_no_other_from_there_until_one_was_looked_at() {
        let mut knocks = Knocks::default();
        let [first, other] = [1, 2].map(|id| knocks.knock(from(1, 1), &packet(id)));
        assert!(!knocks.is_known(first));
        knocks.remember(first, false);
        assert!(knocks.is_known(first) && !knocks.is_known(other));
        assert!(!knocks.is_known(knocks.knock(from(1, 2), &packet(1))), "from another port");
        knocks.remember(first, true);
        assert!(knocks.is_known(other), "what answers a Retry");
        for cut in 0..20 {
            knocks.remember(knocks.knock(from(2, 1), &packet(3)[..cut]), false);
        }
    }

    //
    #[test]
    fn hundreds_of_thousands_of_others_push_few_out_and_few_of_them_are_taken_for_known() {
        let mut knocks = Knocks::default();
        let clients: Vec<_> = (0..1000).map(|number| knocks.knock(from(number, 1), &packet(0))).collect();
        clients.iter().for_each(|client| knocks.remember(*client, false));
        let mut mistaken = 0;
        for number in 0..300_000 {
            // Few sources, as an attacker may have.
            let forged = knocks.knock(from(number % 4096, 2), &packet(u64::from(number)));
            mistaken += u32::from(knocks.is_known(forged));
            knocks.remember(forged, false);
        }
        let kept = clients.iter().filter(|client| knocks.is_known(**client)).count();
        assert!(kept > 940, "{kept} of 1000 are known");
        assert!(mistaken < 300, "{mistaken} of 300,000");
    }

    //
    #[test]
    fn who_waits_is_known_as_long_as_a_client_asks_again_and_not_for_ever() {
        let start = Instant::now();
        let mut waiting = Waiting::new(start);
        for number in 0..10_000 {
            waiting.remember(from(number, 1));
        }
        let known =
            |waiting: &mut Waiting, at| (0..10_000).filter(|number| waiting.is_known(from(*number, 1), at)).count();
        // By chance 83 are pushed out by others, give or take ten.
        assert!(known(&mut waiting, start) > 9_850);
        assert!(!waiting.is_known(from(60_000, 1), start) && !waiting.is_known(from(1, 2), start));
        // After a second, and two seconds later than another one.
        for spans in [2, 4, 5] {
            assert!(known(&mut waiting, start + spans * WAITING_SPAN) > 9_850);
        }
        assert_eq!(known(&mut waiting, start + 6 * WAITING_SPAN), 0);
        waiting.remember(from(1, 1));
        assert!(!waiting.is_known(from(1, 1), start + 100 * WAITING_SPAN));
        waiting.remember(from(1, 1));
        assert!(waiting.is_known(from(1, 1), start + 102 * WAITING_SPAN));
    }
}
