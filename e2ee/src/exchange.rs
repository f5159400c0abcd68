//! How a group agrees on its keys, and what a device offers so that others can bring it into one.

use std::fmt;

use openmls::prelude::tls_codec::DeserializeBytes as _;
use openmls::prelude::{Ciphersuite, KeyPackageIn, LeafNode, MlsMessageBodyIn, MlsMessageIn, VerifiableCiphersuite};
use supernode_proto::limits;
use supernode_proto::mls::{read_vector, write_vector};

use crate::error::{Error, check_length};

/// Largest group with [`KeyExchange::XWing`]: a commit seals 1.2 kB for each member who has made none since
/// they came, and the largest must fit a message of the mailbox. Unit: devices.
pub const X_WING_MEMBERS_MAX: usize = 40;
/// Key packages in one offer: one for each key exchange there may be, and room for newer ones.
const PACKAGES_MAX: usize = 4;

/// How the members of a group agree on its keys. The rest of both MLS suites is the same: AES-128-GCM, SHA-256, Ed25519
///
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum KeyExchange {
    /// ML-KEM-768 and X25519 together (draft-connolly-cfrg-xwing-kem): holds as long as one of both does, also against
    /// whoever records today what a machine of the future breaks. At most [`X_WING_MEMBERS_MAX`] devices.
    #[default]
    XWing,
    /// X25519 alone, whatever the size of the group.
    X25519,
}

impl KeyExchange {
    /// Both, the better one first.
    pub const ALL: [Self; 2] = [Self::XWing, Self::X25519];

    pub(crate) const fn suite(self) -> Ciphersuite {
        match self {
            Self::XWing => Ciphersuite::MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519,
            Self::X25519 => Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519,
        }
    }

    pub(crate) fn of_suite(suite: Ciphersuite) -> Option<Self> {
        Self::ALL.into_iter().find(|exchange| exchange.suite() == suite)
    }

    /// Whether a leaf says, signed, that its device can use it.
    pub(crate) fn is_said_by(self, leaf: &LeafNode) -> bool {
        leaf.capabilities().ciphersuites().contains(&VerifiableCiphersuite::from(self.suite()))
    }
}

impl fmt::Display for KeyExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::XWing => "X-Wing",
            Self::X25519 => "X25519",
        })
    }
}

/// By what a group's keys are agreed on, and why by nothing better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// By what.
    pub exchange: KeyExchange,
    /// How many devices there are.
    pub devices: usize,
    /// How many of them cannot [`KeyExchange::XWing`], by what their leaves say.
    pub without_x_wing: usize,
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.exchange, self.without_x_wing) {
            (KeyExchange::XWing, _) => f.write_str("X-Wing"),
            (KeyExchange::X25519, 0) => f.write_str("X25519 only, because the room was opened so"),
            (KeyExchange::X25519, 1) => {
                write!(f, "X25519 only, because 1 of {} devices can no X-Wing", self.devices)
            }
            (KeyExchange::X25519, without) => {
                write!(f, "X25519 only, because {without} of {} devices can no X-Wing", self.devices)
            }
        }
    }
}

/// Key packages one behind the other, each behind its length.
pub(crate) fn write_offer(packages: &[Vec<u8>]) -> Vec<u8> {
    let mut offer = Vec::new();
    packages.iter().for_each(|package| write_vector(package, &mut offer));
    offer
}

/// The key packages of an offer that can be read: those for a key exchange that nobody knows yet cannot.
pub(crate) fn read_offer(offer: &[u8]) -> Result<Vec<KeyPackageIn>, Error> {
    const WHAT: &str = "a key package";
    check_length(WHAT, offer, limits::KEY_PACKAGE_BYTES_MAX)?;
    let (mut rest, mut packages) = (offer, Vec::new());
    for _ in 0..PACKAGES_MAX {
        let (package, after) = read_vector(rest).ok_or(Error::Malformed { what: WHAT })?;
        if let Ok(MlsMessageBodyIn::KeyPackage(package)) =
            MlsMessageIn::tls_deserialize_exact_bytes(package).map(MlsMessageIn::extract)
        {
            packages.push(package);
        }
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    if packages.is_empty() || !rest.is_empty() {
        return Err(Error::Malformed { what: WHAT });
    }
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_keys_are_is_said_in_words() {
        let said = |exchange, without_x_wing| Keys { exchange, devices: 3, without_x_wing }.to_string();
        assert_eq!(said(KeyExchange::XWing, 0), "X-Wing");
        assert_eq!(said(KeyExchange::X25519, 1), "X25519 only, because 1 of 3 devices can no X-Wing");
        assert_eq!(said(KeyExchange::X25519, 2), "X25519 only, because 2 of 3 devices can no X-Wing");
        assert_eq!(said(KeyExchange::X25519, 0), "X25519 only, because the room was opened so");
    }

    //
    #[test]
    fn an_offer_that_is_cut_short_too_long_or_empty_is_refused() {
        for offer in [&b""[..], b"\x05abc", b"\x00", b"\x01a", &write_offer(&vec![b"x".to_vec(); PACKAGES_MAX + 1])] {
            assert!(matches!(read_offer(offer), Err(Error::Malformed { .. })), "{offer:?}");
        }
    }
}
