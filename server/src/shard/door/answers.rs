//! How much a shard answers to packets of nobody it knows.
//!
//! QUIC asks for answers: to a version that is not spoken, to a first packet that is turned away, to a packet of a
//! connection that is gone. Whoever sends junk at full rate would get one a packet and spend the time of others, so each
//! kind has a rate, and beyond it junk is dropped. An honest client sends its packet again. Resets are bounded by QUIC
//! itself ([`RESET_INTERVAL`]).

use std::time::{Duration, Instant};

use crate::core::rate::Bucket;

/// The one version of QUIC that is spoken (RFC 9000).
pub(crate) const VERSION: u32 = 1;
/// Between two stateless resets of a shard. Default 20 ms: clients of a process that was killed send a packet each within
/// seconds, and 50 of them a second learn at once what the others learn by their own time-outs.
pub(crate) const RESET_INTERVAL: Duration = Duration::from_millis(20);
/// Version Negotiation packets a second of one shard, with as many as a burst. Default 100: no client of ours speaks
/// another version, and one that does asks once.
const VERSIONS_PER_SECOND: u64 = 100;
/// First packets a second of one shard that are turned away with a reason, with as many as a burst. Default 500: 5 ms of a
/// core. One that is dropped instead comes again after a second.
const CLOSES_PER_SECOND: u64 = 500;
/// Smaller packets of another version are never answered (RFC 9000 section 6.1).
const FIRST_PACKET_BYTES_MIN: usize = 1200;

/// What may still be answered.
#[derive(Debug)]
pub(crate) struct Answers {
    versions: Bucket,
    closes: Bucket,
}

impl Answers {
    pub(crate) fn new(now: Instant) -> Self {
        let full = |per_second| Bucket::new(per_second, per_second, now);
        Self { versions: full(VERSIONS_PER_SECOND), closes: full(CLOSES_PER_SECOND) }
    }

    /// Whether a packet of another version of QUIC may be answered.
    pub(crate) fn tell_version(&mut self, datagram: &[u8], now: Instant) -> bool {
        datagram.len() >= FIRST_PACKET_BYTES_MIN && self.versions.take(1, now)
    }

    /// Whether a first packet that is turned away may be told so.
    pub(crate) fn turn_away(&mut self, now: Instant) -> bool {
        self.closes.take(1, now)
    }
}

/// Whether a datagram begins with a packet of another version of QUIC, which belongs to no connection. Looks at five bytes:
/// junk of this kind is told apart before anything is parsed or looked up.
pub(crate) fn is_of_another_version(datagram: &[u8]) -> bool {
    match datagram {
        [first, a, b, c, d, ..] if first & 0x80 != 0 => u32::from_be_bytes([*a, *b, *c, *d]) != VERSION,
        _ => false,
    }
}

/// Whether a datagram begins with an Initial packet, for which QUIC derives keys before it knows whose it is
/// (RFC 9000 section 17.2.2).
pub(crate) fn is_initial(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0xf0 == 0xc0)
}

/// Whether what QUIC answers turns a connection away, and is neither a reset nor Version Negotiation.
pub(crate) fn is_close(answer: &[u8]) -> bool {
    answer.first().is_some_and(|first| first & 0x80 != 0) && !is_of_another_version(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn only_a_long_header_names_a_version_and_only_one_version_is_ours() {
        assert!(!is_of_another_version(&[0xc0, 0, 0, 0, 1, 8]));
        for (version, what) in [(0u32, "negotiation"), (0xff00_001d, "a draft"), (0x6b33_43cf, "version 2")] {
            assert!(is_of_another_version(&[&[0xc0][..], &version.to_be_bytes()].concat()), "{what}");
        }
        assert!(!is_of_another_version(&[0x40, 0, 0, 0, 9]), "a short header");
        assert!(!is_of_another_version(&[0xc0, 0, 0]), "cut off");
    }

    //
    #[test]
    fn so_many_are_told_the_version_in_a_second_and_none_with_a_small_packet() {
        let start = Instant::now();
        let mut answers = Answers::new(start);
        let mut told = |packets: usize, bytes: usize, at| {
            (0..packets).filter(|_| answers.tell_version(&vec![0; bytes], at)).count() as u64
        };
        assert_eq!(told(1000, 1199, start), 0);
        assert_eq!(told(100_000, 1200, start), VERSIONS_PER_SECOND);
        assert_eq!(told(100_000, 1200, start + Duration::from_millis(500)), VERSIONS_PER_SECOND / 2);
    }
}
