//! What a group is in one epoch, to be asked while somebody else works on the group.

use std::fmt;

use supernode_keys::JoinSecret;
use supernode_proto::identity::{Delegation, IdentityKey};

use crate::error::Error;
use crate::exchange::Keys;
use crate::group::change::Member;
use crate::group::credential;

/// A group as it is in one epoch, of which nothing changes; but it can be told that we were removed. It opens nothing that
/// was sealed.
pub struct Snapshot {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// Our place in the tree.
    pub own_leaf: u32,
    /// As [`Group::members`](crate::Group::members).
    pub members: Vec<Member>,
    /// As [`Group::hosts`](crate::Group::hosts).
    pub hosts: Vec<IdentityKey>,
    /// As [`Group::keys`](crate::Group::keys).
    pub keys: Keys,
    pub(crate) credential: Option<openmls::prelude::Credential>,
    pub(crate) secrets: Option<Secrets>,
}

/// What only members have.
pub(crate) struct Secrets {
    pub(crate) join: JoinSecret,
    pub(crate) safety_number: String,
    pub(crate) digest: [u8; 32],
}

impl Snapshot {
    /// As [`Group::join_secret`](crate::Group::join_secret).
    ///
    /// # Errors
    /// [`Error::Removed`].
    pub fn join_secret(&self) -> Result<&JoinSecret, Error> {
        self.secrets().map(|secrets| &secrets.join)
    }

    /// As [`Group::safety_number`](crate::Group::safety_number).
    ///
    /// # Errors
    /// [`Error::Removed`].
    pub fn safety_number(&self) -> Result<&str, Error> {
        self.secrets().map(|secrets| secrets.safety_number.as_str())
    }

    /// As [`Group::epoch_digest`](crate::Group::epoch_digest).
    ///
    /// # Errors
    /// [`Error::Removed`].
    pub fn epoch_digest(&self) -> Result<[u8; 32], Error> {
        self.secrets().map(|secrets| secrets.digest)
    }

    /// As [`Group::shows`](crate::Group::shows).
    pub fn shows(&self, delegation: &Delegation) -> bool {
        self.credential.as_ref() == Some(&credential::of_delegation(delegation).credential)
    }

    /// We were removed: wipes what only members have.
    pub fn end(&mut self) {
        self.secrets = None;
    }

    fn secrets(&self) -> Result<&Secrets, Error> {
        self.secrets.as_ref().ok_or(Error::Removed)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("epoch", &self.epoch)
            .field("members", &self.members.len())
            .finish_non_exhaustive()
    }
}
