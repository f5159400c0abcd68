//! What a group is made of and how it changes.

use std::fmt;

use supernode_proto::identity::{DeviceKey, IdentityKey, JoinKey};

/// A device in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its place in the tree.
    pub leaf: u32,
    /// Who it acts for.
    pub identity: IdentityKey,
    /// Its key, also what it signs with in MLS.
    pub device: DeviceKey,
}

/// A change that we propose: it counts once the relay has accepted its commit as the first of its epoch.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// The epoch that it was made in, and ends.
    pub epoch: u64,
    /// For the members there are, an MLS PrivateMessage.
    pub commit: Vec<u8>,
    /// For the members that it adds, an MLS Welcome with the tree.
    pub welcome: Option<Vec<u8>>,
    /// What lets newcomers into the room in the epoch that it begins.
    pub join_key: JoinKey,
    /// Whether it says that those whom it removes are put out.
    pub puts_out: bool,
    /// Whether it brings fresh keys of ours, which nobody has who had the group's old ones: all do but those that only add.
    pub renews: bool,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// What a message from the mailbox did.
#[derive(Clone, PartialEq, Eq)]
pub enum Processed {
    /// A commit: the group is in its next epoch, and a pending commit of our own is gone.
    EpochChanged {
        /// Who made it.
        by: Member,
        /// Whether it says that those who went were put out, and not only taken for gone.
        put_out: bool,
        /// Whether it brought fresh keys of its maker: see [`Change::renews`].
        renewed: bool,
        /// Who came.
        added: Vec<Member>,
        /// Who went.
        removed: Vec<Member>,
    },
    /// A commit that removed us: nothing of the group can be used any more.
    RemovedOurselves {
        /// Who made it.
        by: Member,
        /// Whether it says that we were put out, and not only taken for gone.
        put_out: bool,
    },
    /// A member's message of this epoch.
    Message {
        /// Who sealed it.
        from: Member,
        /// What it says.
        bytes: Vec<u8>,
    },
    /// Our own message of this epoch: nobody can open their own.
    Own,
    /// Nothing to do: a message of an epoch that is over.
    Ignored,
}

impl fmt::Debug for Processed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EpochChanged { added, removed, .. } => {
                write!(f, "EpochChanged {{ added: {}, removed: {} }}", added.len(), removed.len())
            }
            Self::RemovedOurselves { .. } => f.write_str("RemovedOurselves"),
            Self::Message { bytes, .. } => write!(f, "Message {{ {} bytes }}", bytes.len()),
            Self::Own => f.write_str("Own"),
            Self::Ignored => f.write_str("Ignored"),
        }
    }
}
