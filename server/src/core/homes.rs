//! Where the one place is that decides something for everybody. Nobody else computes it: a cluster has other homes, and finds
//! them here.

use supernode_proto::identity::{IdentityKey, RoomId};

use super::{Address, NodeId, ShardId};

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
        Address { node: self.node, shard: ShardId(u16::from_be_bytes([first, second]) % self.shards) }
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
    fn rooms_are_spread_over_all_shards() {
        let mut rooms = [0; 4];
        for first in 0..=u8::MAX {
            rooms[Homes::new(NODE, 4).of_room(&RoomId([first; 16])).shard.index()] += 1;
        }
        assert_eq!(rooms, [64; 4]);
    }
}
