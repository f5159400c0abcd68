//! Names, and what exactly they sign.
//!
//! Every signature is Ed25519 (RFC 8032), verified strictly, over a domain string that ends in NUL followed by fields
//! of fixed size, numbers big-endian. The relay verifies; secret keys live in clients only.

use std::fmt;

use data_encoding::Specification;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::limits;

mod binding;
mod revocation;
mod room;
mod ticket;

use binding::Domains;
pub use binding::{ChannelBinding, EXPORTER_BYTES, EXPORTER_LABEL, NONCE_BYTES, NonceBinding, RelayName};
pub use revocation::Revocation;
pub use room::{RoomId, room_signing_input, verify_room};
pub use ticket::{Grants, Holder, Presenter, Ticket, present_signing_input, ring_signing_input};

/// Bytes of what an epoch of a group is told from another by.
pub const EPOCH_DIGEST_BYTES: usize = 32;
/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

const KEY_BYTES: usize = 32;
const DELEGATION_DOMAIN: &[u8] = b"supernode/1 delegation\0";
const BEACON_DOMAIN: &[u8] = b"supernode/1 beacon\0";
const HELLO: Domains = Domains { tls_exporter: b"supernode/1 hello\0", relay_nonce: b"supernode/1 hello, by nonce\0" };
const JOIN: Domains = Domains { tls_exporter: b"supernode/1 join\0", relay_nonce: b"supernode/1 join, by nonce\0" };
const FORMAT_1: u8 = 1;

/// Why bytes or text are no valid name or grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Wrong number of bytes.
    #[error("{field} is {length} bytes: must be {bound}")]
    Length {
        /// What it should be.
        field: &'static str,
        /// What was given.
        length: usize,
        /// What it must be.
        bound: usize,
    },
    /// Not the text form.
    #[error("{field} is not in its text form")]
    Text {
        /// What it should be.
        field: &'static str,
    },
    /// A format byte or grant bits from another version.
    #[error("{field} = {value}: unknown")]
    Unknown {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u8,
    },
    /// The signature does not verify.
    #[error("the signature of the {field} does not verify")]
    Signature {
        /// What was signed.
        field: &'static str,
    },
    /// Somebody else uses it than whom it is made out to.
    #[error("the ticket is made out to another identity")]
    Holder,
    /// It has run out.
    #[error("the {field} has expired")]
    Expired {
        /// What.
        field: &'static str,
    },
    /// It runs longer than anybody may sign for.
    #[error("the {field} runs for {seconds} s more: at most {bound} s")]
    TooLong {
        /// What.
        field: &'static str,
        /// How long.
        seconds: u64,
        /// The most.
        bound: u64,
    },
}

macro_rules! public_key {
    ($(#[$doc:meta])* $type:ident, $field:literal, $prefix:literal) => {
        $(#[$doc])*
        ///
        /// It has no `Display`, and `Debug` shows nothing of it, so that it cannot slip into a log: [`Self::to_text`]
        /// is the way to show it to its owner.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type([u8; KEY_BYTES]);

        impl $type {
            /// A key from its bytes; whether it is a point on the curve shows when it verifies.
            pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
                Self(bytes)
            }

            /// The key in a message field.
            ///
            /// # Errors
            /// [`IdentityError::Length`] unless it has 32 bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdentityError> {
                fixed($field, bytes).map(Self)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
                &self.0
            }

            /// The text form.
            pub fn to_text(&self) -> String {
                to_text($prefix, &self.0)
            }

            /// Reads the text form.
            ///
            /// # Errors
            /// [`IdentityError::Text`] or [`IdentityError::Length`].
            pub fn from_text(text: &str) -> Result<Self, IdentityError> {
                Self::from_slice(&from_text($field, $prefix, text)?)
            }

            fn verify(&self, field: &'static str, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> Result<(), IdentityError> {
                VerifyingKey::from_bytes(&self.0)
                    .and_then(|key| key.verify_strict(message, &Signature::from_bytes(signature)))
                    .map_err(|_| IdentityError::Signature { field })
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($type), "(..)"))
            }
        }
    };
}

public_key! {
    /// A person's name: the public key they own.
    IdentityKey, "identity", "sn-id-"
}
public_key! {
    /// One installation's public key.
    DeviceKey, "device", "sn-dev-"
}
public_key! {
    /// The public half of the key that comes with a ticket: whoever has the other half may use the ticket.
    TicketKey, "ticket key", "sn-ticket-key-"
}
public_key! {
    /// The public key that a room's join secret can sign for.
    JoinKey, "join_key", "sn-join-"
}
public_key! {
    /// The public half of the key that comes from a room's link: it names a room that stands.
    RoomKey, "room_key", "sn-room-"
}

/// An identity's certificate for a device.
///
/// Layout, [`Self::BYTES`] in all: format 1 (1), identity (32), device (32), not after in Unix seconds (8),
/// signature by the identity (64).
#[derive(Clone, PartialEq, Eq)]
pub struct Delegation {
    /// Who certifies.
    pub identity: IdentityKey,
    /// What is certified.
    pub device: DeviceKey,
    /// Last second it holds, Unix time.
    pub not_after_unix_s: u64,
    /// By the identity, over [`Self::signing_input`].
    pub signature: [u8; SIGNATURE_BYTES],
}

impl Delegation {
    /// Bytes on the wire.
    pub const BYTES: usize = 1 + KEY_BYTES + KEY_BYTES + 8 + SIGNATURE_BYTES;
    const TEXT_PREFIX: &str = "sn-delegation-";

    /// What the identity signs.
    pub fn signing_input(identity: &IdentityKey, device: &DeviceKey, not_after_unix_s: u64) -> Vec<u8> {
        [DELEGATION_DOMAIN, &identity.0, &device.0, &not_after_unix_s.to_be_bytes()].concat()
    }

    /// The wire form.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&[FORMAT_1], &self.identity.0[..], &self.device.0, &self.not_after_unix_s.to_be_bytes(), &self.signature]
            .concat()
    }

    /// Reads the wire form; nothing is verified yet.
    ///
    /// # Errors
    /// [`IdentityError::Length`] or [`IdentityError::Unknown`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IdentityError> {
        let mut fields = Fields::new("delegation", bytes, Self::BYTES)?;
        Ok(Self {
            identity: IdentityKey(fields.take()),
            device: DeviceKey(fields.take()),
            not_after_unix_s: u64::from_be_bytes(fields.take()),
            signature: fields.take(),
        })
    }

    /// Text to hand to the device.
    pub fn to_text(&self) -> String {
        to_text(Self::TEXT_PREFIX, &self.to_bytes())
    }

    /// Reads the text form; nothing is verified yet.
    ///
    /// # Errors
    /// As [`Self::from_bytes`], or [`IdentityError::Text`].
    pub fn from_text(text: &str) -> Result<Self, IdentityError> {
        Self::from_bytes(&from_text("delegation", Self::TEXT_PREFIX, text)?)
    }

    /// Whether the identity signed it and it holds at `now_unix_s`.
    ///
    /// # Errors
    /// [`IdentityError::Expired`], [`IdentityError::TooLong`] or [`IdentityError::Signature`].
    pub fn verify(&self, now_unix_s: u64) -> Result<(), IdentityError> {
        check_time("delegation", self.not_after_unix_s, now_unix_s, limits::DELEGATION_LIFETIME_S_MAX)?;
        let input = Self::signing_input(&self.identity, &self.device, self.not_after_unix_s);
        self.identity.verify("delegation", &input, &self.signature)
    }
}

impl fmt::Debug for Delegation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Delegation(..)")
    }
}

/// The relay's name: SHA-256 of its certificate's SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7, DER).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelayPin(pub [u8; 32]);

impl RelayPin {
    /// The pin of a public key.
    pub fn of_spki(spki_der: &[u8]) -> Self {
        Self(Sha256::digest(spki_der).into())
    }
}

/// What a device signs to open a session: the relay it means, this one connection, and every byte of its `HelloBody`.
pub fn hello_signing_input(binding: &ChannelBinding, hello_body: &[u8]) -> Vec<u8> {
    let body_digest: [u8; 32] = Sha256::digest(hello_body).into();
    [binding.domain(&HELLO), &binding.relay().0, binding.value(), &body_digest].concat()
}

/// Whether `device` signed this Hello for this connection.
///
/// # Errors
/// [`IdentityError::Length`] or [`IdentityError::Signature`].
pub fn verify_hello(
    device: &DeviceKey,
    binding: &ChannelBinding,
    hello_body: &[u8],
    signature: &[u8],
) -> Result<(), IdentityError> {
    device.verify("hello", &hello_signing_input(binding, hello_body), &fixed("hello signature", signature)?)
}

/// What a room's join key signs to let one device in on one connection: the relay never sees the join secret, and a
/// proof is of no use to anybody else.
pub fn join_signing_input(room: &RoomId, binding: &ChannelBinding, device: &DeviceKey) -> Vec<u8> {
    [binding.domain(&JOIN), &room.0, binding.value(), &device.0].concat()
}

/// Whether `proof` lets `device` into `room` on this connection.
///
/// # Errors
/// [`IdentityError::Length`] or [`IdentityError::Signature`].
pub fn verify_join(
    key: &JoinKey,
    room: &RoomId,
    binding: &ChannelBinding,
    device: &DeviceKey,
    proof: &[u8],
) -> Result<(), IdentityError> {
    key.verify("join proof", &join_signing_input(room, binding, device), &fixed("join proof", proof)?)
}

/// What a device signs of its group for the others in a room.
pub fn beacon_signing_input(room: &RoomId, epoch: u64, digest: &[u8; EPOCH_DIGEST_BYTES]) -> Vec<u8> {
    [BEACON_DOMAIN, &room.0, &epoch.to_be_bytes(), digest].concat()
}

/// Checks that a device signed a beacon.
///
/// # Errors
/// [`IdentityError::Length`], [`IdentityError::Signature`].
pub fn verify_beacon(
    device: &DeviceKey,
    room: &RoomId,
    epoch: u64,
    digest: &[u8; EPOCH_DIGEST_BYTES],
    signature: &[u8],
) -> Result<(), IdentityError> {
    let signature = fixed("signature", signature)?;
    device.verify("beacon", &beacon_signing_input(room, epoch, digest), &signature)
}

fn check_time(field: &'static str, not_after: u64, now: u64, bound: u64) -> Result<(), IdentityError> {
    let seconds = not_after.checked_sub(now).ok_or(IdentityError::Expired { field })?;
    if seconds > bound {
        return Err(IdentityError::TooLong { field, seconds, bound });
    }
    Ok(())
}

fn fixed<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], IdentityError> {
    bytes.try_into().map_err(|_| IdentityError::Length { field, length: bytes.len(), bound: N })
}

/// Fields of fixed size behind a format byte.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn new(field: &'static str, bytes: &'a [u8], bound: usize) -> Result<Self, IdentityError> {
        match bytes {
            [FORMAT_1, rest @ ..] if bytes.len() == bound => Ok(Self { rest }),
            [format, ..] if bytes.len() == bound => Err(IdentityError::Unknown { field, value: *format }),
            _ => Err(IdentityError::Length { field, length: bytes.len(), bound }),
        }
    }

    /// The next field. `new` checked the whole length, and the fields of a format add up to it.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.rest.split_first_chunk().expect("the fields add up to the checked length");
        self.rest = rest;
        *field
    }
}

/// RFC 4648 base32 in lower case without padding: survives being read aloud, and a double click selects all of it.
fn base32() -> data_encoding::Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification.encoding().expect("32 distinct symbols make a valid specification")
}

fn to_text(prefix: &str, bytes: &[u8]) -> String {
    format!("{prefix}{}", base32().encode(bytes))
}

fn from_text(field: &'static str, prefix: &str, text: &str) -> Result<Vec<u8>, IdentityError> {
    let encoded = text.trim().strip_prefix(prefix).ok_or(IdentityError::Text { field })?;
    base32().decode(encoded.as_bytes()).map_err(|_| IdentityError::Text { field })
}
