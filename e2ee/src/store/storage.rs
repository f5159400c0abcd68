//! openmls's state in memory, of which nothing is left in what was freed: each value is wiped when it is replaced, deleted
//! or dropped, and is written into its place without growing through copies that nobody wipes.
//!
//! The crate that openmls brings for this keeps plain vectors: used key packages and past epochs stay in freed memory there.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use openmls_traits::storage::{CURRENT_VERSION, Entity, StorageProvider, traits};
use serde::Serialize;
use zeroize::Zeroizing;

/// Room for the first bytes of a value.
const FIRST_BYTES: usize = 512;

/// A value as JSON; of a list, one item a line. Copies share it, and the last one to go wipes it.
type Value = Arc<Zeroizing<Vec<u8>>>;

/// Nothing of what could not be written or read is in it.
#[derive(Debug, thiserror::Error)]
#[error("openmls's state cannot be written or read")]
pub(crate) struct StorageError;

impl From<serde_json::Error> for StorageError {
    fn from(_: serde_json::Error) -> Self {
        Self
    }
}

#[derive(Default)]
pub(crate) struct Storage(RwLock<HashMap<Vec<u8>, Value>>);

impl Storage {
    /// Wipes and forgets all entries.
    pub(crate) fn clear(&self) {
        self.write().clear();
    }

    /// All entries once more.
    pub(crate) fn copy(&self) -> Self {
        Self(RwLock::new(self.read().clone()))
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        self.read().len()
    }

    fn put(&self, table: &str, key: &impl Serialize, value: &(impl Serialize + ?Sized)) -> Result<(), StorageError> {
        let (key, mut written) = (entry(table, key)?, Wiping::default());
        serde_json::to_writer(&mut written, value)?;
        self.write().insert(key, Arc::new(written.0));
        Ok(())
    }

    fn find<V: Entity<CURRENT_VERSION>>(&self, table: &str, key: &impl Serialize) -> Result<Option<V>, StorageError> {
        let key = entry(table, key)?;
        Ok(self.read().get(&key).map(|value| serde_json::from_slice(value)).transpose()?)
    }

    fn forget(&self, table: &str, key: &impl Serialize) -> Result<(), StorageError> {
        let key = entry(table, key)?;
        self.write().remove(&key);
        Ok(())
    }

    fn append(&self, table: &str, key: &impl Serialize, item: &impl Serialize) -> Result<(), StorageError> {
        let key = entry(table, key)?;
        let mut entries = self.write();
        let mut written = Wiping::default();
        if let Some(before) = entries.get(&key) {
            written.put(before);
            written.put(b"\n");
        }
        serde_json::to_writer(&mut written, item)?;
        entries.insert(key, Arc::new(written.0));
        Ok(())
    }

    fn list<V: Entity<CURRENT_VERSION>>(&self, table: &str, key: &impl Serialize) -> Result<Vec<V>, StorageError> {
        let key = entry(table, key)?;
        let entries = self.read();
        let Some(value) = entries.get(&key) else { return Ok(Vec::new()) };
        value.split(|byte| *byte == b'\n').map(|item| Ok(serde_json::from_slice(item)?)).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Vec<u8>, Value>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Vec<u8>, Value>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where an entry is. Keys are group ids, epochs, public keys and hashes: nothing to hide.
fn entry(table: &str, key: &impl Serialize) -> Result<Vec<u8>, StorageError> {
    Ok(serde_json::to_vec(&(table, key))?)
}

/// Grows like a vector, and wipes what it grows out of.
#[derive(Default)]
struct Wiping(Zeroizing<Vec<u8>>);

impl Wiping {
    fn put(&mut self, bytes: &[u8]) {
        let length = self.0.len() + bytes.len();
        if length > self.0.capacity() {
            let larger = length.max(self.0.capacity() * 2).max(FIRST_BYTES);
            let mut larger = Zeroizing::new(Vec::with_capacity(larger));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
    }
}

impl Write for Wiping {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Methods of [`StorageProvider`] whose key and value are one entry each. Type parameters come in the trait's order.
macro_rules! entries {
    ($(
        $table:literal of $key:ident:
        $(write $write:ident <$($of_write:ident),*>)? $(read $read:ident <$($of_read:ident),*>)? $(delete $delete:ident)?
        => $value:ident;
    )*) => {$(
        $(fn $write<$($of_write: traits::$of_write<CURRENT_VERSION>),*>(
            &self,
            key: &$key,
            value: &$value,
        ) -> Result<(), StorageError> {
            self.put($table, key, value)
        })?
        $(fn $read<$($of_read: traits::$of_read<CURRENT_VERSION>),*>(
            &self,
            key: &$key,
        ) -> Result<Option<$value>, StorageError> {
            self.find($table, key)
        })?
        $(fn $delete<$key: traits::$key<CURRENT_VERSION>>(&self, key: &$key) -> Result<(), StorageError> {
            self.forget($table, key)
        })?
    )*};
}

const OWN_LEAVES: &str = "own leaves";
const PROPOSALS: &str = "proposals";
const PROPOSAL_REFS: &str = "proposal refs";
const EPOCH_KEY_PAIRS: &str = "epoch key pairs";

impl StorageProvider<CURRENT_VERSION> for Storage {
    type Error = StorageError;

    entries! {
        "join config" of GroupId: write write_mls_join_config<GroupId, MlsGroupJoinConfig>
            read mls_group_join_config<GroupId, MlsGroupJoinConfig> delete delete_group_config => MlsGroupJoinConfig;
        "tree" of GroupId: write write_tree<GroupId, TreeSync> read tree<GroupId, TreeSync> delete delete_tree => TreeSync;
        "interim transcript hash" of GroupId: write write_interim_transcript_hash<GroupId, InterimTranscriptHash>
            read interim_transcript_hash<GroupId, InterimTranscriptHash> delete delete_interim_transcript_hash
            => InterimTranscriptHash;
        "context" of GroupId: write write_context<GroupId, GroupContext>
            read group_context<GroupId, GroupContext> delete delete_context => GroupContext;
        "confirmation tag" of GroupId: write write_confirmation_tag<GroupId, ConfirmationTag>
            read confirmation_tag<GroupId, ConfirmationTag> delete delete_confirmation_tag => ConfirmationTag;
        "group state" of GroupId: write write_group_state<GroupState, GroupId>
            read group_state<GroupState, GroupId> delete delete_group_state => GroupState;
        "message secrets" of GroupId: write write_message_secrets<GroupId, MessageSecrets>
            read message_secrets<GroupId, MessageSecrets> delete delete_message_secrets => MessageSecrets;
        "resumption secrets" of GroupId: write write_resumption_psk_store<GroupId, ResumptionPskStore>
            read resumption_psk_store<GroupId, ResumptionPskStore> delete delete_all_resumption_psk_secrets
            => ResumptionPskStore;
        "own leaf index" of GroupId: write write_own_leaf_index<GroupId, LeafNodeIndex>
            read own_leaf_index<GroupId, LeafNodeIndex> delete delete_own_leaf_index => LeafNodeIndex;
        "epoch secrets" of GroupId: write write_group_epoch_secrets<GroupId, GroupEpochSecrets>
            read group_epoch_secrets<GroupId, GroupEpochSecrets> delete delete_group_epoch_secrets => GroupEpochSecrets;
        "signature key pair" of SignaturePublicKey:
            write write_signature_key_pair<SignaturePublicKey, SignatureKeyPair>
            read signature_key_pair<SignaturePublicKey, SignatureKeyPair> delete delete_signature_key_pair
            => SignatureKeyPair;
        "encryption key pair" of EncryptionKey: write write_encryption_key_pair<EncryptionKey, HpkeKeyPair>
            read encryption_key_pair<HpkeKeyPair, EncryptionKey> delete delete_encryption_key_pair => HpkeKeyPair;
        "key package" of HashReference: write write_key_package<HashReference, KeyPackage>
            read key_package<HashReference, KeyPackage> delete delete_key_package => KeyPackage;
        "psk" of PskId: write write_psk<PskId, PskBundle> read psk<PskBundle, PskId> delete delete_psk => PskBundle;
    }

    fn append_own_leaf_node<GroupId: traits::GroupId<CURRENT_VERSION>, LeafNode: traits::LeafNode<CURRENT_VERSION>>(
        &self,
        group: &GroupId,
        leaf: &LeafNode,
    ) -> Result<(), StorageError> {
        self.append(OWN_LEAVES, group, leaf)
    }

    fn own_leaf_nodes<GroupId: traits::GroupId<CURRENT_VERSION>, LeafNode: traits::LeafNode<CURRENT_VERSION>>(
        &self,
        group: &GroupId,
    ) -> Result<Vec<LeafNode>, StorageError> {
        self.list(OWN_LEAVES, group)
    }

    fn delete_own_leaf_nodes<GroupId: traits::GroupId<CURRENT_VERSION>>(
        &self,
        group: &GroupId,
    ) -> Result<(), StorageError> {
        self.forget(OWN_LEAVES, group)
    }

    fn queue_proposal<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        ProposalRef: traits::ProposalRef<CURRENT_VERSION>,
        QueuedProposal: traits::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        group: &GroupId,
        reference: &ProposalRef,
        proposal: &QueuedProposal,
    ) -> Result<(), StorageError> {
        self.put(PROPOSALS, &(group, reference), proposal)?;
        self.append(PROPOSAL_REFS, group, reference)
    }

    fn queued_proposal_refs<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        ProposalRef: traits::ProposalRef<CURRENT_VERSION>,
    >(
        &self,
        group: &GroupId,
    ) -> Result<Vec<ProposalRef>, StorageError> {
        self.list(PROPOSAL_REFS, group)
    }

    fn queued_proposals<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        ProposalRef: traits::ProposalRef<CURRENT_VERSION>,
        QueuedProposal: traits::QueuedProposal<CURRENT_VERSION>,
    >(
        &self,
        group: &GroupId,
    ) -> Result<Vec<(ProposalRef, QueuedProposal)>, StorageError> {
        let references = self.list::<ProposalRef>(PROPOSAL_REFS, group)?.into_iter();
        let with_proposal = |reference: ProposalRef| {
            let proposal = self.find(PROPOSALS, &(group, &reference))?.ok_or(StorageError)?;
            Ok((reference, proposal))
        };
        references.map(with_proposal).collect()
    }

    fn remove_proposal<GroupId: traits::GroupId<CURRENT_VERSION>, ProposalRef: traits::ProposalRef<CURRENT_VERSION>>(
        &self,
        group: &GroupId,
        reference: &ProposalRef,
    ) -> Result<(), StorageError> {
        let (removed, all) = (serde_json::to_vec(reference)?, self.list::<ProposalRef>(PROPOSAL_REFS, group)?);
        self.forget(PROPOSAL_REFS, group)?;
        for kept in all {
            if serde_json::to_vec(&kept)? != removed {
                self.append(PROPOSAL_REFS, group, &kept)?;
            }
        }
        self.forget(PROPOSALS, &(group, reference))
    }

    fn clear_proposal_queue<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        ProposalRef: traits::ProposalRef<CURRENT_VERSION>,
    >(
        &self,
        group: &GroupId,
    ) -> Result<(), StorageError> {
        for reference in self.list::<ProposalRef>(PROPOSAL_REFS, group)? {
            self.forget(PROPOSALS, &(group, &reference))?;
        }
        self.forget(PROPOSAL_REFS, group)
    }

    fn write_encryption_epoch_key_pairs<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        EpochKey: traits::EpochKey<CURRENT_VERSION>,
        HpkeKeyPair: traits::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        group: &GroupId,
        epoch: &EpochKey,
        leaf: u32,
        pairs: &[HpkeKeyPair],
    ) -> Result<(), StorageError> {
        self.forget(EPOCH_KEY_PAIRS, &(group, epoch, leaf))?;
        pairs.iter().try_for_each(|pair| self.append(EPOCH_KEY_PAIRS, &(group, epoch, leaf), pair))
    }

    fn encryption_epoch_key_pairs<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        EpochKey: traits::EpochKey<CURRENT_VERSION>,
        HpkeKeyPair: traits::HpkeKeyPair<CURRENT_VERSION>,
    >(
        &self,
        group: &GroupId,
        epoch: &EpochKey,
        leaf: u32,
    ) -> Result<Vec<HpkeKeyPair>, StorageError> {
        self.list(EPOCH_KEY_PAIRS, &(group, epoch, leaf))
    }

    fn delete_encryption_epoch_key_pairs<
        GroupId: traits::GroupId<CURRENT_VERSION>,
        EpochKey: traits::EpochKey<CURRENT_VERSION>,
    >(
        &self,
        group: &GroupId,
        epoch: &EpochKey,
        leaf: u32,
    ) -> Result<(), StorageError> {
        self.forget(EPOCH_KEY_PAIRS, &(group, epoch, leaf))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_item_by_item_and_forgotten_as_one() {
        let storage = Storage::default();
        for item in [3u8, 1, 2] {
            storage.append("list", &"a", &item).expect("added");
        }
        assert_eq!(storage.list::<u8>("list", &"a").expect("read"), [3, 1, 2]);
        assert!(storage.list::<u8>("list", &"b").expect("another").is_empty());
        storage.forget("list", &"a").expect("gone");
        assert!(storage.list::<u8>("list", &"a").expect("none").is_empty());
        assert_eq!(storage.entries(), 0);
    }

    #[test]
    fn a_copy_keeps_what_the_original_forgets() {
        let storage = Storage::default();
        storage.put("one", &"a", &7u8).expect("kept");
        let copy = storage.copy();
        storage.put("one", &"a", &8u8).expect("replaced");
        storage.clear();
        assert_eq!(storage.find::<u8>("one", &"a").expect("read"), None);
        assert_eq!(copy.find::<u8>("one", &"a").expect("read"), Some(7));
    }
}
