//! The bus: short messages between nodes by topic, which may be lost, late or doubled. What is said on it is made so that none
//! of that does harm, and what was lost is said again ([`super::rounds`]).

use bytes::Bytes;
use supernode_proto::identity::IdentityKey;

/// What a message on the bus is about: whoever listens to a topic hears what others tell there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Listened to by nodes with somebody who watches this identity.
    Watchers(IdentityKey),
    /// Listened to by nodes with a device of this identity.
    Holders(IdentityKey),
    /// Listened to by all nodes.
    Nodes,
}

/// What a core wants of the bus. Its own messages do not come back to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusErrand {
    /// Listen to this from now on. [`Topic::Nodes`] is always listened to.
    Listen(Topic),
    /// Listen to it no more.
    Forget(Topic),
    /// Tell whoever listens.
    Tell(Topic, Bytes),
}
