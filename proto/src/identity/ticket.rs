//! Tickets: what somebody allows others to ask about them, and how whoever asks shows that the ticket is theirs.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{
    ChannelBinding, DeviceKey, Fields, IdentityError, IdentityKey, KEY_BYTES, RelayPin, RoomId, SIGNATURE_BYTES,
    TicketKey, binding::Domains, check_time, fixed, from_text, to_text,
};
use crate::limits;

const TICKET_DOMAIN: &[u8] = b"supernode/1 ticket\0";
const PRESENT: Domains =
    Domains { tls_exporter: b"supernode/1 present\0", relay_nonce: b"supernode/1 present, by nonce\0" };
const RING_DOMAIN: &[u8] = b"supernode/1 ring\0";
const FORMAT_1: u8 = 1;
const KIND_IDENTITY: u8 = 0;
const KIND_KEY: u8 = 1;
const ANY_RELAY: [u8; 32] = [0; 32];

/// What a ticket allows its holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grants(u8);

impl Grants {
    /// See the issuer's presence.
    pub const PRESENCE: Self = Self(1);
    /// Ring the issuer.
    pub const RING: Self = Self(2);

    /// Whether all of `other` is granted.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Grants {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Who may use a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// This person, on any device of theirs.
    Identity(IdentityKey),
    /// Whoever has the secret half of this key, and signs with it on each connection. A relay that is shown the ticket
    /// does not have it.
    Key(TicketKey),
}

/// A grant by an identity: who may see its presence or ring it, at which relay, until when. The relay checks it and
/// keeps nothing.
///
/// Layout, [`Self::BYTES`] in all: format 1 (1), issuer (32), kind of holder (1: 0 identity, 1 key), holder (32), relay
/// pin (32, zeros for any relay), grants (1), generation (4), not after in Unix seconds (8), id (8), signature by the
/// issuer (64).
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Whose presence, who rings.
    pub issuer: IdentityKey,
    /// Who may use it.
    pub holder: Holder,
    /// The one relay at which it is of use, or `None` for any.
    pub relay: Option<RelayPin>,
    /// What it allows.
    pub grants: Grants,
    /// The issuer takes all tickets of a generation back by going on to the next one.
    pub generation: u32,
    /// Last second it holds, Unix time.
    pub not_after_unix_s: u64,
    /// Random, tells tickets apart.
    pub id: [u8; 8],
    /// By the issuer, over [`Self::signing_input`].
    pub signature: [u8; SIGNATURE_BYTES],
}

/// Whoever uses a ticket, as the one who checks it knows them.
#[derive(Debug, Clone, Copy)]
pub struct Presenter {
    /// Who.
    pub identity: IdentityKey,
    /// On which device.
    pub device: DeviceKey,
}

impl Ticket {
    /// Bytes on the wire.
    pub const BYTES: usize = 1 + Self::BODY_BYTES + SIGNATURE_BYTES;
    const BODY_BYTES: usize = KEY_BYTES + 1 + KEY_BYTES + 32 + 1 + 4 + 8 + 8;
    const TEXT_PREFIX: &str = "sn-ticket-";

    /// What the issuer signs; `self.signature` plays no part.
    pub fn signing_input(&self) -> Vec<u8> {
        [TICKET_DOMAIN, &self.body()].concat()
    }

    fn body(&self) -> Vec<u8> {
        let (kind, holder) = match &self.holder {
            Holder::Identity(identity) => (KIND_IDENTITY, identity.as_bytes()),
            Holder::Key(key) => (KIND_KEY, key.as_bytes()),
        };
        [
            &self.issuer.as_bytes()[..],
            &[kind],
            holder,
            &self.relay.map_or(ANY_RELAY, |relay| relay.0),
            &[self.grants.0],
            &self.generation.to_be_bytes(),
            &self.not_after_unix_s.to_be_bytes(),
            &self.id,
        ]
        .concat()
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
        let mut fields = Fields::new("ticket", bytes, Self::BYTES)?;
        let issuer = IdentityKey(fields.take());
        let [kind] = fields.take();
        let holder = match kind {
            KIND_IDENTITY => Holder::Identity(IdentityKey(fields.take())),
            KIND_KEY => Holder::Key(TicketKey(fields.take())),
            value => return Err(IdentityError::Unknown { field: "holder", value }),
        };
        let relay = fields.take();
        let [grants] = fields.take();
        if grants & !(Grants::PRESENCE | Grants::RING).0 != 0 {
            return Err(IdentityError::Unknown { field: "grants", value: grants });
        }
        Ok(Self {
            issuer,
            holder,
            relay: (relay != ANY_RELAY).then_some(RelayPin(relay)),
            grants: Grants(grants),
            generation: u32::from_be_bytes(fields.take()),
            not_after_unix_s: u64::from_be_bytes(fields.take()),
            id: fields.take(),
            signature: fields.take(),
        })
    }

    /// Text to hand to somebody.
    pub fn to_text(&self) -> String {
        to_text(Self::TEXT_PREFIX, &self.to_bytes())
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// As [`Self::from_bytes`], or [`IdentityError::Text`].
    pub fn from_text(text: &str) -> Result<Self, IdentityError> {
        Self::from_bytes(&from_text("ticket", Self::TEXT_PREFIX, text)?)
    }

    /// Whether the issuer signed it and it holds at `now_unix_s`. Who holds it, what it grants and where is the caller's
    /// to check.
    ///
    /// # Errors
    /// [`IdentityError::Expired`], [`IdentityError::TooLong`] or [`IdentityError::Signature`].
    pub fn verify(&self, now_unix_s: u64) -> Result<(), IdentityError> {
        check_time("ticket", self.not_after_unix_s, now_unix_s, limits::TICKET_LIFETIME_S_MAX)?;
        self.issuer.verify("ticket", &self.signing_input(), &self.signature)
    }

    /// Whether it grants all of this, at this relay.
    pub fn allows(&self, grants: Grants, relay: &RelayPin) -> bool {
        self.grants.contains(grants) && self.relay.is_none_or(|named| named == *relay)
    }

    /// Whether `presenter` may use it on the connection with this binding: as its holder, or by the `proof` of its key
    ///
    ///
    /// # Errors
    /// [`IdentityError::Holder`], [`IdentityError::Length`] or [`IdentityError::Signature`].
    pub fn verify_presented(
        &self,
        presenter: &Presenter,
        binding: &ChannelBinding,
        proof: &[u8],
    ) -> Result<(), IdentityError> {
        self.verify_holder(presenter, proof, || present_signing_input(self, binding, &presenter.device))
    }

    /// As [`Self::verify_presented`], from end to end: whether `presenter` may ring by it, into this group of caller and
    /// callee, at this time.
    ///
    /// # Errors
    /// As [`Self::verify_presented`].
    pub fn verify_ring(
        &self,
        presenter: &Presenter,
        group: &RoomId,
        unix_s: u64,
        proof: &[u8],
    ) -> Result<(), IdentityError> {
        self.verify_holder(presenter, proof, || ring_signing_input(self, group, unix_s, &presenter.device))
    }

    fn verify_holder(
        &self,
        presenter: &Presenter,
        proof: &[u8],
        input: impl FnOnce() -> Vec<u8>,
    ) -> Result<(), IdentityError> {
        match &self.holder {
            Holder::Identity(holder) if *holder == presenter.identity => Ok(()),
            Holder::Identity(_) => Err(IdentityError::Holder),
            Holder::Key(key) => key.verify("ticket proof", &input(), &fixed("ticket proof", proof)?),
        }
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

/// What a ticket's key signs to show the ticket to a relay: this relay, this one connection, this device.
pub fn present_signing_input(ticket: &Ticket, binding: &ChannelBinding, device: &DeviceKey) -> Vec<u8> {
    [binding.domain(&PRESENT), &binding.relay().0, binding.value(), device.as_bytes(), &ticket.digest()].concat()
}

/// What a ticket's key signs to show the ticket to whoever is rung: the group that the ring's Welcome leads into, the
/// time of the ring, and the device that rings.
pub fn ring_signing_input(ticket: &Ticket, group: &RoomId, unix_s: u64, device: &DeviceKey) -> Vec<u8> {
    [RING_DOMAIN, &group.0, &unix_s.to_be_bytes(), device.as_bytes(), &ticket.digest()].concat()
}
