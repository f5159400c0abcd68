//! Connection IDs that say which shard of which process they belong to.

use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use crate::core::ShardId;

/// Bytes of every connection ID: the shard's number, the incarnation's two and five random ones.
pub(crate) const CID_BYTES: usize = 8;
/// Shards that a connection ID can tell apart.
pub const SHARDS_MAX: usize = 256;

/// A process of the relay, by a number drawn at its start. Of two that share a port during an upgrade, each knows its
/// own connections by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnation(pub u16);

/// Issues one shard's connection IDs.
#[derive(Debug)]
pub(crate) struct Generator {
    shard: u8,
    incarnation: Incarnation,
    rng: StdRng,
}

impl Generator {
    pub(crate) fn new(shard: ShardId, incarnation: Incarnation, seed: [u8; 32]) -> Self {
        Self { shard: shard.0 as u8, incarnation, rng: StdRng::from_seed(seed) }
    }
}

impl ConnectionIdGenerator for Generator {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [self.shard; CID_BYTES];
        bytes[1..3].copy_from_slice(&self.incarnation.0.to_be_bytes());
        self.rng.fill_bytes(&mut bytes[3..]);
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The shard that a UDP datagram belongs to, or `None` for whichever the kernel chose. A short header begins with a
/// connection ID of ours (RFC 9000 section 17.3); a long one may carry the client's own choice, and no client migrates
/// before its handshake is done (section 9). So a connection goes on from any address.
pub(crate) fn shard_of(datagram: &[u8]) -> Option<ShardId> {
    match datagram {
        [first, shard, ..] if first & 0x80 == 0 => Some(ShardId(u16::from(*shard))),
        _ => None,
    }
}

/// The process that a UDP datagram belongs to, if its connection ID may be one of the relay's. In a long header that is
/// so from a client's second packet on (RFC 9000 section 7.2); of those that a client chooses itself, one in 65,536 of
/// this length looks the same.
pub(crate) fn incarnation_of(datagram: &[u8]) -> Option<Incarnation> {
    let cid = match datagram {
        [first, cid @ ..] if first & 0x80 == 0 => cid,
        [_, _, _, _, _, length, cid @ ..] if usize::from(*length) == CID_BYTES => cid,
        _ => return None,
    };
    match cid {
        [_, high, low, _, _, _, _, _, ..] => Some(Incarnation(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_header_names_its_shard_and_a_long_one_does_not() {
        let mut generator = Generator::new(ShardId(3), Incarnation(0x0102), [7; 32]);
        let cid = generator.generate_cid();
        let short = [&[0x40], &cid[..], &[0; 20]].concat();
        assert_eq!(shard_of(&short), Some(ShardId(3)));
        assert_eq!(shard_of(&[0xc0, 3, 0, 0]), None);
        assert_eq!(shard_of(&[0x40]), None);
        assert_eq!(shard_of(&[]), None);
        assert_ne!(cid, generator.generate_cid());
    }

    #[test]
    fn both_headers_name_their_process_unless_a_client_chose_another_length() {
        let cid = Generator::new(ShardId(3), Incarnation(0x0102), [7; 32]).generate_cid();
        let short = [&[0x40], &cid[..], &[0; 20]].concat();
        let long = [&[0xe0, 0, 0, 0, 1, 8], &cid[..], &[0; 20]].concat();
        let chosen = [&[0xc0, 0, 0, 0, 1, 20], &cid[..], &[0; 20]].concat();
        assert_eq!(incarnation_of(&short), Some(Incarnation(0x0102)));
        assert_eq!(incarnation_of(&long), Some(Incarnation(0x0102)));
        assert_eq!(incarnation_of(&chosen), None);
        for cut in 0..9 {
            assert_eq!(incarnation_of(&short[..cut]), None);
            assert_eq!(incarnation_of(&long[..cut]), None);
        }
    }
}
