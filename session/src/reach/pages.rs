//! What a page in a browser dials a relay by: it sees no certificate, but may demand one of some SHA-256
//! (`serverCertificateHashes`), and whoever tells it of certificates need not be believed.

use sha2::{Digest as _, Sha256};
use supernode_proto::identity::RelayPin;

use super::pin::{self, Signed};

/// A certificate that a page may demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demanded {
    /// SHA-256 of it, for the browser.
    pub sha256: [u8; 32],
    /// The pin of its key: the relay's name in what is signed ([`Channel::by_challenge`]).
    ///
    /// [`Channel::by_challenge`]: crate::Channel::by_challenge
    pub pin: RelayPin,
}

/// Those of the certificates that a page was told, each with what comes behind it, that are of the relay with this pin.
pub fn demanded(
    pin: &RelayPin,
    told: &[Vec<Vec<u8>>],
    now_unix_s: u64,
    is_good: impl Fn(Signed<'_>) -> bool,
) -> Vec<Demanded> {
    let of = |chain: &Vec<Vec<u8>>| {
        let (own, behind) = chain.split_first()?;
        pin::check(pin, own, behind.iter().map(Vec::as_slice), now_unix_s, &is_good).ok()?;
        Some(Demanded { sha256: Sha256::digest(own).into(), pin: pin::pin_of(own)? })
    };
    told.iter().filter_map(of).collect()
}
