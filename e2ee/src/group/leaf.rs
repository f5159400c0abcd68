//! A device's key as openmls takes it.

use std::sync::Arc;

use openmls_traits::{
    signatures::{Signer, SignerError},
    types::SignatureScheme,
};
use supernode_keys::DeviceSecret;

/// Signs leaves and messages of a group.
#[derive(Debug, Clone)]
pub(crate) struct LeafSigner(pub(crate) Arc<DeviceSecret>);

impl Signer for LeafSigner {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign_leaf(payload).to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}
