//! What openmls works with: cryptography, randomness, and its state in memory.

mod storage;

use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider;

use self::storage::Storage;

/// For one device's key packages, or one group.
#[derive(Default)]
pub(crate) struct Store {
    crypto: RustCrypto,
    storage: Storage,
}

impl Store {
    /// Wipes and forgets all entries; a copy keeps its own.
    pub(crate) fn wipe(&self) {
        self.storage.clear();
    }

    /// All entries once more, for going back to what they say.
    pub(crate) fn copy(&self) -> Self {
        Self { crypto: RustCrypto::default(), storage: self.storage.copy() }
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        self.storage.entries()
    }
}

impl OpenMlsProvider for Store {
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
    type StorageProvider = Storage;

    fn storage(&self) -> &Storage {
        &self.storage
    }

    fn crypto(&self) -> &RustCrypto {
        &self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        &self.crypto
    }
}

#[cfg(test)]
mod tests {
    use zeroize::ZeroizeOnDrop;

    /// Compiles for types that wipe themselves only.
    const fn wipes_itself<T: ZeroizeOnDrop>() {}

    #[test]
    fn the_libraries_that_hold_our_keys_wipe_them() {
        wipes_itself::<x_wing::DecapsulationKey>();
        wipes_itself::<sframe::crypto::Secret>();
        wipes_itself::<zeroize::Zeroizing<Vec<u8>>>();
    }
}
