//! Who is online, as far as tickets allow.

use bytes::Bytes;
use supernode_proto::control::PresenceState;

/// What is known of a person now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// How they want to be seen; offline when no device of theirs is connected or visible.
    pub state: PresenceState,
    /// Visible devices online.
    pub devices: u32,
    /// What their devices attached, sealed or not as the two agreed; at most 1 KiB.
    pub status: Bytes,
}

impl Presence {
    /// Whether a ring has somewhere to go.
    pub fn is_online(&self) -> bool {
        self.state != PresenceState::Offline
    }
}
