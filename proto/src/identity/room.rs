//! Names of rooms, and what opens those that stand.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::{ChannelBinding, DeviceKey, IdentityError, RoomKey, binding::Domains, fixed};

const NAME_DOMAIN: &[u8] = b"supernode/1 room name\0";
const ROOM: Domains = Domains { tls_exporter: b"supernode/1 room\0", relay_nonce: b"supernode/1 room, by nonce\0" };
/// The first bit of a name's last byte says whether it is made of a key.
const STANDS: u8 = 0x80;
const LAST: usize = 15;

/// A room's name: 16 bytes, either random or made of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(pub [u8; 16]);

impl RoomId {
    /// The name in a message field.
    ///
    /// # Errors
    /// [`IdentityError::Length`] unless it has 16 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdentityError> {
        fixed("room", bytes).map(Self)
    }

    /// The name of a room that ends with its last member, of 16 random bytes.
    pub const fn passing(mut random: [u8; 16]) -> Self {
        random[LAST] &= !STANDS;
        Self(random)
    }

    /// The name of the room that stands for whoever has this key.
    pub fn standing(key: &RoomKey) -> Self {
        let digest: [u8; 32] = Sha256::new().chain_update(NAME_DOMAIN).chain_update(key.as_bytes()).finalize().into();
        let mut name = [0; 16];
        name.copy_from_slice(&digest[..16]);
        name[LAST] |= STANDS;
        Self(name)
    }

    /// Whether only whoever has its key may open it.
    pub const fn stands(&self) -> bool {
        self.0[LAST] & STANDS != 0
    }
}

impl fmt::Debug for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomId(..)")
    }
}

/// What a room's key signs to open the room, or to ring at its door, on one connection of one device.
pub fn room_signing_input(binding: &ChannelBinding, device: &DeviceKey) -> Vec<u8> {
    [binding.domain(&ROOM), &binding.relay().0, binding.value(), device.as_bytes()].concat()
}

/// Whether `proof` shows that whoever is on this connection has the room's key.
///
/// # Errors
/// [`IdentityError::Length`] or [`IdentityError::Signature`].
pub fn verify_room(
    key: &RoomKey,
    binding: &ChannelBinding,
    device: &DeviceKey,
    proof: &[u8],
) -> Result<(), IdentityError> {
    key.verify("room proof", &room_signing_input(binding, device), &fixed("room proof", proof)?)
}
