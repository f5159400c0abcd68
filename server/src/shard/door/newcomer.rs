//! What is kept of a client until it is let in, and no longer.

use std::time::Instant;

use supernode_proto::identity::RelayPin;

use super::places::Place;

/// What one client that is not let in may make the relay keep, at most. A handshake in progress takes 23 KB, which
/// `server/tests/newcomers` measures; the rest is for what QUIC keeps behind gaps: 8 KiB of a stream, 4 KiB of TLS, and of
/// each 32 KiB more in packets of which it needs little.
pub const NEWCOMER_BYTES_MAX: usize = 96 * 1024;

/// An address that has not proven itself is sent at most so many times the bytes that came from it
/// (RFC 9000 section 8.1, R-138).
const SENT_FOR_RECEIVED: u64 = 3;

/// A client that is not let in yet.
#[derive(Debug)]
pub(crate) struct Newcomer {
    /// Until when it must have said Hello.
    pub(crate) hello_by: Instant,
    /// The key of the certificate that it was shown: the name that its Hello signs for.
    pub(crate) pin: RelayPin,
    /// Whether it says that it is a node of the relay's cluster.
    pub(crate) is_node: bool,
    /// Its place among all who are not let in.
    pub(crate) place: Place,
    /// What came from its address and went there, until the address is proven. QUIC keeps books of its own, and lets the
    /// last datagram go above them.
    books: Option<Books>,
}

#[derive(Debug)]
struct Books {
    received: u64,
    sent: u64,
}

impl Newcomer {
    /// Whose address has not proven itself by a Retry has sent so many bytes.
    pub(crate) fn new(hello_by: Instant, pin: RelayPin, place: Place, unproven_bytes: Option<usize>) -> Self {
        let books = unproven_bytes.map(|bytes| Books { received: bytes as u64, sent: 0 });
        Self { hello_by, pin, is_node: false, place, books }
    }

    /// Bytes came from it.
    pub(crate) fn receive(&mut self, bytes: usize) {
        if let Some(books) = &mut self.books {
            books.received += bytes as u64;
        }
    }

    /// Its address has answered.
    pub(crate) fn prove(&mut self) {
        self.books = None;
    }

    /// Whether it may be sent so many bytes now, which then count.
    pub(crate) fn may_send(&mut self, bytes: usize) -> bool {
        let Some(books) = &mut self.books else { return true };
        let sent = books.sent + bytes as u64;
        let may = sent <= books.received * SENT_FOR_RECEIVED;
        if may {
            books.sent = sent;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::door::{places::Places, prefixes::Prefixes};

    fn newcomer(unproven_bytes: Option<usize>) -> Newcomer {
        let network = Prefixes::default().network([192, 0, 2, 1].into());
        Newcomer::new(Instant::now(), RelayPin([0; 32]), Places::default().take(0, network), unproven_bytes)
    }

    //
    #[test]
    fn an_address_is_sent_three_times_what_came_from_it_until_it_is_proven() {
        let mut unproven = newcomer(Some(1200));
        let sent = |newcomer: &mut Newcomer| (0..100).filter(|_| newcomer.may_send(1150)).count();
        assert_eq!(sent(&mut unproven), 3);
        assert!(unproven.may_send(150) && !unproven.may_send(1), "to the last byte");
        unproven.receive(40);
        assert!(unproven.may_send(120) && !unproven.may_send(1));
        unproven.prove();
        assert_eq!(sent(&mut unproven), 100);
        assert_eq!(sent(&mut newcomer(None)), 100, "a Retry has proven it");
    }
}
