//! The secret of a room's link. It never leaves the clients of those who were given the link, or were let in: from it come
//! the key that the room is named by, and what guest and member show each other at the door.

use std::fmt;

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use supernode_keys::RoomSecret;
use supernode_proto::identity::{DeviceKey, IdentityError, IdentityKey, RoomId};
use zeroize::Zeroizing;

const ROOM_LABEL: &[u8] = b"supernode/1 link room\0";
const KNOCK_LABEL: &[u8] = b"supernode/1 link knock\0";
const ANSWER_LABEL: &[u8] = b"supernode/1 link answer\0";
/// Bytes of what shows that a guest or a member has the link.
pub const LINK_PROOF_BYTES: usize = 32;

/// 32 random bytes.
#[derive(Clone)]
pub struct LinkSecret(Zeroizing<[u8; 32]>);

/// Who knocks, and with what: a proof is of use for exactly this.
#[derive(Debug, Clone, Copy)]
pub struct Knock<'a> {
    /// Who knocks.
    pub guest: &'a IdentityKey,
    /// On which device.
    pub device: &'a DeviceKey,
    /// The key package for the call of two at the door.
    pub lobby_package: &'a [u8],
    /// The key package with which the guest wants to come in.
    pub package: &'a [u8],
}

/// What a member answers: a proof is of use for exactly this.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// What showed that the guest has the link.
    pub knock: &'a [u8],
    /// Who answers.
    pub host: &'a IdentityKey,
    /// The Welcome to the call of two at the door.
    pub welcome: &'a [u8],
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
        getrandom::fill(&mut *bytes).expect("the operating system gives randomness");
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

    /// What opens the room, and rings at its door. It tells nothing of the rest.
    pub fn room_secret(&self) -> RoomSecret {
        let seed = Zeroizing::new(self.derive(ROOM_LABEL, &[]).finalize().into_bytes().into());
        RoomSecret::from_bytes(&seed)
    }

    /// The room's name.
    pub fn room(&self) -> RoomId {
        RoomId::standing(&self.room_secret().public())
    }

    /// Shows a member that whoever knocks has the link.
    pub fn prove_knock(&self, knock: &Knock<'_>) -> [u8; LINK_PROOF_BYTES] {
        self.knock(knock).finalize().into_bytes().into()
    }

    /// Whether `proof` shows that whoever knocks has the link. Takes as long whatever is wrong.
    pub fn is_proven_by(&self, knock: &Knock<'_>, proof: &[u8]) -> bool {
        self.knock(knock).verify_slice(proof).is_ok()
    }

    /// Shows the guest that whoever answers has the link.
    pub fn prove_answer(&self, answer: &Answer<'_>) -> [u8; LINK_PROOF_BYTES] {
        self.answer(answer).finalize().into_bytes().into()
    }

    /// Whether `proof` shows that whoever answers has the link. Takes as long whatever is wrong.
    pub fn is_answered_by(&self, answer: &Answer<'_>, proof: &[u8]) -> bool {
        self.answer(answer).verify_slice(proof).is_ok()
    }

    fn knock(&self, knock: &Knock<'_>) -> Hmac<Sha256> {
        let Knock { guest, device, lobby_package, package } = knock;
        let (lobby_package, package) = (Sha256::digest(lobby_package), Sha256::digest(package));
        self.derive(KNOCK_LABEL, &[&guest.as_bytes()[..], device.as_bytes(), &lobby_package, &package])
    }

    fn answer(&self, answer: &Answer<'_>) -> Hmac<Sha256> {
        let Answer { knock, host, welcome } = answer;
        let (knock, welcome) = (Sha256::digest(knock), Sha256::digest(welcome));
        self.derive(ANSWER_LABEL, &[&knock[..], host.as_bytes(), &welcome])
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
    fn a_knock_is_proven_for_one_guest_device_and_packages_and_by_this_link_only() {
        let (link, other_link) = (LinkSecret::generate(), LinkSecret::generate());
        let (guest, device) = (IdentityKey::new([1; 32]), DeviceKey::new([3; 32]));
        let (other, other_device) = (IdentityKey::new([2; 32]), DeviceKey::new([4; 32]));
        let knock = Knock { guest: &guest, device: &device, lobby_package: b"lobby", package: b"package" };
        let proof = link.prove_knock(&knock);
        assert!(link.is_proven_by(&knock, &proof));
        assert!(!other_link.is_proven_by(&knock, &proof) && !link.is_proven_by(&knock, &proof[..31]));
        for changed in [
            Knock { guest: &other, ..knock },
            Knock { device: &other_device, ..knock },
            Knock { lobby_package: b"another", ..knock },
            Knock { package: b"another", ..knock },
        ] {
            assert!(!link.is_proven_by(&changed, &proof), "{changed:?}");
        }
        assert_eq!(format!("{link:?}"), "LinkSecret(..)");
    }

    //
    #[test]
    fn an_answer_is_proven_for_one_knock_host_and_welcome_and_by_this_link_only() {
        let (link, other_link) = (LinkSecret::generate(), LinkSecret::generate());
        let (host, other) = (IdentityKey::new([1; 32]), IdentityKey::new([2; 32]));
        let answer = Answer { knock: b"knock", host: &host, welcome: b"welcome" };
        let proof = link.prove_answer(&answer);
        assert!(link.is_answered_by(&answer, &proof) && !other_link.is_answered_by(&answer, &proof));
        for changed in [
            Answer { knock: b"another", ..answer },
            Answer { host: &other, ..answer },
            Answer { welcome: b"another", ..answer },
        ] {
            assert!(!link.is_answered_by(&changed, &proof), "{changed:?}");
        }
    }

    //
    #[test]
    fn a_link_names_one_room_for_ever_and_no_other_link_names_it() {
        let link = LinkSecret::from_slice(&[5; 32]).expect("32 bytes");
        assert_eq!(link.room(), LinkSecret::from_slice(&[5; 32]).expect("32 bytes").room());
        assert_ne!(link.room(), LinkSecret::generate().room());
        assert!(link.room().stands());
    }
}
