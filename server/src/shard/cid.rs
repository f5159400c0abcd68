//! Connection IDs that say which shard they belong to.

use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::core::ShardId;

/// Bytes of every connection ID: the shard's number and seven random ones.
pub(super) const CID_BYTES: usize = 8;
/// Shards that a connection ID can tell apart.
pub const SHARDS_MAX: usize = 256;

/// Issues one shard's connection IDs.
#[derive(Debug)]
pub(super) struct Generator {
    shard: u8,
    rng: StdRng,
}

impl Generator {
    pub(super) fn new(shard: ShardId, seed: [u8; 32]) -> Self {
        Self { shard: shard.0 as u8, rng: StdRng::from_seed(seed) }
    }
}

impl ConnectionIdGenerator for Generator {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes = [self.shard; CID_BYTES];
        self.rng.fill_bytes(&mut bytes[1..]);
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
pub(super) fn shard_of(datagram: &[u8]) -> Option<ShardId> {
    match datagram {
        [first, shard, ..] if first & 0x80 == 0 => Some(ShardId(u16::from(*shard))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_header_names_its_shard_and_a_long_one_does_not() {
        let mut generator = Generator::new(ShardId(3), [7; 32]);
        let cid = generator.generate_cid();
        let short = [&[0x40], &cid[..], &[0; 20]].concat();
        assert_eq!(shard_of(&short), Some(ShardId(3)));
        assert_eq!(shard_of(&[0xc0, 3, 0, 0]), None);
        assert_eq!(shard_of(&[0x40]), None);
        assert_eq!(shard_of(&[]), None);
        assert_ne!(cid, generator.generate_cid());
    }
}
