//! Connection IDs that say which shard of which process they belong to.

use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use crate::core::ShardId;

/// Bytes of every connection ID: the shard's number, the incarnation's two and five random ones.
pub(crate) const CID_BYTES: usize = 8;
/// Where in it the shard's number stands, in one byte, and the incarnation's, in two.
pub(crate) const CID_SHARD_AT: usize = 0;
pub(crate) const CID_INCARNATION_AT: usize = 1;
const CID_RANDOM_AT: usize = 3;
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
        let mut bytes = [0; CID_BYTES];
        self.rng.fill_bytes(&mut bytes[CID_RANDOM_AT..]);
        bytes[CID_SHARD_AT] = self.shard;
        bytes[CID_INCARNATION_AT..CID_RANDOM_AT].copy_from_slice(&self.incarnation.0.to_be_bytes());
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_says_whose_it_is_and_is_like_no_other() {
        let mut generator = Generator::new(ShardId(3), Incarnation(0x0102), [7; 32]);
        let cid = generator.generate_cid();
        assert_eq!(cid.len(), generator.cid_len());
        assert_eq!(cid[CID_SHARD_AT], 3);
        assert_eq!(cid[CID_INCARNATION_AT..CID_INCARNATION_AT + 2], [1, 2]);
        assert_ne!(cid, generator.generate_cid());
    }
}
