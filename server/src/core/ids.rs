//! Numbers that must not be mixed up, and the two clocks.

use std::{
    fmt,
    time::{Duration, Instant},
};

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};
use supernode_proto::identity::IdentityError;

/// A relay process in a cluster. There is one, number 0, until there are more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct NodeId(pub u16);

/// A shard: one thread with its socket, its connections and its part of the core.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    /// Position in tables of shards.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where mail goes: a shard of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    /// The relay process.
    pub node: NodeId,
    /// Its shard.
    pub shard: ShardId,
}

impl Address {
    /// A shard of the only node.
    pub const fn local(shard: ShardId) -> Self {
        Self { node: NodeId(0), shard }
    }

    /// Another shard of the same node.
    #[must_use]
    pub const fn beside(self, shard: ShardId) -> Self {
        Self { shard, ..self }
    }
}

/// A media stream's name among shards.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StreamKey {
    /// The publisher's shard.
    pub at: Address,
    /// Counts its streams.
    pub number: u64,
}

/// Where a session lives. The generation tells it from earlier sessions in the same slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionId {
    /// Whose connection it is.
    pub at: Address,
    /// The connection's slot there.
    pub link: u32,
    /// Counts the slot's sessions.
    pub generation: u32,
}

/// A member's number in one room.
pub type MemberId = u32;

/// A ring's name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RingId(pub [u8; 16]);

impl RingId {
    /// The name in a message field.
    pub(crate) fn from_slice(bytes: &[u8]) -> Result<Self, IdentityError> {
        let length = bytes.len();
        bytes.try_into().map(Self).map_err(|_| IdentityError::Length { field: "ring", length, bound: 16 })
    }
}

impl fmt::Debug for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RingId(..)")
    }
}

/// An admission token without what makes it good for anything: the first 16 bytes of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 16]);

impl TokenDigest {
    /// Of a token as it stands in an invite link; `None` for no token.
    pub fn of(token: &str) -> Option<Self> {
        let [digest @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _]: [u8; 32] = Sha256::digest(token).into();
        (!token.is_empty()).then_some(Self(digest))
    }

    /// The text form: 22 characters of base64url.
    pub fn to_text(self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }

    /// Reads the text form.
    pub fn from_text(text: &str) -> Option<Self> {
        BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// The time, taken once for a batch of work: monotonic for waiting, Unix for what people sign.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Never goes back.
    pub instant: Instant,
    /// Milliseconds since 1970, by the machine's clock.
    pub unix_ms: u64,
}

impl Now {
    /// Seconds since 1970.
    pub const fn unix_s(&self) -> u64 {
        self.unix_ms / 1000
    }

    /// The same clocks `later`.
    #[must_use]
    pub fn plus(&self, later: Duration) -> Self {
        Self { instant: self.instant + later, unix_ms: self.unix_ms + later.as_millis() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_costs_names_nothing() {
        // As without one: what fits where a shard's number leaves room anyway.
        assert_eq!((size_of::<Address>(), size_of::<SessionId>(), size_of::<StreamKey>()), (4, 12, 16));
    }

    #[test]
    fn shards_of_two_nodes_with_the_same_number_are_not_the_same() {
        let here = Address::local(ShardId(1));
        assert_ne!(here, Address { node: NodeId(1), ..here });
        assert_eq!(here.beside(ShardId(2)), Address::local(ShardId(2)));
    }
}
