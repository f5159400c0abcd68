//! Whether what a relay shows leads to the key that is meant: the pin is the relay's name, so a certificate's own names and
//! dates say nothing.

use supernode_proto::identity::RelayPin;
use x509_parser::certificate::X509Certificate;

/// Rotations of the relay's key that a client follows at once: as many as a relay shows.
const ROTATIONS_MAX: usize = 2;

/// Why a certificate is not the relay's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// It is no certificate (RFC 5280).
    #[error("what the relay shows is no certificate")]
    Malformed,
    /// It is of another key, for which the pinned one does not vouch.
    #[error("the relay's key is another one, and the one that is known has not certified it")]
    AnotherKey,
}

/// A signature that somebody with the arithmetic checks: ECDSA on P-256 with SHA-256, as all relays' own keys make it.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The public key, an uncompressed point.
    pub key: &'a [u8],
    /// What is signed.
    pub message: &'a [u8],
    /// The signature, in DER.
    pub signature: &'a [u8],
}

/// The pin of a certificate's key; `None` for what is no certificate.
pub fn pin_of(certificate: &[u8]) -> Option<RelayPin> {
    parse(certificate).map(|certificate| RelayPin::of_spki(certificate.public_key().raw))
}

/// Whether the relay that shows `own`, and `behind` it others, is the one with this pin. Where the relay has a new
/// key, the pinned one has certified it, or one that it has certified, each with a certificate that is good now. A
/// relay shows these, and the earlier keys' own certificates, behind the one of its present key.
///
/// That the relay has the key of `own`, the handshake says.
///
/// # Errors
/// See [`PinError`].
pub fn check<'a>(
    pin: &RelayPin,
    own: &'a [u8],
    behind: impl Iterator<Item = &'a [u8]>,
    now_unix_s: u64,
    is_good: impl Fn(Signed<'_>) -> bool,
) -> Result<(), PinError> {
    let mut present = parse(own).ok_or(PinError::Malformed)?;
    if RelayPin::of_spki(present.public_key().raw) == *pin {
        return Ok(());
    }
    let shown: Vec<X509Certificate<'_>> = behind.take(2 * ROTATIONS_MAX).filter_map(parse).collect();
    let now = now_unix_s as i64;
    for _ in 0..ROTATIONS_MAX {
        let crossing = |earlier: &&X509Certificate<'_>| {
            earlier.public_key().raw != present.public_key().raw
                && shown.iter().any(|next| {
                    next.public_key().raw == present.public_key().raw
                        && (next.validity().not_before.timestamp()..next.validity().not_after.timestamp())
                            .contains(&now)
                        && is_good(Signed {
                            key: &earlier.public_key().subject_public_key.data,
                            message: next.tbs_certificate.as_ref(),
                            signature: &next.signature_value.data,
                        })
                })
        };
        let earlier = shown.iter().find(crossing).cloned().ok_or(PinError::AnotherKey)?;
        if RelayPin::of_spki(earlier.public_key().raw) == *pin {
            return Ok(());
        }
        present = earlier;
    }
    Err(PinError::AnotherKey)
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    x509_parser::parse_x509_certificate(der).ok().map(|(_, certificate)| certificate)
}
