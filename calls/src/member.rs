//! Who is in a room.

use supernode_proto::identity::{DeviceKey, IdentityKey};

/// Somebody with a place in a room's group, as their leaf there says: never as the relay says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Member {
    /// Who.
    pub identity: IdentityKey,
    /// On which device.
    pub device: DeviceKey,
}

impl From<supernode_e2ee::Member> for Member {
    fn from(member: supernode_e2ee::Member) -> Self {
        Self { identity: member.identity, device: member.device }
    }
}
