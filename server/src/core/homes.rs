//! Where the one place is that decides something for everybody. Nobody else computes it: a cluster has other homes, and finds
//! them here.

use supernode_proto::{
    identity::{IdentityKey, RoomId},
    object::TrackAlias,
};

use super::{Address, NodeId, ShardId};

/// Which of the decisions about a room's home this is: what is said under another one than the last does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Fence {
    /// Which of the books of decisions it stands in. The number says nothing of which book is the later one.
    pub epoch: u64,
    /// Its place in that book.
    pub revision: u64,
}

impl Fence {
    /// Whether another decision in the same book is a later one.
    pub const fn is_before(self, other: Self) -> bool {
        self.epoch == other.epoch && self.revision < other.revision
    }
}

/// What a node of a cluster wants of the homes of rooms. Nobody answers it: where a room's home is comes by
/// [`ControlMail::HomeIs`](super::ControlMail::HomeIs), whenever it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomeWish {
    /// Somebody here wants to be in the room: decide where it lives, and say it again whenever that changes.
    Want(RoomId),
    /// Nobody here is in the room any more.
    Leave(RoomId),
    /// The home that was named says it is not, or cannot be reached: look again.
    Doubt(RoomId),
    /// Another node says something of the room under this decision.
    Heard(RoomId, Fence),
}

/// Where a room's home is, as far as this node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomeIs {
    /// At this node.
    Here(Fence),
    /// At another one.
    There(NodeId, Fence),
    /// That is not decided, or not known.
    Unknown,
}

/// Homes as one node knows them.
#[derive(Debug, Clone, Copy)]
pub struct Homes {
    node: NodeId,
    shards: u16,
}

impl Homes {
    /// Of a node with so many shards.
    pub const fn new(node: NodeId, shards: u16) -> Self {
        Self { node, shards }
    }

    /// The shard that numbers a room's messages, so that all members get them in one order. It follows from the room's
    /// name: all shards say the same, without asking each other.
    pub const fn of_room(&self, room: &RoomId) -> Address {
        let [first, second, ..] = room.0;
        self.of_number(u16::from_be_bytes([first, second]))
    }

    /// The node that this is.
    pub(crate) const fn node(&self) -> NodeId {
        self.node
    }

    /// Whether there may be other nodes. A single relay is number 0, and does nothing of what only others need.
    pub const fn is_clustered(&self) -> bool {
        self.node.0 != 0
    }

    /// The shard of this node that deals with other nodes about an identity's presence: one, so that what it wants of the bus
    /// comes in order.
    pub const fn of_dealings(&self, identity: &IdentityKey) -> Address {
        let [first, second, ..] = *identity.as_bytes();
        self.of_number(u16::from_be_bytes([first, second]))
    }

    /// The same for an identity of which the first eight bytes are known.
    pub(crate) const fn of_prefix(&self, prefix: u64) -> Address {
        self.of_number((prefix >> 48) as u16)
    }

    /// The shard of this node that gathers what all of them take of a track of another node, and passes its objects on to them:
    /// so one copy comes to a node. Aliases are random numbers.
    pub const fn of_track(&self, alias: TrackAlias) -> Address {
        self.of_number(alias.value() as u16)
    }

    const fn of_number(&self, number: u16) -> Address {
        Address { node: self.node, shard: ShardId(number % self.shards) }
    }

    /// The node whose tables say which devices of an identity are online, who watches it, and what it has used up. They are
    /// one process's, and all of its shards see them: so it is this node, whoever is asked for.
    pub const fn of_identity(&self, _identity: &IdentityKey) -> NodeId {
        self.node
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODE: NodeId = NodeId(0);

    proptest! {
        #[test]
        fn each_room_has_one_home_among_the_shards(room in any::<[u8; 16]>(), shards in 1u16..=256) {
            let home = Homes::new(NODE, shards).of_room(&RoomId(room));
            prop_assert!(home.node == NODE && home.shard.0 < shards);
            prop_assert_eq!(home, Homes::new(NODE, shards).of_room(&RoomId(room)));
        }

        #[test]
        fn without_a_cluster_everybody_is_at_home_here(identity in any::<[u8; 32]>(), shards in 1u16..=256) {
            prop_assert_eq!(Homes::new(NODE, shards).of_identity(&IdentityKey::new(identity)), NODE);
        }
    }

    #[test]
    fn a_shard_deals_with_an_identity_whether_all_of_it_is_known_or_its_beginning() {
        let homes = Homes::new(NodeId(3), 5);
        for first in 0..=u8::MAX {
            let identity = IdentityKey::new(std::array::from_fn(|place| first.wrapping_mul(place as u8 + 3)));
            let prefix = identity.as_bytes().first_chunk().copied().map(u64::from_be_bytes);
            assert_eq!(Some(homes.of_dealings(&identity)), prefix.map(|prefix| homes.of_prefix(prefix)));
        }
        assert!(homes.is_clustered() && !Homes::new(NODE, 5).is_clustered());
    }

    #[test]
    fn rooms_are_spread_over_all_shards() {
        let mut rooms = [0; 4];
        for first in 0..=u8::MAX {
            rooms[Homes::new(NODE, 4).of_room(&RoomId([first; 16])).shard.index()] += 1;
        }
        assert_eq!(rooms, [64; 4]);
    }
}
