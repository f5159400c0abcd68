//! One device's part in MLS: its key packages, and how it starts and enters groups.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openmls::group::GroupContext;
use openmls::prelude::tls_codec::{DeserializeBytes as _, Serialize as _};
use openmls::prelude::{
    EncryptedGroupSecrets, Extensions, GroupId, KeyPackage, KeyPackageIn, KeyPackageRef, Lifetime, MlsGroup,
    MlsGroupCreateConfig, MlsGroupJoinConfig, MlsMessageBodyIn, MlsMessageIn, MlsMessageOut,
    PURE_CIPHERTEXT_WIRE_FORMAT_POLICY, ProtocolVersion, StagedWelcome, Welcome,
};
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::storage::StorageProvider as _;
use supernode_keys::DeviceSecret;
use supernode_proto::identity::{Delegation, DeviceKey, IdentityKey, RoomId};
use supernode_proto::limits;

use crate::error::{Error, check_length};
use crate::exchange::{self, KeyExchange};
use crate::group::Group;
use crate::group::credential;
use crate::group::hosts;
use crate::group::leaf::LeafSigner;
use crate::store::Store;

/// How many offers' private parts a device keeps: twice what a relay holds for it, so that a fresh deposit never
/// outdates the one before. The oldest go first.
pub const KEY_PACKAGES_KEPT_MAX: usize = 2 * limits::KEY_PACKAGES_PER_DEVICE_MAX;

/// Last resorts whose private parts a device keeps: the newest, and the one that somebody may just have taken.
const LAST_RESORTS_KEPT: usize = 2;
/// Groups that one last resort leads into at most: it is replaced after its first use, so these are those on their way.
const LAST_RESORT_USES_MAX: usize = 64;

/// Largest Welcome that a device reads: one to the largest room with its tree takes about 100 KiB. Unit: bytes.
pub const WELCOME_BYTES_MAX: usize = 512 * 1024;

/// MLS messages are filled up to a multiple of this, so that their length says less about what changed. Unit: bytes.
const MLS_PADDING_BYTES: usize = 128;

/// What a leaf says of its lifetime (RFC 9420 section 7.2): nothing. How long it holds its delegation says, which is judged
/// by the time that the caller gives; MLS would judge by the system's clock, and would refuse a device whose clock is two
/// hours off.
fn lifetime() -> Lifetime {
    Lifetime::init(0, u64::MAX)
}

/// A device that can be in MLS groups (RFC 9420). Its state lives in memory and ends with it.
pub struct Device {
    signer: LeafSigner,
    delegation: Mutex<Delegation>,
    exchanges: &'static [KeyExchange],
    store: Store,
    /// What was offered together.
    packages: Mutex<VecDeque<Vec<KeyPackageRef>>>,
    last_resorts: Mutex<VecDeque<LastResort>>,
}

/// An offer that is handed out while there is no other (RFC 9420 section 16.8), so its private parts outlive its first
/// use.
struct LastResort {
    references: Vec<KeyPackageRef>,
    offer: Vec<u8>,
    /// The groups that it led into: none of them twice, or its keys would be used a second time from the start.
    groups: Vec<RoomId>,
}

impl Device {
    /// A device that shows `delegation` to others.
    ///
    /// # Errors
    /// [`Error::DelegationDevice`] if the delegation is for another device. Whether it has expired is for others to judge.
    pub fn new(secret: DeviceSecret, delegation: Delegation) -> Result<Self, Error> {
        if delegation.device != secret.public() {
            return Err(Error::DelegationDevice);
        }
        Ok(Self {
            signer: LeafSigner(Arc::new(secret)),
            delegation: Mutex::new(delegation),
            exchanges: &KeyExchange::ALL,
            store: Store::default(),
            packages: Mutex::default(),
            last_resorts: Mutex::default(),
        })
    }

    /// The same device, which offers and uses [`KeyExchange::X25519`] only: for one on which kilobytes of keys are too much.
    /// Its calls are shown as such to everybody in them.
    #[must_use]
    pub fn without_x_wing(self) -> Self {
        Self { exchanges: &[KeyExchange::X25519], ..self }
    }

    /// Who it acts for.
    pub fn identity(&self) -> IdentityKey {
        self.delegation().identity
    }

    /// Its public key.
    pub fn key(&self) -> DeviceKey {
        self.signer.0.public()
    }

    /// Its signing key.
    pub fn secret(&self) -> &DeviceSecret {
        &self.signer.0
    }

    /// Its certificate.
    pub fn delegation(&self) -> Delegation {
        self.delegation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows another delegation from now on, as before the one that it has runs out. Groups that it is in go on showing
    /// theirs until their next [`Group::propose_update`].
    ///
    /// # Errors
    /// [`Error::DelegationDevice`] or [`Error::IdentityChanged`] if it is for another device, or of another identity.
    pub fn renew_delegation(&self, delegation: Delegation) -> Result<(), Error> {
        if delegation.device != self.key() {
            return Err(Error::DelegationDevice);
        }
        if delegation.identity != self.identity() {
            return Err(Error::IdentityChanged);
        }
        *self.delegation.lock().unwrap_or_else(PoisonError::into_inner) = delegation;
        Ok(())
    }

    /// Fresh key packages, one for each key exchange that this device can use: what others need to add it to one group
    /// . Their private parts are kept until a Welcome uses one of them, or until [`KEY_PACKAGES_KEPT_MAX`] newer
    /// offers were made.
    ///
    /// # Errors
    /// [`Error::Mls`] if the library cannot make them.
    pub fn key_package(&self) -> Result<Vec<u8>, Error> {
        let (references, offer) = self.make_offer(false)?;
        let mut packages = self.packages();
        packages.push_back(references);
        if packages.len() > KEY_PACKAGES_KEPT_MAX
            && let Some(oldest) = packages.pop_front()
        {
            self.forget(&oldest)?;
        }
        Ok(offer)
    }

    /// The offer for when all others are taken: the same one until it is used. Then there is a new one, and the one before
    /// is good for one more round: somebody may have it in hand.
    ///
    /// # Errors
    /// [`Error::Mls`] if the library cannot make it.
    pub fn last_resort_key_package(&self) -> Result<Vec<u8>, Error> {
        let mut last_resorts = self.last_resorts();
        if let Some(unused) = last_resorts.back().filter(|newest| newest.groups.is_empty()) {
            return Ok(unused.offer.clone());
        }
        let (references, offer) = self.make_offer(true)?;
        last_resorts.push_back(LastResort { references, offer: offer.clone(), groups: Vec::new() });
        if last_resorts.len() > LAST_RESORTS_KEPT
            && let Some(oldest) = last_resorts.pop_front()
        {
            self.forget(&oldest.references)?;
        }
        Ok(offer)
    }

    /// Whether the newest [`Self::last_resort_key_package`] has been used, so that others should be given a new one.
    pub fn is_last_resort_used(&self) -> bool {
        self.last_resorts().back().is_some_and(|newest| !newest.groups.is_empty())
    }

    /// A key package for each key exchange that this device can use, and what they are called here.
    fn make_offer(&self, last_resort: bool) -> Result<(Vec<KeyPackageRef>, Vec<u8>), Error> {
        const DURING: &str = "making a key package";
        let (mut references, mut written) = (Vec::new(), Vec::new());
        for exchange in self.exchanges {
            let builder = match last_resort {
                true => KeyPackage::builder().mark_as_last_resort(),
                false => KeyPackage::builder(),
            };
            let bundle = builder
                .key_package_lifetime(lifetime())
                .leaf_node_capabilities(hosts::capabilities(self.exchanges))
                .build(exchange.suite(), &self.store, &self.signer, credential::of_delegation(&self.delegation()))
                .map_err(Error::mls(DURING))?;
            let package = bundle.into_key_package();
            references.push(package.hash_ref(self.store.crypto()).map_err(Error::mls(DURING))?);
            written.push(MlsMessageOut::from(package).tls_serialize_detached().map_err(Error::mls(DURING))?);
        }
        Ok((references, exchange::write_offer(&written)))
    }

    /// By what a group of us and all devices that offer these is to agree on its keys: the best that all of them can
    ///
    ///
    /// # Errors
    /// [`Error::Withheld`] if somebody kept a key package back; [`Error::TooLarge`], [`Error::Malformed`] and
    /// [`Error::Mls`] for what is no offer.
    pub fn agree(&self, offers: &[(IdentityKey, Vec<u8>)]) -> Result<KeyExchange, Error> {
        let best = KeyExchange::XWing;
        if !self.exchanges.contains(&best) {
            return Ok(KeyExchange::X25519);
        }
        let mut agreed = best;
        for (_, offer) in offers {
            let (mut is_offered, mut is_said) = (false, false);
            for package in exchange::read_offer(offer)? {
                let package = KeyPackageIn::validate(package, self.store.crypto(), ProtocolVersion::Mls10)
                    .map_err(Error::mls("validating a key package"))?;
                is_offered |= package.ciphersuite() == best.suite();
                is_said |= best.is_said_by(package.leaf_node());
            }
            match (is_offered, is_said) {
                (true, _) => {}
                (false, true) => return Err(Error::Withheld(best)),
                (false, false) => agreed = KeyExchange::X25519,
            }
        }
        Ok(agreed)
    }

    fn packages(&self) -> MutexGuard<'_, VecDeque<Vec<KeyPackageRef>>> {
        self.packages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_resorts(&self) -> MutexGuard<'_, VecDeque<LastResort>> {
        self.last_resorts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, references: &[KeyPackageRef]) -> Result<(), Error> {
        let forget = |reference: &KeyPackageRef| self.store.storage().delete_key_package(reference);
        references.iter().try_for_each(forget).map_err(Error::mls("forgetting a key package"))
    }

    /// Where a Welcome uses a last resort, takes note of the group that it leads into; a second time it is refused.
    fn use_last_resort(&self, used: &[KeyPackageRef], room: RoomId) -> Result<(), Error> {
        let is_used = |known: &&mut LastResort| known.references.iter().any(|reference| used.contains(reference));
        for last_resort in self.last_resorts().iter_mut().filter(is_used) {
            if last_resort.groups.contains(&room) || last_resort.groups.len() >= LAST_RESORT_USES_MAX {
                return Err(Error::Refused { what: "welcomes that were opened before" });
            }
            last_resort.groups.push(room);
        }
        Ok(())
    }

    /// A group of this device alone, whose MLS group id is the room's name, for a call of those who are rung. It has no
    /// hosts: everybody in it may put others out. Where this device cannot use `exchange`, it is [`KeyExchange::X25519`].
    ///
    /// # Errors
    /// [`Error::Mls`] if the library cannot make it.
    pub fn create_group(&self, room: RoomId, exchange: KeyExchange) -> Result<Group, Error> {
        self.create(room, exchange, Extensions::empty())
    }

    /// As [`Self::create_group`], for a room that people come to and go from: our identity is its host.
    ///
    /// # Errors
    /// As [`Self::create_group`].
    pub fn create_room(&self, room: RoomId, exchange: KeyExchange) -> Result<Group, Error> {
        self.create(room, exchange, hosts::extensions(&[self.identity()])?)
    }

    fn create(
        &self,
        room: RoomId,
        exchange: KeyExchange,
        extensions: Extensions<GroupContext>,
    ) -> Result<Group, Error> {
        let exchange = if self.exchanges.contains(&exchange) { exchange } else { KeyExchange::X25519 };
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(exchange.suite())
            .lifetime(lifetime())
            .capabilities(hosts::capabilities(self.exchanges))
            .with_group_context_extensions(extensions)
            .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .max_past_epochs(0)
            .padding_size(MLS_PADDING_BYTES)
            .build();
        let store = Store::default();
        let mls = MlsGroup::new_with_group_id(
            &store,
            &self.signer,
            &config,
            GroupId::from_slice(&room.0),
            credential::of_delegation(&self.delegation()),
        )
        .map_err(Error::mls("creating a group"))?;
        Group::new(room, mls, store, self.signer.clone())
    }

    /// Enters the group that `welcome` (an MLS message) invites to. The key package it was made for is used up, even
    /// if the group is then refused.
    ///
    /// `caller` is the identity that this welcome must come from: one of its devices must have signed it. Every other
    /// leaf must be the caller's, our own identity's, or in `also_expected`. Every delegation must hold at
    /// `now_unix_s`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`WELCOME_BYTES_MAX`]; [`Error::Malformed`]; [`Error::Refused`] for a group with
    /// extensions other than its hosts; [`Error::Delegation`], [`Error::DelegationDevice`], [`Error::UnexpectedIdentity`]
    /// or [`Error::NotFromCaller`] if somebody is not who they should be; [`Error::Mls`] for the rest, among it a
    /// welcome that is not for us or was used before.
    pub fn join(
        &self,
        welcome: &[u8],
        caller: &IdentityKey,
        also_expected: &[IdentityKey],
        now_unix_s: u64,
    ) -> Result<Group, Error> {
        let expected = |identity: &IdentityKey| *identity == self.identity() || also_expected.contains(identity);
        self.enter(welcome, caller, &expected, now_unix_s)
    }

    /// As [`Self::join`], for a room whose members are whoever its members let in: every delegation must hold, and
    /// `host` is the identity that this welcome must come from.
    ///
    /// # Errors
    /// As [`Self::join`].
    pub fn join_room(&self, welcome: &[u8], host: &IdentityKey, now_unix_s: u64) -> Result<Group, Error> {
        self.enter(welcome, host, &|_| true, now_unix_s)
    }

    fn enter(
        &self,
        welcome: &[u8],
        caller: &IdentityKey,
        also_expected: &dyn Fn(&IdentityKey) -> bool,
        now_unix_s: u64,
    ) -> Result<Group, Error> {
        const DURING: &str = "joining a group";
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .max_past_epochs(0)
            .padding_size(MLS_PADDING_BYTES)
            .build();
        let welcome = read_welcome(welcome)?;
        let used: Vec<KeyPackageRef> = welcome.secrets().iter().map(EncryptedGroupSecrets::new_member).collect();
        self.use_up(&used)?;
        let staged = StagedWelcome::new_from_welcome(&self.store, &config, welcome, None);
        let staged = staged.map_err(Error::mls(DURING))?;
        let room = self.check_welcome(&staged, caller, also_expected, now_unix_s)?;
        self.use_last_resort(&used, room)?;
        let store = Store::default();
        let mls = staged.into_group(&store).map_err(Error::mls(DURING))?;
        Group::new(room, mls, store, self.signer.clone())
    }

    /// What was offered together with the key package that a Welcome is for is used up with it.
    fn use_up(&self, used: &[KeyPackageRef]) -> Result<(), Error> {
        let mut packages = self.packages();
        let is_for = |reference: &KeyPackageRef| used.contains(reference);
        let Some(at) = packages.iter().position(|offered| offered.iter().any(is_for)) else { return Ok(()) };
        let mut others = packages.remove(at).unwrap_or_default();
        others.retain(|reference| !is_for(reference));
        self.forget(&others)
    }

    fn check_welcome(
        &self,
        staged: &StagedWelcome,
        caller: &IdentityKey,
        also_expected: &dyn Fn(&IdentityKey) -> bool,
        now_unix_s: u64,
    ) -> Result<RoomId, Error> {
        let context = staged.group_context();
        hosts::read(context.extensions())?;
        let sender = staged.welcome_sender_index();
        let mut from_caller = false;
        let mut ourselves = false;
        for member in staged.members() {
            let (identity, device) = credential::verify(&member.credential, &member.signature_key, now_unix_s)?;
            if identity != *caller && !also_expected(&identity) {
                return Err(Error::UnexpectedIdentity);
            }
            from_caller |= member.index == sender && identity == *caller;
            ourselves |= member.index == staged.own_leaf_index() && device == self.key() && identity == self.identity();
        }
        if !from_caller {
            return Err(Error::NotFromCaller);
        }
        if !ourselves {
            return Err(Error::UnexpectedIdentity);
        }
        RoomId::from_slice(context.group_id().as_slice()).map_err(|_| Error::Malformed { what: "a group id" })
    }

    #[cfg(test)]
    pub(crate) fn private_key_packages(&self) -> usize {
        self.store.entries()
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Device(..)")
    }
}

fn read_welcome(bytes: &[u8]) -> Result<Welcome, Error> {
    check_length("a welcome", bytes, WELCOME_BYTES_MAX)?;
    match MlsMessageIn::tls_deserialize_exact_bytes(bytes).map(MlsMessageIn::extract) {
        Ok(MlsMessageBodyIn::Welcome(welcome)) => Ok(welcome),
        _ => Err(Error::Malformed { what: "a welcome" }),
    }
}

#[cfg(test)]
mod tests {
    use supernode_keys::IdentitySecret;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn device(identity: &IdentitySecret) -> Device {
        let secret = DeviceSecret::generate();
        let delegation = identity.delegate(&secret.public(), NOW + 60);
        Device::new(secret, delegation).expect("its own delegation")
    }

    //
    #[test]
    fn the_private_part_of_a_used_key_package_is_deleted() {
        let [caller, callee] = [IdentitySecret::generate(), IdentitySecret::generate()];
        let (a, b) = (device(&caller), device(&callee));
        for exchange in KeyExchange::ALL {
            let package = b.key_package().expect("a package");
            assert_eq!(b.private_key_packages(), 2, "one for each key exchange");
            let mut group = a.create_group(RoomId([1; 16]), exchange).expect("a group");
            let added = group.propose_add(&[(b.identity(), package)], NOW).expect("adds");
            let welcome = added.welcome.expect("a welcome");
            b.join(&welcome, &a.identity(), &[], NOW).expect("joins");
            assert_eq!(b.private_key_packages(), 0, "the other goes too");
            assert!(matches!(b.join(&welcome, &a.identity(), &[], NOW), Err(Error::Mls { .. })));
        }
    }

    #[test]
    fn a_removed_device_keeps_nothing_of_the_group() {
        let [caller, callee] = [IdentitySecret::generate(), IdentitySecret::generate()];
        let (a, b) = (device(&caller), device(&callee));
        let mut at_a = a.create_group(RoomId([1; 16]), KeyExchange::XWing).expect("a group");
        let package = (b.identity(), b.key_package().expect("a package"));
        let welcome = at_a.propose_add(&[package], NOW).expect("adds").welcome.expect("a welcome");
        at_a.merge_own().expect("accepted");
        let mut at_b = b.join(&welcome, &a.identity(), &[], NOW).expect("joins");
        assert!(at_b.stored() > 0);
        let change = at_a.propose_remove(&[at_b.own_leaf()]).expect("removes");
        at_b.process(&change.commit, &|_| false, NOW).expect("learns of it");
        assert_eq!(at_b.stored(), 0);
    }

    //
    #[test]
    fn a_last_resort_opens_many_welcomes_and_none_of_them_twice() {
        let [caller, callee] = [IdentitySecret::generate(), IdentitySecret::generate()];
        let (a, b) = (device(&caller), device(&callee));
        let package = b.last_resort_key_package().expect("a package");
        assert_eq!(b.last_resort_key_package().expect("the same"), package);
        let welcome = |room, package: &[u8]| {
            let mut group = a.create_group(RoomId([room; 16]), KeyExchange::default()).expect("a group");
            let change = group.propose_add(&[(b.identity(), package.to_vec())], NOW).expect("adds");
            change.welcome.expect("a welcome")
        };
        let first = welcome(1, &package);
        b.join(&first, &a.identity(), &[], NOW).expect("joins");
        assert!(b.is_last_resort_used());
        b.join(&welcome(2, &package), &a.identity(), &[], NOW).expect("whoever had taken it meanwhile");
        assert!(matches!(b.join(&first, &a.identity(), &[], NOW), Err(Error::Refused { .. })), "replayed");

        let next = b.last_resort_key_package().expect("another");
        assert!(next != package && !b.is_last_resort_used());
        b.join(&welcome(3, &package), &a.identity(), &[], NOW).expect("the one before is good for one more round");
        b.join(&welcome(4, &next), &a.identity(), &[], NOW).expect("joins");
        b.last_resort_key_package().expect("a third");
        assert!(matches!(b.join(&welcome(5, &package), &a.identity(), &[], NOW), Err(Error::Mls { .. })), "forgotten");
        assert!(matches!(b.join(&first, &a.identity(), &[], NOW), Err(Error::Mls { .. })));
    }

    #[test]
    fn only_so_many_private_parts_are_kept() {
        let b = device(&IdentitySecret::generate());
        for _ in 0..KEY_PACKAGES_KEPT_MAX + 3 {
            b.key_package().expect("a package");
        }
        assert_eq!(b.private_key_packages(), 2 * KEY_PACKAGES_KEPT_MAX);
    }
}
