//! The secret of a room's link. It never leaves the clients of those who were given the link: from it come the key of the
//! link's ticket, and what a knock shows to whoever is at the door.

use std::fmt;

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use supernode_proto::identity::{DeviceKey, IdentityError, IdentityKey, RoomId};
use zeroize::Zeroizing;

use crate::secret::{TicketSecret, fill_random};

const TICKET_LABEL: &[u8] = b"supernode/1 link ticket\0";
const KNOCK_LABEL: &[u8] = b"supernode/1 link knock\0";
/// Bytes of a proof that a guest has the link.
pub const LINK_PROOF_BYTES: usize = 32;

/// 32 random bytes.
#[derive(Clone)]
pub struct LinkSecret(Zeroizing<[u8; 32]>);

/// Who knocks where, and with what: a proof is of use for exactly this.
#[derive(Debug, Clone, Copy)]
pub struct Knock<'a> {
    /// Who knocks.
    pub guest: &'a IdentityKey,
    /// On which device.
    pub device: &'a DeviceKey,
    /// At whose door.
    pub host: &'a IdentityKey,
    /// Of which room.
    pub room: &'a RoomId,
    /// In which call of two.
    pub lobby: &'a RoomId,
    /// The key package with which the guest wants to come in.
    pub package: &'a [u8],
}

impl LinkSecret {
    /// Bytes of the secret.
    pub const BYTES: usize = 32;

    /// A fresh one.
    ///
    /// # Panics
    /// If the operating system has no randomness to give.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; Self::BYTES]);
        fill_random(&mut *bytes);
        Self(bytes)
    }

    /// The secret of a link.
    ///
    /// # Errors
    /// [`IdentityError::Length`] unless it has 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdentityError> {
        let length = IdentityError::Length { field: "link secret", length: bytes.len(), bound: Self::BYTES };
        bytes.try_into().map(|bytes| Self(Zeroizing::new(bytes))).map_err(|_| length)
    }

    /// The 32 bytes, for the link.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The key of the ticket in the link.
    pub fn ticket_secret(&self) -> TicketSecret {
        let seed = Zeroizing::new(self.derive(TICKET_LABEL, &[]).finalize().into_bytes().into());
        TicketSecret::from_bytes(&seed)
    }

    /// Shows that whoever knocks has the link.
    pub fn prove_knock(&self, knock: &Knock<'_>) -> [u8; LINK_PROOF_BYTES] {
        self.knock(knock).finalize().into_bytes().into()
    }

    /// Whether `proof` shows that whoever knocks has the link. Takes as long whatever is wrong.
    pub fn is_proven_by(&self, knock: &Knock<'_>, proof: &[u8]) -> bool {
        self.knock(knock).verify_slice(proof).is_ok()
    }

    fn knock(&self, knock: &Knock<'_>) -> Hmac<Sha256> {
        let Knock { guest, device, host, room, lobby, package } = knock;
        let package = Sha256::digest(package);
        let said = [&guest.as_bytes()[..], device.as_bytes(), host.as_bytes(), &room.0, &lobby.0, &package];
        self.derive(KNOCK_LABEL, &said)
    }

    /// HMAC (RFC 2104) by the secret over a label and fields of fixed size.
    fn derive(&self, label: &[u8], fields: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.0).expect("HMAC takes a key of any length");
        mac.update(label);
        fields.iter().for_each(|field| mac.update(field));
        mac
    }
}

impl fmt::Debug for LinkSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkSecret(..)")
    }
}

impl PartialEq for LinkSecret {
    /// Of two links that one client holds: not for a secret that somebody else guesses.
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for LinkSecret {}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn a_knock_is_proven_for_one_guest_device_host_room_lobby_and_package_and_by_this_link_only() {
        let (link, other_link) = (LinkSecret::generate(), LinkSecret::generate());
        let (person, other) = (IdentityKey::new([1; 32]), IdentityKey::new([2; 32]));
        let (device, other_device) = (DeviceKey::new([3; 32]), DeviceKey::new([4; 32]));
        let (room, lobby) = (RoomId([5; 16]), RoomId([6; 16]));
        let knock =
            Knock { guest: &person, device: &device, host: &other, room: &room, lobby: &lobby, package: b"package" };
        let proof = link.prove_knock(&knock);
        assert!(link.is_proven_by(&knock, &proof));
        assert!(!other_link.is_proven_by(&knock, &proof) && !link.is_proven_by(&knock, &proof[..31]));
        for changed in [
            Knock { guest: &other, ..knock },
            Knock { device: &other_device, ..knock },
            Knock { host: &person, ..knock },
            Knock { room: &lobby, ..knock },
            Knock { lobby: &room, ..knock },
            Knock { package: b"another", ..knock },
        ] {
            assert!(!link.is_proven_by(&changed, &proof), "{changed:?}");
        }
        assert_eq!(format!("{link:?}"), "LinkSecret(..)");
    }
}
