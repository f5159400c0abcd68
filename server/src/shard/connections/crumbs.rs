//! Clients that send their streams in crumbs.
//!
//! QUIC sorts what comes of a stream, and a packet can hold a hundred pieces of a few bytes with a gap after each: a
//! quarter of a millisecond of work, where an honest packet takes a few microseconds. Nobody who has something to say
//! sends so. Whoever does gets a few packets a turn served, and all of them together not many more; the others are
//! dropped, as on a narrow path. Packets that take long for any other reason are for [`super::costs`].

use quinn_proto::Connection;

/// Packets after which a client's pieces are counted. Default 4: counting copies QUIC's statistics, half a kilobyte.
const PACKETS_A_LOOK: u8 = 4;
/// Pieces of streams in a packet, on the average, above which they are crumbs. Default 16: packets of media hold one or two,
/// and few of any client more than one for each of its streams.
const PIECES_A_PACKET_MAX: u64 = 16;
/// Packets of crumbs that one client has served in a turn. Default 4: a millisecond.
const PER_CLIENT_MAX: u8 = 4;
/// And all clients of a shard. Default 16.
pub(super) const PER_TURN_MAX: u8 = 16;

/// Pieces of TLS that a client may send. Default 128: a handshake is few, and some come again on a path that loses; after it
/// a client has nothing to say. QUIC would keep more of them, with gaps, in packets that they are little of.
const TLS_PIECES_MAX: u64 = 128;

/// What is known of one client's packets.
#[derive(Debug, Default)]
pub(super) struct Crumbs {
    pieces: u64,
    unseen: u8,
    is_crumbling: bool,
    has_too_much_tls: bool,
    served: u8,
}

impl Crumbs {
    /// Whether one more packet is served in this turn, in which so many packets of crumbs may still be.
    pub(super) fn take(&mut self, left: &mut u8) -> bool {
        if !self.is_crumbling {
            return true;
        }
        if self.served >= PER_CLIENT_MAX || *left == 0 {
            return false;
        }
        self.served += 1;
        *left -= 1;
        true
    }

    /// A packet was served; of one that is not let in, where fewer pieces are too many, each is looked at.
    pub(super) fn look(&mut self, quic: &Connection, is_newcomer: bool) {
        self.unseen += 1;
        if is_newcomer || self.unseen == PACKETS_A_LOOK {
            let frames = quic.stats().frame_rx;
            self.count(frames.stream);
            self.has_too_much_tls = frames.crypto > TLS_PIECES_MAX;
        }
    }

    /// Whether it sends pieces of TLS without end.
    pub(super) fn has_too_much_tls(&self) -> bool {
        self.has_too_much_tls
    }

    /// A turn is over.
    pub(super) fn turn(&mut self) {
        self.served = 0;
    }

    fn count(&mut self, pieces: u64) {
        let new = pieces.saturating_sub(self.pieces);
        self.is_crumbling = new > PIECES_A_PACKET_MAX * u64::from(self.unseen);
        self.pieces = pieces;
        self.unseen = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn whoever_sends_crumbs_is_served_a_little_in_each_turn_and_others_as_ever() {
        let (mut honest, mut crumbling) = (Crumbs::default(), Crumbs::default());
        honest.unseen = PACKETS_A_LOOK;
        honest.count(u64::from(PACKETS_A_LOOK) * PIECES_A_PACKET_MAX);
        crumbling.unseen = PACKETS_A_LOOK;
        crumbling.count(u64::from(PACKETS_A_LOOK) * PIECES_A_PACKET_MAX + 1);
        let served = |crumbs: &mut Crumbs, left: &mut u8| (0..100).filter(|_| crumbs.take(left)).count();
        let mut left = PER_TURN_MAX;
        assert_eq!(served(&mut honest, &mut left), 100);
        assert_eq!(served(&mut crumbling, &mut left), 4);
        assert_eq!(left, 12, "for others of that kind");
        crumbling.turn();
        assert_eq!(served(&mut crumbling, &mut 3), 3, "all together no more");
        assert_eq!(served(&mut honest, &mut 0), 100);
        // It has stopped.
        crumbling.unseen = PACKETS_A_LOOK;
        crumbling.count(crumbling.pieces + 4);
        assert_eq!(served(&mut crumbling, &mut 0), 100);
    }
}
