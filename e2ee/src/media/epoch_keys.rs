//! What sealing and opening media needs of one epoch.

use std::fmt;
use std::sync::Arc;

use supernode_proto::identity::{DeviceKey, RoomId};
use zeroize::Zeroizing;

use crate::media::frame::SendCounter;

/// One epoch's SFrame base key (RFC 9605 section 5.2), who may use it, and our counter under it. Wiped on drop.
pub struct EpochKeys {
    pub(crate) room: RoomId,
    pub(crate) epoch: u64,
    pub(crate) own_leaf: u32,
    pub(crate) base_key: Zeroizing<Vec<u8>>,
    pub(crate) devices: Vec<(u32, DeviceKey)>,
    pub(crate) counter: Arc<SendCounter>,
}

impl EpochKeys {
    /// The epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl fmt::Debug for EpochKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochKeys").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
