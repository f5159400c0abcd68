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
