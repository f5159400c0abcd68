//! Signing keys. Wiped on drop, and `Debug` shows nothing of them.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::SignatureScheme;
use supernode_proto::identity::{
    Delegation, DeviceKey, EPOCH_DIGEST_BYTES, EXPORTER_BYTES, Grants, IdentityKey, JoinKey, RelayPin, RoomId,
    SIGNATURE_BYTES, Ticket, beacon_signing_input, hello_signing_input, join_signing_input,
};
use zeroize::Zeroizing;

const SECRET_BYTES: usize = 32;

macro_rules! secret {
    ($(#[$doc:meta])* $type:ident, $public:ident) => {
        $(#[$doc])*
        pub struct $type(SigningKey);

        impl $type {
            /// The key whose seed these bytes are (RFC 8032 section 5.1.5).
            pub fn from_bytes(bytes: &[u8; SECRET_BYTES]) -> Self {
                Self(SigningKey::from_bytes(bytes))
            }

            /// What others verify with.
            pub fn public(&self) -> $public {
                $public::new(self.0.verifying_key().to_bytes())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($type), "(..)"))
            }
        }
    };
}

macro_rules! long_lived {
    ($type:ident) => {
        impl $type {
            /// A fresh key from the operating system's generator.
            ///
            /// # Panics
            /// If the operating system has no randomness to give: there is no safe way on.
            pub fn generate() -> Self {
                let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
                fill_random(&mut *bytes);
                Self::from_bytes(&bytes)
            }

            /// The seed, to keep somewhere safe.
            pub fn to_bytes(&self) -> Zeroizing<[u8; SECRET_BYTES]> {
                Zeroizing::new(self.0.to_bytes())
            }
        }
    };
}

secret! {
    /// A person's secret: it certifies devices and issues tickets, and needs to be at hand for nothing else.
    IdentitySecret, IdentityKey
}
secret! {
    /// One installation's secret: it opens sessions and signs in MLS groups.
    DeviceSecret, DeviceKey
}
secret! {
    /// What an epoch's members can prove to the relay to enter the room, without it learning who they are.
    JoinSecret, JoinKey
}
long_lived!(IdentitySecret);
long_lived!(DeviceSecret);

impl IdentitySecret {
    /// Certifies `device` until `not_after_unix_s`.
    pub fn delegate(&self, device: &DeviceKey, not_after_unix_s: u64) -> Delegation {
        let identity = self.public();
        let signature = self.0.sign(&Delegation::signing_input(&identity, device, not_after_unix_s)).to_bytes();
        Delegation { identity, device: *device, not_after_unix_s, signature }
    }

    /// Grants something to `holder`, or to whoever carries the ticket, until `not_after_unix_s`. Its id is random.
    ///
    /// # Panics
    /// If the operating system has no randomness to give.
    pub fn issue_ticket(&self, holder: Option<IdentityKey>, grants: Grants, not_after_unix_s: u64) -> Ticket {
        let mut id = [0; 8];
        fill_random(&mut id);
        let signature = [0; SIGNATURE_BYTES];
        let mut ticket = Ticket { issuer: self.public(), holder, grants, not_after_unix_s, id, signature };
        ticket.signature = self.0.sign(&ticket.signing_input()).to_bytes();
        ticket
    }
}

impl DeviceSecret {
    /// Signs a Hello for one relay and one connection.
    pub fn sign_hello(
        &self,
        relay: &RelayPin,
        exporter: &[u8; EXPORTER_BYTES],
        hello_body: &[u8],
    ) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(&hello_signing_input(relay, exporter, hello_body)).to_bytes()
    }

    /// Signs what our group is, for the others in a room.
    pub fn sign_beacon(&self, room: &RoomId, epoch: u64, digest: &[u8; EPOCH_DIGEST_BYTES]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(&beacon_signing_input(room, epoch, digest)).to_bytes()
    }
}

impl Signer for DeviceSecret {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign(payload).to_bytes().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

impl JoinSecret {
    /// Proves to the relay that `device` may enter `room` on one connection.
    pub fn sign(&self, room: &RoomId, exporter: &[u8; EXPORTER_BYTES], device: &DeviceKey) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(&join_signing_input(room, exporter, device)).to_bytes()
    }
}

fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives randomness");
}

#[cfg(test)]
mod tests {
    use zeroize::ZeroizeOnDrop;

    /// Compiles for types that wipe themselves only.
    const fn wipes_itself<T: ZeroizeOnDrop>() {}

    #[test]
    fn the_libraries_that_hold_our_keys_wipe_them() {
        wipes_itself::<ed25519_dalek::SigningKey>();
        wipes_itself::<x_wing::DecapsulationKey>();
        wipes_itself::<sframe::crypto::Secret>();
        wipes_itself::<zeroize::Zeroizing<Vec<u8>>>();
    }
}
