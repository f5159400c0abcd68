//! An MLS group: who is in a call, and the secrets that they share epoch by epoch.

pub(crate) mod change;
pub(crate) mod credential;
pub(crate) mod hosts;
pub(crate) mod leaf;
pub(crate) mod safety;
pub(crate) mod snapshot;

use std::fmt;
use std::sync::Arc;

use openmls::prelude::tls_codec::{DeserializeBytes as _, Serialize as _};
use openmls::prelude::{
    KeyPackage, KeyPackageIn, LeafNode, LeafNodeIndex, LeafNodeParameters, MlsGroup, MlsMessageBodyIn, MlsMessageIn,
    MlsMessageOut, ProcessedMessageContent, Proposal, ProtocolMessage, ProtocolVersion, Sender, StagedCommit,
};
use openmls_traits::OpenMlsProvider as _;
use sha2::{Digest as _, Sha256};
use supernode_keys::JoinSecret;
use supernode_proto::identity::{Delegation, IdentityKey, RoomId};
use supernode_proto::limits;
use zeroize::Zeroizing;

use self::change::{Change, Member, Processed};
use self::leaf::LeafSigner;
use self::safety::safety_number;
use self::snapshot::{Secrets, Snapshot};
use crate::error::{Error, check_length};
use crate::exchange::{self, KeyExchange, Keys, X_WING_MEMBERS_MAX};
use crate::media::epoch_keys::EpochKeys;
use crate::media::frame::{BASE_KEY_BYTES, SendCounter};
use crate::store::Store;

const JOIN_LABEL: &str = "supernode room join";
const JOIN_SECRET_BYTES: usize = 32;
/// Largest message that [`Group::seal_message`] takes: with MLS's own fields and filling it stays below what a mailbox
/// carries. Unit: bytes.
pub const MESSAGE_BYTES_MAX: usize = limits::MLS_PAYLOAD_BYTES_MAX - 4096;
/// The authenticated data of a commit whose removals are meant: those who went are not to come back by themselves.
/// Without it they were taken for gone.
const PUT_OUT: &[u8] = &[1];
const EPOCH_DOMAIN: &[u8] = b"supernode/1 epoch\0";
/// RFC 9605 section 5.2.
const SFRAME_LABEL: &str = "SFrame 1.0 Base Key";

/// A device's view of an MLS group whose id is a room's name.
///
/// Changes come in two steps: `propose_*` makes a commit, and then either the relay accepts it and
/// [`merge_own`](Self::merge_own) enters the next epoch, or another commit won and [`process`](Self::process) with that
/// one does. A past epoch's secrets are dropped when the one after it ends, or by [`forget_previous`](Self::forget_previous):
/// until then a commit that the others reject can be taken back by [`go_back`](Self::go_back).
pub struct Group {
    room: RoomId,
    mls: MlsGroup,
    store: Store,
    signer: LeafSigner,
    members: Vec<Member>,
    /// Of the current epoch. It lives here and not in a sealer, so that two sealers can never count twice under a key.
    counter: Arc<SendCounter>,
    hosts: Vec<IdentityKey>,
    previous: Option<Previous>,
    is_bounded: bool,
}

/// The epoch before the current one, as it was when it ended.
struct Previous {
    store: Store,
    counter: Arc<SendCounter>,
}

impl Group {
    pub(crate) fn new(room: RoomId, mls: MlsGroup, store: Store, signer: LeafSigner) -> Result<Self, Error> {
        let (members, hosts) = (known_members(&mls)?, hosts::read(mls.extensions())?);
        Ok(Self { room, mls, store, signer, members, counter: Arc::default(), hosts, previous: None, is_bounded: true })
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

    /// Whoever opened the room and whom they named; nobody in a call of those who were rung.
    pub fn hosts(&self) -> &[IdentityKey] {
        &self.hosts
    }

    /// For measuring what lies beyond [`X_WING_MEMBERS_MAX`], and why it is what it is.
    #[doc(hidden)]
    pub fn measure_beyond_bounds(&mut self) {
        self.is_bounded = false;
    }

    fn exchange(&self) -> KeyExchange {
        KeyExchange::of_suite(self.mls.ciphersuite()).unwrap_or(KeyExchange::X25519)
    }

    /// By what its keys are agreed on, and why by nothing better.
    pub fn keys(&self) -> Keys {
        let cannot = |member: &&Member| {
            let leaf = self.mls.public_group().leaf(LeafNodeIndex::new(member.leaf));
            leaf.is_none_or(|leaf| !KeyExchange::XWing.is_said_by(leaf))
        };
        let without_x_wing = self.members.iter().filter(cannot).count();
        Keys { exchange: self.exchange(), devices: self.members.len(), without_x_wing }
    }

    /// Whether somebody may put others out, and say who else may: hosts may; everybody may where there are none, or none
    /// of them is a member any more.
    pub fn may_put_out(&self, identity: &IdentityKey) -> bool {
        let is_member = |host: &IdentityKey| self.members.iter().any(|member| member.identity == *host);
        self.hosts.contains(identity) || !self.hosts.iter().any(is_member)
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
    /// [`Error::NotOffered`] if there is none for the group's key exchange; [`Error::Full`]; [`Error::CommitPending`];
    /// [`Error::Removed`]; [`Error::Mls`] for the rest, such as an expired package.
    pub fn propose_add(&mut self, packages: &[(IdentityKey, Vec<u8>)], now_unix_s: u64) -> Result<Change, Error> {
        self.check_idle()?;
        let (exchange, bound) = (self.exchange(), X_WING_MEMBERS_MAX);
        if exchange == KeyExchange::XWing && self.is_bounded && self.members.len() + packages.len() > bound {
            return Err(Error::Full { exchange, bound });
        }
        let packages = self.read_key_packages(packages, now_unix_s)?;
        let (commit, welcome, _) = self
            .mls
            .add_members_without_update(&self.store, &self.signer, &packages)
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
            .swap_members(&self.store, &self.signer, &indices, &packages)
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
            self.mls.remove_members(&self.store, &self.signer, &indices).map_err(Error::mls("removing members"))?;
        self.change(&commit, welcome.as_ref())
    }

    /// Proposes to put the members at these leaves out: a commit that says so, which the others follow only if we may.
    ///
    /// # Errors
    /// [`Error::NotAHost`]; as [`Self::propose_remove`] for the rest.
    pub fn propose_put_out(&mut self, leaves: &[u32]) -> Result<Change, Error> {
        self.check_idle()?;
        self.check_host(self.own_leaf())?;
        self.mls.set_aad(PUT_OUT.to_vec());
        let proposed = self.propose_remove(leaves).map(|change| Change { puts_out: true, ..change });
        // Had it failed before it was used, it would be the next message's.
        self.mls.set_aad(Vec::new());
        proposed
    }

    /// Proposes who may put others out from now on.
    ///
    /// # Errors
    /// [`Error::NotAHost`]; [`Error::Malformed`] for nobody, somebody twice, or more than [`HOSTS_MAX`](crate::HOSTS_MAX);
    /// [`Error::CommitPending`]; [`Error::Removed`]; [`Error::Mls`].
    pub fn propose_hosts(&mut self, hosts: &[IdentityKey]) -> Result<Change, Error> {
        self.check_idle()?;
        self.check_host(self.own_leaf())?;
        let extensions = hosts::extensions(hosts)?;
        let (commit, welcome, _) = self
            .mls
            .update_group_context_extensions(&self.store, extensions, &self.signer)
            .map_err(Error::mls("naming hosts"))?;
        self.change(&commit, welcome.as_ref())
    }

    /// Whether our leaf shows this delegation.
    pub fn shows(&self, delegation: &Delegation) -> bool {
        self.mls.own_leaf().is_some_and(|leaf| *leaf.credential() == credential::of_delegation(delegation).credential)
    }

    /// Proposes fresh keys for our own leaf, so that whoever stole the old ones is locked out.
    ///
    /// # Errors
    /// [`Error::CommitPending`]; [`Error::Removed`]; [`Error::Mls`].
    pub fn propose_update(&mut self) -> Result<Change, Error> {
        self.update(LeafNodeParameters::default())
    }

    /// As [`Self::propose_update`], and from then on our leaf shows this delegation.
    ///
    /// # Errors
    /// As [`Self::propose_update`].
    pub fn propose_renewal(&mut self, delegation: &Delegation) -> Result<Change, Error> {
        if self.shows(delegation) {
            return self.propose_update();
        }
        let credential = credential::of_delegation(delegation);
        self.update(LeafNodeParameters::builder().with_credential_with_key(credential).build())
    }

    fn update(&mut self, leaf: LeafNodeParameters) -> Result<Change, Error> {
        self.check_idle()?;
        let bundle = self.mls.self_update(&self.store, &self.signer, leaf).map_err(Error::mls("updating our leaf"))?;
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
        let sealed = self.mls.create_message(&self.store, &self.signer, message).map_err(Error::mls(DURING))?;
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
        self.keep_previous();
        self.mls.merge_pending_commit(&self.store).map_err(Error::mls("merging our commit"))?;
        self.enter_epoch().map(|_| ())
    }

    /// Goes back to the epoch before: the commit that ended it does not count. What was sealed in it since is of nobody's
    /// use, and its counters go on where they were. Who is in the group again is returned.
    ///
    /// # Errors
    /// [`Error::NoEpochBefore`] unless the commit was the last thing that happened to the group and
    /// [`Self::forget_previous`] was not called since; [`Error::Mls`].
    pub fn go_back(&mut self) -> Result<Vec<Member>, Error> {
        const DURING: &str = "going back to the epoch before";
        let Previous { store, counter } = self.previous.take().ok_or(Error::NoEpochBefore)?;
        let mls = MlsGroup::load(store.storage(), self.mls.group_id()).map_err(Error::mls(DURING))?;
        self.mls = mls.ok_or(Error::NoEpochBefore)?;
        self.mls.clear_pending_commit(store.storage()).map_err(Error::mls(DURING))?;
        (self.store, self.counter) = (store, counter);
        self.hosts = hosts::read(self.mls.extensions())?;
        let after = std::mem::replace(&mut self.members, known_members(&self.mls)?);
        Ok(self.members.iter().filter(|member| !after.contains(member)).copied().collect())
    }

    /// The commit that began this epoch cannot be rejected any more: what was kept of the epoch before is wiped.
    pub fn forget_previous(&mut self) {
        self.previous = None;
    }

    /// Whether [`Self::go_back`] has something to go back to.
    pub fn can_go_back(&self) -> bool {
        self.previous.is_some()
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
        let message = self.mls.process_message(&self.store, message).map_err(Error::mls("reading a message"))?;
        let Sender::Member(sender) = *message.sender() else {
            return Err(Error::Refused { what: "messages from outside the group" });
        };
        let put_out = message.aad() == PUT_OUT;
        match message.into_content() {
            ProcessedMessageContent::StagedCommitMessage(commit) => {
                self.check_commit(&commit, sender, expected, now_unix_s)?;
                if put_out {
                    self.check_host(sender.u32())?;
                }
                self.merge_others(*commit, self.member_at(sender.u32())?, put_out)
            }
            ProcessedMessageContent::ApplicationMessage(message) => {
                Ok(Processed::Message { from: self.member_at(sender.u32())?, bytes: message.into_bytes() })
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

    /// What this epoch is: the same for all who are in it and for nobody else, and it opens nothing.
    ///
    /// # Errors
    /// [`Error::Removed`].
    pub fn epoch_digest(&self) -> Result<[u8; 32], Error> {
        self.check_active()?;
        let digest = Sha256::new().chain_update(EPOCH_DOMAIN).chain_update(self.mls.epoch_authenticator().as_slice());
        Ok(digest.finalize().into())
    }

    /// This epoch, to be asked about it while the group is worked on.
    ///
    /// # Errors
    /// [`Error::Removed`]; [`Error::Mls`].
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        Ok(Snapshot {
            epoch: self.epoch(),
            own_leaf: self.own_leaf(),
            members: self.members(),
            hosts: self.hosts.clone(),
            keys: self.keys(),
            credential: self.mls.own_leaf().map(|leaf| leaf.credential().clone()),
            secrets: Some(Secrets {
                join: self.join_secret()?,
                safety_number: self.safety_number()?,
                digest: self.epoch_digest()?,
            }),
        })
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

    fn check_host(&self, leaf: u32) -> Result<(), Error> {
        if self.may_put_out(&self.member_at(leaf)?.identity) { Ok(()) } else { Err(Error::NotAHost) }
    }

    fn member_at(&self, leaf: u32) -> Result<Member, Error> {
        self.members.iter().find(|member| member.leaf == leaf).copied().ok_or(Error::NoSuchMember(leaf))
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
            puts_out: false,
            renews: pending.update_path_leaf_node().is_some(),
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
        for package in exchange::read_offer(bytes)? {
            let package = KeyPackageIn::validate(package, self.store.crypto(), ProtocolVersion::Mls10)
                .map_err(Error::mls("validating a key package"))?;
            if package.ciphersuite() != self.mls.ciphersuite() {
                continue;
            }
            if credential::verify_leaf(package.leaf_node(), now_unix_s)?.0 != *identity {
                return Err(Error::UnexpectedIdentity);
            }
            return Ok(package);
        }
        Err(Error::NotOffered(self.exchange()))
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
                Proposal::GroupContextExtensions(proposal) => {
                    // A group that was made without hosts gets none, and none loses them.
                    if self.hosts.is_empty() || hosts::read(proposal.extensions())?.is_empty() {
                        return Err(Error::Refused { what: "group extensions other than the hosts" });
                    }
                    self.check_host(sender.u32())?;
                }
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

    fn merge_others(&mut self, commit: StagedCommit, by: Member, put_out: bool) -> Result<Processed, Error> {
        let renewed = commit.update_path_leaf_node().is_some();
        self.keep_previous();
        self.mls.merge_staged_commit(&self.store, commit).map_err(Error::mls("merging a commit"))?;
        if !self.mls.is_active() {
            self.store.wipe();
            self.previous = None;
            return Ok(Processed::RemovedOurselves { by, put_out });
        }
        let before = self.enter_epoch()?;
        let only_in = |these: &[Member], those: &[Member]| -> Vec<Member> {
            these.iter().filter(|member| !those.contains(member)).copied().collect()
        };
        Ok(Processed::EpochChanged {
            by,
            put_out,
            renewed,
            added: only_in(&self.members, &before),
            removed: only_in(&before, &self.members),
        })
    }

    fn keep_previous(&mut self) {
        self.previous = Some(Previous { store: self.store.copy(), counter: Arc::clone(&self.counter) });
    }

    #[cfg(test)]
    pub(crate) fn stored(&self) -> usize {
        self.store.entries()
    }

    /// Takes over the new tree and starts a new counter for its new key; returns the members before.
    fn enter_epoch(&mut self) -> Result<Vec<Member>, Error> {
        self.counter = Arc::default();
        self.hosts = hosts::read(self.mls.extensions())?;
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

#[cfg(test)]
mod tests {
    use supernode_keys::{DeviceSecret, IdentitySecret};

    use super::*;
    use crate::Device;

    const NOW: u64 = 1_800_000_000;

    fn device() -> Device {
        let secret = DeviceSecret::generate();
        let delegation = IdentitySecret::generate().delegate(&secret.public(), NOW + 60);
        Device::new(secret, delegation).expect("its own delegation")
    }

    /// A room of one host and two others, as each of them sees it.
    fn room() -> (Device, [Group; 3]) {
        let devices = [device(), device(), device()];
        let mut at_host = devices[0].create_room(RoomId([7; 16]), KeyExchange::XWing).expect("a room");
        let packages: Vec<_> =
            devices[1..].iter().map(|device| (device.identity(), device.key_package().expect("a package"))).collect();
        let welcome = at_host.propose_add(&packages, NOW).expect("adds").welcome.expect("for both");
        at_host.merge_own().expect("accepted");
        let join = |device: &Device| device.join_room(&welcome, &devices[0].identity(), NOW).expect("joins");
        let groups = [join(&devices[1]), join(&devices[2])];
        let [host, ..] = devices;
        let [b, c] = groups;
        (host, [at_host, b, c])
    }

    //
    #[test]
    fn whoever_is_no_host_can_make_a_commit_that_puts_others_out_and_nobody_follows_it() {
        let (host, [mut at_host, mut at_mallory, mut at_c]) = room();
        let host_leaf = at_host.own_leaf();
        assert!(matches!(at_mallory.propose_put_out(&[host_leaf]), Err(Error::NotAHost)));
        // A program that was changed does not ask.
        let mallory = at_mallory.signer.0.public();
        let identity = at_mallory.members.iter().find(|member| member.device == mallory).expect("a member").identity;
        at_mallory.hosts = vec![identity];
        let coup = at_mallory.propose_put_out(&[at_c.own_leaf()]).expect("made");
        for group in [&mut at_host, &mut at_c] {
            assert!(matches!(group.process(&coup.commit, &|_| false, NOW), Err(Error::NotAHost)));
            assert_eq!(group.members().len(), 3);
        }
        at_mallory.discard_own().expect("given up");
        let coup = at_mallory.propose_hosts(&[identity]).expect("made");
        assert!(matches!(at_host.process(&coup.commit, &|_| false, NOW), Err(Error::NotAHost)));
        assert_eq!(at_host.hosts(), [host.identity()]);
    }

    //
    #[test]
    fn a_room_whose_hosts_are_all_gone_is_everybody_s() {
        let (_, [at_host, mut at_b, mut at_c]) = room();
        let gone = at_b.propose_remove(&[at_host.own_leaf()]).expect("taken for gone");
        at_b.merge_own().expect("accepted");
        at_c.process(&gone.commit, &|_| false, NOW).expect("follows");
        let out = at_b.propose_put_out(&[at_c.own_leaf()]).expect("everybody may");
        let processed = at_c.process(&out.commit, &|_| false, NOW).expect("hears of it");
        assert!(matches!(processed, Processed::RemovedOurselves { put_out: true, by } if by.leaf == at_b.own_leaf()));
    }
}
