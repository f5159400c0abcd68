//! An MLS group: who is in a call, and the secrets that they share epoch by epoch.

use std::fmt;
use std::sync::Arc;

use openmls::prelude::tls_codec::{DeserializeBytes as _, Serialize as _};
use openmls::prelude::{
    KeyPackage, KeyPackageIn, LeafNode, LeafNodeIndex, LeafNodeParameters, MlsGroup, MlsMessageBodyIn, MlsMessageIn,
    MlsMessageOut, ProcessedMessageContent, Proposal, ProtocolMessage, ProtocolVersion, Sender, StagedCommit,
};
use openmls_traits::OpenMlsProvider as _;
use supernode_proto::identity::{IdentityKey, RoomId};
use supernode_proto::limits;
use zeroize::Zeroizing;

use crate::change::{Change, Member, Processed};
use crate::credential;
use crate::epoch_keys::EpochKeys;
use crate::error::{Error, check_length};
use crate::frame::{BASE_KEY_BYTES, SendCounter};
use crate::safety::safety_number;
use crate::secret::{DeviceSecret, JoinSecret};
use crate::store::Store;

const JOIN_LABEL: &str = "supernode room join";
const JOIN_SECRET_BYTES: usize = 32;
/// Largest message that [`Group::seal_message`] takes: with MLS's own fields and filling it stays below what a mailbox
/// carries. Unit: bytes.
pub const MESSAGE_BYTES_MAX: usize = limits::MLS_PAYLOAD_BYTES_MAX - 4096;
/// RFC 9605 section 5.2.
const SFRAME_LABEL: &str = "SFrame 1.0 Base Key";

/// A device's view of an MLS group whose id is a room's name.
///
/// Changes come in two steps: `propose_*` makes a commit, and then either the relay accepts it and
/// [`merge_own`](Self::merge_own) enters the next epoch, or another commit won and [`process`](Self::process) with that
/// one does. Past epochs' secrets are dropped at once.
pub struct Group {
    room: RoomId,
    mls: MlsGroup,
    store: Store,
    secret: Arc<DeviceSecret>,
    members: Vec<Member>,
    /// Of the current epoch. It lives here and not in a sealer, so that two sealers can never count twice under a key.
    counter: Arc<SendCounter>,
}

impl Group {
    pub(crate) fn new(room: RoomId, mls: MlsGroup, store: Store, secret: Arc<DeviceSecret>) -> Result<Self, Error> {
        let members = known_members(&mls)?;
        Ok(Self { room, mls, store, secret, members, counter: Arc::default() })
    }

    /// The room.
    pub fn room(&self) -> RoomId {
        self.room
    }

    /// The epoch, counted from 0.
    pub fn epoch(&self) -> u64 {
        self.mls.epoch().as_u64()
    }

    /// Everybody in the group, ourselves too, by leaf.
    pub fn members(&self) -> Vec<Member> {
        self.members.clone()
    }

    /// Our place in the tree.
    pub fn own_leaf(&self) -> u32 {
        self.mls.own_leaf_index().u32()
    }

    /// Proposes to add devices by their key packages. Each package must carry the identity beside it, by a delegation
    /// that holds at `now_unix_s`, else nothing changes. The commit is short, whatever the size of the group.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`limits::KEY_PACKAGE_BYTES_MAX`]; [`Error::Malformed`]; [`Error::Delegation`],
    /// [`Error::DelegationDevice`] or [`Error::UnexpectedIdentity`] if a package is not its identity's;
    /// [`Error::CommitPending`]; [`Error::Removed`]; [`Error::Mls`] for the rest, such as an expired package.
    pub fn propose_add(&mut self, packages: &[(IdentityKey, Vec<u8>)], now_unix_s: u64) -> Result<Change, Error> {
        self.check_idle()?;
        let packages = self.read_key_packages(packages, now_unix_s)?;
        let (commit, welcome, _) = self
            .mls
            .add_members_without_update(&*self.store, &*self.secret, &packages)
            .map_err(Error::mls("adding members"))?;
        self.change(&commit, Some(&welcome))
    }

    /// Proposes to put devices in the place of members, in one commit: a device that lost its state comes back by a
    /// new key package while its old leaf goes.
    ///
    /// # Errors
    /// As [`Self::propose_add`] and [`Self::propose_remove`]; also [`Error::Mls`] unless there are as many packages as
    /// leaves.
    pub fn propose_replace(
        &mut self,
        leaves: &[u32],
        packages: &[(IdentityKey, Vec<u8>)],
        now_unix_s: u64,
    ) -> Result<Change, Error> {
        self.check_idle()?;
        let packages = self.read_key_packages(packages, now_unix_s)?;
        let indices = self.removable(leaves)?;
        let messages = self
            .mls
            .swap_members(&*self.store, &*self.secret, &indices, &packages)
            .map_err(Error::mls("replacing members"))?;
        self.change(&messages.commit, Some(&messages.welcome))
    }

    /// Proposes to remove the members at these leaves.
    ///
    /// # Errors
    /// [`Error::NoSuchMember`] for an empty leaf or our own; [`Error::CommitPending`]; [`Error::Removed`]; [`Error::Mls`].
    pub fn propose_remove(&mut self, leaves: &[u32]) -> Result<Change, Error> {
        self.check_idle()?;
        let indices = self.removable(leaves)?;
        let (commit, welcome, _) =
            self.mls.remove_members(&*self.store, &*self.secret, &indices).map_err(Error::mls("removing members"))?;
        self.change(&commit, welcome.as_ref())
    }

    /// Proposes fresh keys for our own leaf, so that whoever stole the old ones is locked out.
    ///
    /// # Errors
    /// [`Error::CommitPending`]; [`Error::Removed`]; [`Error::Mls`].
    pub fn propose_update(&mut self) -> Result<Change, Error> {
        self.check_idle()?;
        let bundle = self
            .mls
            .self_update(&*self.store, &*self.secret, LeafNodeParameters::default())
            .map_err(Error::mls("updating our leaf"))?;
        self.change(&bundle.into_commit(), None)
    }

    /// Seals a few bytes for everybody in the group, as an MLS PrivateMessage of this epoch. It opens in this epoch
    /// only: what must outlast a change of the group belongs on a track.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`MESSAGE_BYTES_MAX`]; [`Error::Removed`]; [`Error::Mls`].
    pub fn seal_message(&mut self, message: &[u8]) -> Result<Vec<u8>, Error> {
        const DURING: &str = "sealing a message";
        self.check_active()?;
        check_length("a message", message, MESSAGE_BYTES_MAX)?;
        let sealed = self.mls.create_message(&*self.store, &*self.secret, message).map_err(Error::mls(DURING))?;
        sealed.tls_serialize_detached().map_err(Error::mls(DURING))
    }

    /// Enters the epoch that our pending commit begins: the relay accepted it.
    ///
    /// # Errors
    /// [`Error::NoCommitPending`]; [`Error::Removed`]; [`Error::Mls`].
    pub fn merge_own(&mut self) -> Result<(), Error> {
        self.check_active()?;
        if self.mls.pending_commit().is_none() {
            return Err(Error::NoCommitPending);
        }
        self.mls.merge_pending_commit(&*self.store).map_err(Error::mls("merging our commit"))?;
        self.enter_epoch().map(|_| ())
    }

    /// Drops our pending commit, if there is one: another won the epoch.
    ///
    /// # Errors
    /// [`Error::Mls`].
    pub fn discard_own(&mut self) -> Result<(), Error> {
        self.mls.clear_pending_commit(self.store.storage()).map_err(Error::mls("discarding our commit"))
    }

    /// Takes a message from the mailbox. `expected` says which identities others may add.
    ///
    /// Only commits and application messages of members count, both as MLS PrivateMessage; commits may add, remove and
    /// update, with their proposals inside. Whoever is added must show a delegation that holds at `now_unix_s`. A leaf
    /// that is updated keeps its delegation, or shows another that holds, for the same identity and device. Else the
    /// group stays in its epoch.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`limits::MLS_PAYLOAD_BYTES_MAX`]; [`Error::Malformed`]; [`Error::WrongRoom`];
    /// [`Error::FutureEpoch`]; [`Error::Refused`] for what we do not take part in; [`Error::Delegation`],
    /// [`Error::DelegationDevice`], [`Error::UnexpectedIdentity`] or [`Error::IdentityChanged`] if somebody is not who
    /// they should be; [`Error::Removed`]; [`Error::Mls`] for the rest.
    pub fn process(
        &mut self,
        message: &[u8],
        expected: &dyn Fn(&IdentityKey) -> bool,
        now_unix_s: u64,
    ) -> Result<Processed, Error> {
        self.check_active()?;
        let message = self.read_message(message)?;
        let (epoch, group) = (message.epoch().as_u64(), self.epoch());
        if epoch < group {
            return Ok(Processed::Ignored);
        }
        if epoch > group {
            return Err(Error::FutureEpoch { message: epoch, group });
        }
        let message = self.mls.process_message(&*self.store, message).map_err(Error::mls("reading a message"))?;
        let Sender::Member(sender) = *message.sender() else {
            return Err(Error::Refused { what: "messages from outside the group" });
        };
        match message.into_content() {
            ProcessedMessageContent::StagedCommitMessage(commit) => {
                self.check_commit(&commit, sender, expected, now_unix_s)?;
                self.merge_others(*commit)
            }
            ProcessedMessageContent::ApplicationMessage(message) => {
                let from = self.members.iter().find(|member| member.leaf == sender.u32());
                let from = *from.ok_or(Error::NoSuchMember(sender.u32()))?;
                Ok(Processed::Message { from, bytes: message.into_bytes() })
            }
            ProcessedMessageContent::OwnPrivateMessage | ProcessedMessageContent::OwnPendingCommit => {
                Ok(Processed::Own)
            }
            ProcessedMessageContent::ProposalMessage(_) | ProcessedMessageContent::ExternalJoinProposalMessage(_) => {
                Err(Error::Refused { what: "proposals outside a commit" })
            }
        }
    }

    /// What lets this epoch's members into the room, from the MLS exporter: 32 bytes, label `supernode room join`,
    /// context the room's name.
    ///
    /// # Errors
    /// [`Error::Removed`]; [`Error::Mls`].
    pub fn join_secret(&self) -> Result<JoinSecret, Error> {
        Ok(join_secret(Zeroizing::new(self.export(JOIN_LABEL, &self.room.0, JOIN_SECRET_BYTES)?)))
    }

    /// This epoch's safety number: see [`safety_number`].
    ///
    /// # Errors
    /// [`Error::Removed`].
    pub fn safety_number(&self) -> Result<String, Error> {
        self.check_active()?;
        let identities: Vec<IdentityKey> = self.members.iter().map(|member| member.identity).collect();
        Ok(safety_number(&identities, self.mls.epoch_authenticator().as_slice()))
    }

    /// What sealing and opening media needs of this epoch. Asking twice is safe: both share one counter.
    ///
    /// # Errors
    /// [`Error::Removed`]; [`Error::Mls`].
    pub fn epoch_keys(&self) -> Result<EpochKeys, Error> {
        Ok(EpochKeys {
            room: self.room,
            epoch: self.epoch(),
            own_leaf: self.own_leaf(),
            base_key: Zeroizing::new(self.export(SFRAME_LABEL, b"", BASE_KEY_BYTES)?),
            devices: self.members.iter().map(|member| (member.leaf, member.device)).collect(),
            counter: Arc::clone(&self.counter),
        })
    }

    fn export(&self, label: &str, context: &[u8], length: usize) -> Result<Vec<u8>, Error> {
        self.check_active()?;
        self.mls.export_secret(self.store.crypto(), label, context, length).map_err(Error::mls("exporting a secret"))
    }

    fn check_active(&self) -> Result<(), Error> {
        if self.mls.is_active() { Ok(()) } else { Err(Error::Removed) }
    }

    fn check_idle(&self) -> Result<(), Error> {
        self.check_active()?;
        if self.mls.pending_commit().is_some() { Err(Error::CommitPending) } else { Ok(()) }
    }

    fn removable(&self, leaves: &[u32]) -> Result<Vec<LeafNodeIndex>, Error> {
        let is_member = |leaf: u32| self.members.iter().any(|member| member.leaf == leaf);
        if let Some(leaf) = leaves.iter().find(|leaf| **leaf == self.own_leaf() || !is_member(**leaf)) {
            return Err(Error::NoSuchMember(*leaf));
        }
        Ok(leaves.iter().copied().map(LeafNodeIndex::new).collect())
    }

    /// Our pending commit, as the relay and the others need it.
    fn change(&self, commit: &MlsMessageOut, welcome: Option<&MlsMessageOut>) -> Result<Change, Error> {
        const DURING: &str = "writing a commit";
        let pending = self.mls.pending_commit().ok_or(Error::NoCommitPending)?;
        let seed = pending
            .export_secret(self.store.crypto(), JOIN_LABEL, &self.room.0, JOIN_SECRET_BYTES)
            .map_err(Error::mls(DURING))?;
        Ok(Change {
            epoch: self.epoch(),
            commit: commit.tls_serialize_detached().map_err(Error::mls(DURING))?,
            welcome: welcome.map(|welcome| welcome.tls_serialize_detached().map_err(Error::mls(DURING))).transpose()?,
            join_key: join_secret(Zeroizing::new(seed)).public(),
        })
    }

    fn read_key_packages(
        &self,
        packages: &[(IdentityKey, Vec<u8>)],
        now_unix_s: u64,
    ) -> Result<Vec<KeyPackage>, Error> {
        packages.iter().map(|(identity, package)| self.read_key_package(identity, package, now_unix_s)).collect()
    }

    fn read_key_package(&self, identity: &IdentityKey, bytes: &[u8], now_unix_s: u64) -> Result<KeyPackage, Error> {
        check_length("a key package", bytes, limits::KEY_PACKAGE_BYTES_MAX)?;
        let Ok(MlsMessageBodyIn::KeyPackage(package)) =
            MlsMessageIn::tls_deserialize_exact_bytes(bytes).map(MlsMessageIn::extract)
        else {
            return Err(Error::Malformed { what: "a key package" });
        };
        let package = KeyPackageIn::validate(package, self.store.crypto(), ProtocolVersion::Mls10)
            .map_err(Error::mls("validating a key package"))?;
        if credential::verify_leaf(package.leaf_node(), now_unix_s)?.0 != *identity {
            return Err(Error::UnexpectedIdentity);
        }
        Ok(package)
    }

    /// Only PrivateMessage: external commits and proposals could come as nothing but PublicMessage (RFC 9420
    /// section 6).
    fn read_message(&self, bytes: &[u8]) -> Result<ProtocolMessage, Error> {
        check_length("an MLS message", bytes, limits::MLS_PAYLOAD_BYTES_MAX)?;
        let message = match MlsMessageIn::tls_deserialize_exact_bytes(bytes).map(MlsMessageIn::extract) {
            Ok(MlsMessageBodyIn::PrivateMessage(message)) => ProtocolMessage::from(message),
            Ok(_) => return Err(Error::Refused { what: "messages other than MLS PrivateMessage" }),
            Err(_) => return Err(Error::Malformed { what: "an MLS message" }),
        };
        if message.group_id() != self.mls.group_id() {
            return Err(Error::WrongRoom);
        }
        Ok(message)
    }

    fn check_commit(
        &self,
        commit: &StagedCommit,
        sender: LeafNodeIndex,
        expected: &dyn Fn(&IdentityKey) -> bool,
        now_unix_s: u64,
    ) -> Result<(), Error> {
        for queued in commit.queued_proposals() {
            match queued.proposal() {
                Proposal::Add(add) => {
                    let (identity, _) = credential::verify_leaf(add.key_package().leaf_node(), now_unix_s)?;
                    if !expected(&identity) {
                        return Err(Error::UnexpectedIdentity);
                    }
                }
                Proposal::Update(update) => match queued.sender() {
                    Sender::Member(leaf) => self.check_update(*leaf, update.leaf_node(), now_unix_s)?,
                    _ => return Err(Error::Refused { what: "updates from outside the group" }),
                },
                Proposal::Remove(_) => {}
                // External senders, other secrets, other groups: nothing that a call needs.
                _ => return Err(Error::Refused { what: "proposals other than add, update and remove" }),
            }
        }
        commit.update_path_leaf_node().map_or(Ok(()), |leaf| self.check_update(sender, leaf, now_unix_s))
    }

    /// Fresh keys under the credential that let the member in are fine even after it has expired: clocks differ, and
    /// members who judged the time of a running call differently would part ways. A renewed delegation must hold, and
    /// be for the same identity and device.
    fn check_update(&self, leaf: LeafNodeIndex, node: &LeafNode, now_unix_s: u64) -> Result<(), Error> {
        let unchanged = |member: openmls::prelude::Member| {
            member.credential == *node.credential() && member.signature_key == node.signature_key().as_slice()
        };
        if self.mls.member_at(leaf).is_some_and(unchanged) {
            return Ok(());
        }
        let (identity, device) = credential::verify_leaf(node, now_unix_s)?;
        let updated = Member { leaf: leaf.u32(), identity, device };
        if self.members.contains(&updated) { Ok(()) } else { Err(Error::IdentityChanged) }
    }

    fn merge_others(&mut self, commit: StagedCommit) -> Result<Processed, Error> {
        self.mls.merge_staged_commit(&*self.store, commit).map_err(Error::mls("merging a commit"))?;
        if !self.mls.is_active() {
            self.store.wipe();
            return Ok(Processed::RemovedOurselves);
        }
        let before = self.enter_epoch()?;
        let only_in = |these: &[Member], those: &[Member]| -> Vec<Member> {
            these.iter().filter(|member| !those.contains(member)).copied().collect()
        };
        Ok(Processed::EpochChanged { added: only_in(&self.members, &before), removed: only_in(&before, &self.members) })
    }

    #[cfg(test)]
    pub(crate) fn stored(&self) -> usize {
        self.store.entries()
    }

    /// Takes over the new tree and starts a new counter for its new key; returns the members before.
    fn enter_epoch(&mut self) -> Result<Vec<Member>, Error> {
        self.counter = Arc::default();
        Ok(std::mem::replace(&mut self.members, known_members(&self.mls)?))
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("epoch", &self.epoch())
            .field("members", &self.members.len())
            .finish_non_exhaustive()
    }
}

fn known_members(mls: &MlsGroup) -> Result<Vec<Member>, Error> {
    mls.members().map(|member| credential::known_member(&member)).collect()
}

fn join_secret(seed: Zeroizing<Vec<u8>>) -> JoinSecret {
    JoinSecret::from_bytes(seed.first_chunk().expect("the exporter gives as many bytes as asked for"))
}
