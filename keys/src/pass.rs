//! A ticket in the hand of whoever may use it: with its key's secret half, unless it is made out to a person.

use std::{fmt, sync::Arc};

use data_encoding::{Encoding, Specification};
use supernode_proto::identity::{ChannelBinding, DeviceKey, Holder, IdentityError, IdentityKey, RoomId, Ticket};
use zeroize::Zeroizing;

use crate::secret::TicketSecret;

const SEED_BYTES: usize = 32;
const TEXT_PREFIX: &str = "sn-pass-";

/// What one person hands to another so that these can see them or ring them. Text that begins with `sn-ticket-` is of use
/// to one person only and no secret; text that begins with `sn-pass-` is of use to whoever has it.
#[derive(Clone)]
pub struct Pass {
    pub(crate) ticket: Ticket,
    pub(crate) key: Option<Arc<TicketSecret>>,
}

impl Pass {
    /// A ticket and what goes with it.
    ///
    /// # Errors
    /// [`IdentityError::Holder`] for a ticket with a key of which `key` is not the secret half, or one that is made out to
    /// somebody and comes with a key.
    pub fn new(ticket: Ticket, key: Option<TicketSecret>) -> Result<Self, IdentityError> {
        match (&ticket.holder, &key) {
            (Holder::Identity(_), None) => {}
            (Holder::Key(public), Some(key)) if key.public() == *public => {}
            _ => return Err(IdentityError::Holder),
        }
        Ok(Self { ticket, key: key.map(Arc::new) })
    }

    /// The ticket, which a relay and whoever is rung are shown.
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Whose it is.
    pub fn issuer(&self) -> IdentityKey {
        self.ticket.issuer
    }

    /// What shows a relay that it is ours, on one connection; nothing where the Hello says who we are.
    pub fn show_to_relay(&self, binding: &ChannelBinding, device: &DeviceKey) -> Vec<u8> {
        let proof = |key: &Arc<TicketSecret>| key.sign_presented(&self.ticket, binding, device).to_vec();
        self.key.as_ref().map(proof).unwrap_or_default()
    }

    /// What shows whoever is rung that it is ours; nothing where our leaf says who we are.
    pub fn show_in_ring(&self, group: &RoomId, unix_s: u64, device: &DeviceKey) -> Vec<u8> {
        let proof = |key: &Arc<TicketSecret>| key.sign_ring(&self.ticket, group, unix_s, device).to_vec();
        self.key.as_ref().map(proof).unwrap_or_default()
    }

    /// The ticket, and behind it the secret half of its key if it has one.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(Ticket::BYTES + SEED_BYTES));
        bytes.extend_from_slice(&self.ticket.to_bytes());
        if let Some(key) = &self.key {
            bytes.extend_from_slice(&*key.to_bytes());
        }
        bytes
    }

    /// Reads [`Self::to_bytes`]; nothing is verified yet.
    ///
    /// # Errors
    /// As [`Ticket::from_bytes`] and [`Self::new`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IdentityError> {
        let (ticket, seed) = bytes.split_at_checked(Ticket::BYTES).unwrap_or((bytes, &[]));
        let key = match seed {
            [] => None,
            seed => {
                let length =
                    IdentityError::Length { field: "pass", length: bytes.len(), bound: ticket.len() + SEED_BYTES };
                let seed: Zeroizing<[u8; SEED_BYTES]> = Zeroizing::new(seed.try_into().map_err(|_| length)?);
                Some(TicketSecret::from_bytes(&seed))
            }
        };
        Self::new(Ticket::from_bytes(ticket)?, key)
    }

    /// Text to hand to whom it is for.
    pub fn to_text(&self) -> Zeroizing<String> {
        match self.key {
            None => Zeroizing::new(self.ticket.to_text()),
            Some(_) => Zeroizing::new(format!("{TEXT_PREFIX}{}", base32().encode(&self.to_bytes()))),
        }
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// As [`Self::from_bytes`], or [`IdentityError::Text`].
    pub fn from_text(text: &str) -> Result<Self, IdentityError> {
        let text = text.trim();
        let Some(encoded) = text.strip_prefix(TEXT_PREFIX) else {
            return Self::new(Ticket::from_text(text)?, None);
        };
        let bytes = base32().decode(encoded.as_bytes()).map_err(|_| IdentityError::Text { field: "pass" })?;
        Self::from_bytes(&Zeroizing::new(bytes))
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pass(..)")
    }
}

/// As the names of people: lower case, without padding.
fn base32() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification.encoding().expect("32 distinct symbols make a valid specification")
}

#[cfg(all(test, feature = "generate"))]
mod tests {
    use supernode_proto::identity::Grants;

    use super::*;
    use crate::{IdentitySecret, Terms};

    const TERMS: Terms = Terms { grants: Grants::RING, relay: None, generation: 0, not_after_unix_s: 1_900_000_000 };

    #[test]
    fn a_pass_comes_back_from_its_text_and_bytes_with_its_key_or_without() {
        let [alice, bob] = [(), ()].map(|()| IdentitySecret::generate());
        for (pass, prefix) in
            [(alice.issue_pass(&TERMS), "sn-pass-"), (alice.issue_pass_for(bob.public(), &TERMS), "sn-ticket-")]
        {
            let text = pass.to_text();
            assert!(text.starts_with(prefix));
            let back = Pass::from_text(&text).expect("its own text");
            assert_eq!(*back.to_bytes(), *pass.to_bytes());
            assert_eq!(*Pass::from_bytes(&pass.to_bytes()).expect("its own bytes").to_bytes(), *pass.to_bytes());
            assert_eq!(format!("{pass:?}"), "Pass(..)");
        }
    }

    #[test]
    fn a_ticket_with_a_key_is_no_pass_without_that_key() {
        let ticket = IdentitySecret::generate().issue_pass(&TERMS).ticket().clone();
        assert_eq!(Pass::from_text(&ticket.to_text()).map(drop), Err(IdentityError::Holder));
        assert_eq!(Pass::new(ticket, Some(TicketSecret::generate())).map(drop), Err(IdentityError::Holder));
        assert!(Pass::from_bytes(&[1; 200]).is_err() && Pass::from_text("sn-pass-!").is_err());
    }
}
