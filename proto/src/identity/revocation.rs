//! Devices that a person has taken back.

use std::fmt;

use super::{DeviceKey, FORMAT_1, IdentityError, IdentityKey, KEY_BYTES, SIGNATURE_BYTES};
use crate::limits;

const REVOCATION_DOMAIN: &[u8] = b"supernode/1 revocation\0";
const HEAD_BYTES: usize = 1 + KEY_BYTES + 8 + 1;

/// An identity's word that devices of its own count no more, whatever their delegations say. Of two words the one with
/// the higher number is the newer, and names all that count no more.
///
/// Layout: format 1 (1), identity (32), number (8), how many devices (1), each device (32), signature by the identity
/// (64).
#[derive(Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Whose devices they were.
    pub identity: IdentityKey,
    /// Grows from one word to the next: the Unix time in seconds at which it was signed does.
    pub number: u64,
    /// Those that count no more, at most [`limits::REVOKED_DEVICES_MAX`]. A device whose delegation has run out need not
    /// be named any more.
    pub devices: Vec<DeviceKey>,
    /// By the identity, over [`Self::signing_input`].
    pub signature: [u8; SIGNATURE_BYTES],
}

impl Revocation {
    /// What the identity signs; `self.signature` plays no part.
    pub fn signing_input(&self) -> Vec<u8> {
        [REVOCATION_DOMAIN, &self.body()].concat()
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(HEAD_BYTES + KEY_BYTES * self.devices.len());
        body.extend_from_slice(self.identity.as_bytes());
        body.extend_from_slice(&self.number.to_be_bytes());
        // `from_bytes` and whoever signs keep to the bound, which is far below.
        body.push(self.devices.len() as u8);
        self.devices.iter().for_each(|device| body.extend_from_slice(device.as_bytes()));
        body
    }

    /// The wire form.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&[FORMAT_1], &self.body()[..], &self.signature].concat()
    }

    /// Reads the wire form; nothing is verified yet.
    ///
    /// # Errors
    /// [`IdentityError::Length`] or [`IdentityError::Unknown`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IdentityError> {
        let field = "revocation";
        let length = |bound| IdentityError::Length { field, length: bytes.len(), bound };
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(length(HEAD_BYTES + SIGNATURE_BYTES))?;
        let ([format], head) = head.split_first_chunk().expect("the head begins with it");
        if *format != FORMAT_1 {
            return Err(IdentityError::Unknown { field, value: *format });
        }
        let (identity, head) = head.split_first_chunk().expect("the head has an identity");
        let (number, count) = head.split_first_chunk().expect("the head has a number");
        let count = usize::from(count[0]);
        if count > limits::REVOKED_DEVICES_MAX {
            return Err(IdentityError::Unknown { field: "revoked devices", value: count as u8 });
        }
        let (devices, signature) = rest.split_last_chunk().ok_or(length(HEAD_BYTES + SIGNATURE_BYTES))?;
        if devices.len() != count * KEY_BYTES {
            return Err(length(HEAD_BYTES + count * KEY_BYTES + SIGNATURE_BYTES));
        }
        let devices = devices.as_chunks::<KEY_BYTES>().0.iter().map(|device| DeviceKey(*device)).collect();
        let number = u64::from_be_bytes(*number);
        Ok(Self { identity: IdentityKey(*identity), number, devices, signature: *signature })
    }

    /// Whether the identity signed it.
    ///
    /// # Errors
    /// [`IdentityError::Signature`].
    pub fn verify(&self) -> Result<(), IdentityError> {
        self.identity.verify("revocation", &self.signing_input(), &self.signature)
    }

    /// Whether this device counts no more.
    pub fn names(&self, device: &DeviceKey) -> bool {
        self.devices.contains(device)
    }
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Revocation(..)")
    }
}
