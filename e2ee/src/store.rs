//! Where openmls keeps its state: in memory, and wiped when it goes.

use std::ops::Deref;
use std::sync::PoisonError;

use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider as _;
use zeroize::Zeroize as _;

/// Cryptography, randomness and memory storage for one device or one group.
#[derive(Default)]
pub(crate) struct Store(OpenMlsRustCrypto);

impl Store {
    /// Overwrites and forgets all entries.
    pub(crate) fn wipe(&self) {
        let mut entries = self.0.storage().values.write().unwrap_or_else(PoisonError::into_inner);
        for (_, mut value) in entries.drain() {
            value.zeroize();
        }
    }

    /// All entries once more, for going back to what they say.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::default();
        let entries = self.0.storage().values.read().unwrap_or_else(PoisonError::into_inner).clone();
        *copy.0.storage().values.write().unwrap_or_else(PoisonError::into_inner) = entries;
        copy
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        self.0.storage().values.read().expect("not poisoned").len()
    }
}

impl Deref for Store {
    type Target = OpenMlsRustCrypto;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.wipe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openmls::prelude::{GroupId, MlsGroup, MlsGroupCreateConfig};
    use supernode_proto::identity::RoomId;

    #[test]
    fn a_wiped_store_has_nothing_left() {
        let store = Store::default();
        let secret = crate::secret::DeviceSecret::generate();
        let delegation = crate::secret::IdentitySecret::generate().delegate(&secret.public(), 1);
        let config = MlsGroupCreateConfig::builder().ciphersuite(crate::device::CIPHERSUITE).build();
        let id = GroupId::from_slice(&RoomId([1; 16]).0);
        let credential = crate::credential::of_delegation(&delegation);
        MlsGroup::new_with_group_id(&*store, &secret, &config, id, credential).expect("a group");
        assert!(store.entries() > 0);
        store.wipe();
        assert_eq!(store.entries(), 0);
    }
}
