//! Signing keys. Wiped on drop, and `Debug` shows nothing of them.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use supernode_proto::identity::{
    ChannelBinding, Delegation, DeviceKey, EPOCH_DIGEST_BYTES, Grants, IdentityKey, JoinKey, RelayPin, Revocation,
    RoomId, RoomKey, SIGNATURE_BYTES, Ticket, TicketKey, beacon_signing_input, hello_signing_input, join_signing_input,
    present_signing_input, ring_signing_input, room_signing_input,
};
use supernode_proto::limits;
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
    ($($type:ident)*) => {
        $(impl $type {
            /// The seed, to keep somewhere safe.
            pub fn to_bytes(&self) -> Zeroizing<[u8; SECRET_BYTES]> {
                Zeroizing::new(self.0.to_bytes())
            }
        })*
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
    /// The secret half of a ticket's key: whoever has it may use the ticket.
    TicketSecret, TicketKey
}
secret! {
    /// The secret half of a room's key, which comes from its link: whoever has it may open the room, and ring at its door.
    RoomSecret, RoomKey
}
secret! {
    /// What an epoch's members can prove to the relay to enter the room, without it learning who they are.
    JoinSecret, JoinKey
}
long_lived!(IdentitySecret DeviceSecret TicketSecret);

/// More devices to take back than a revocation may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a list of {count} devices to take back: at most {bound}")]
pub struct TooManyDevices {
    /// How many.
    pub count: usize,
    /// The most.
    pub bound: usize,
}

/// What a ticket says beside whose it is and who may use it.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// What it allows.
    pub grants: Grants,
    /// The one relay at which it is of use; `None` for any.
    pub relay: Option<RelayPin>,
    /// The issuer's present generation: tickets of earlier ones are void.
    pub generation: u32,
    /// Last second it holds, Unix time.
    pub not_after_unix_s: u64,
}

impl IdentitySecret {
    /// Certifies `device` until `not_after_unix_s`.
    pub fn delegate(&self, device: &DeviceKey, not_after_unix_s: u64) -> Delegation {
        let identity = self.public();
        let signature = self.0.sign(&Delegation::signing_input(&identity, device, not_after_unix_s)).to_bytes();
        Delegation { identity, device: *device, not_after_unix_s, signature }
    }

    /// Takes devices back: all that are named count no more, whatever was said before. `number` is greater than that of
    /// the word before; the Unix time in seconds is.
    ///
    /// # Errors
    /// [`TooManyDevices`] for more than [`limits::REVOKED_DEVICES_MAX`].
    pub fn revoke(&self, devices: Vec<DeviceKey>, number: u64) -> Result<Revocation, TooManyDevices> {
        if devices.len() > limits::REVOKED_DEVICES_MAX {
            return Err(TooManyDevices { count: devices.len(), bound: limits::REVOKED_DEVICES_MAX });
        }
        let signature = [0; SIGNATURE_BYTES];
        let mut revocation = Revocation { identity: self.public(), number, devices, signature };
        revocation.signature = self.0.sign(&revocation.signing_input()).to_bytes();
        Ok(revocation)
    }

    /// Signs a ticket, whatever it says; one of another issuer does not verify.
    pub fn sign_ticket(&self, ticket: Ticket) -> Ticket {
        let signature = self.0.sign(&ticket.signing_input()).to_bytes();
        Ticket { signature, ..ticket }
    }
}

impl TicketSecret {
    /// Shows the ticket to one relay, on one connection.
    pub fn sign_presented(
        &self,
        ticket: &Ticket,
        binding: &ChannelBinding,
        device: &DeviceKey,
    ) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(&present_signing_input(ticket, binding, device)).to_bytes()
    }

    /// Shows the ticket to whoever is rung.
    pub fn sign_ring(&self, ticket: &Ticket, group: &RoomId, unix_s: u64, device: &DeviceKey) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(&ring_signing_input(ticket, group, unix_s, device)).to_bytes()
    }
}

impl DeviceSecret {
    /// Signs a Hello for one relay and one connection.
    pub fn sign_hello(&self, binding: &ChannelBinding, hello_body: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(&hello_signing_input(binding, hello_body)).to_bytes()
    }

    /// Signs what our group is, for the others in a room.
    pub fn sign_beacon(&self, room: &RoomId, epoch: u64, digest: &[u8; EPOCH_DIGEST_BYTES]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(&beacon_signing_input(room, epoch, digest)).to_bytes()
    }

    /// Signs what MLS asks for, which begins with a label of its own (RFC 9420 section 5.1.2).
    pub fn sign_leaf(&self, content: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(content).to_bytes()
    }
}

impl RoomSecret {
    /// Shows one relay, on one connection, that we have the room's key.
    pub fn sign(&self, binding: &ChannelBinding, device: &DeviceKey) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(&room_signing_input(binding, device)).to_bytes()
    }
}

impl JoinSecret {
    /// Proves to the relay that `device` may enter `room` on one connection.
    pub fn sign(&self, room: &RoomId, binding: &ChannelBinding, device: &DeviceKey) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(&join_signing_input(room, binding, device)).to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use zeroize::ZeroizeOnDrop;

    /// Compiles for types that wipe themselves only.
    const fn wipes_itself<T: ZeroizeOnDrop>() {}

    #[test]
    fn the_library_that_holds_our_keys_wipes_them() {
        wipes_itself::<ed25519_dalek::SigningKey>();
    }
}
