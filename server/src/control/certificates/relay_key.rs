//! Rotation of the relay's own key, by whose pin links know it.
//!
//! The new key is shown at once, to everybody. Behind its certificate come, for whoever has a link to an earlier pin, a
//! certificate of the new key by the key before it, which ends when the operator said, and that key's own certificate. So a
//! client follows the signatures from the key that it is shown to the one that it knows. Nothing has to be
//! announced, nobody is asked by which name to show what, and when the time is over nothing happens: clients look at the
//! date. The secret half of the earlier key is gone with the rotation.
//!
//! `relay-keys-before.pem` in the state directory has these certificates, the newest first.

use std::path::PathBuf;

use data_encoding::BASE64;
use rcgen::{CertificateParams, DnType, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest as _, Sha256};
use supernode_proto::{identity::RelayPin, troubles};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, time::ASN1Time};

use crate::control::state_dir::{StateDir, StateError, TLS_CERTIFICATE, TLS_KEY, self_signed};

const BEFORE: &str = "relay-keys-before.pem";
const BY_AUTHORITY: &str = "acme-certificate.pem";
/// Each adds two certificates, 0.8 kB, to every handshake, of which a server may send 3.6 kB before the client has proven
/// its address (RFC 9000 section 8.1).
const BEFORE_MAX: usize = 2;
/// A certificate is good from some time before it was made, for clients whose clock is slow.
const SLOW_CLOCK_S: u64 = 24 * 3600;

troubles! {
    /// Why no key was rotated.
    pub RotateKeyError as WORDS, through State(StateError):
    TooMany { left_s: u64 }, "{bound} earlier pins are still good, the first of them for {left_s} s" with (bound = BEFORE_MAX),
        "each adds two certificates to every handshake, which has room for no more", "wait until the first of them ends";
    ByAuthority, "{file}: an authority has signed the present key, and links know the relay by its name" with (file = BY_AUTHORITY),
        "clients would not follow to another key",
        "leave it; if the key has leaked, stop the relay, remove the file that is named, tls-key.pem and tls-certificate.pem, and start it: it orders another";
}

/// What leads from an earlier key to the next one.
#[derive(Debug, Clone)]
struct Crossing {
    /// The next key's certificate, by the earlier one.
    next: CertificateDer<'static>,
    /// The earlier one's own.
    own: CertificateDer<'static>,
    ends_unix_s: u64,
}

/// The files that a rotation changes.
pub(crate) fn files(state: &StateDir) -> Vec<PathBuf> {
    [TLS_KEY, TLS_CERTIFICATE, BEFORE].map(|name| state.path_of(name)).to_vec()
}

/// What is to come behind the relay's own certificate, and the earlier pins that are still good.
///
/// # Errors
/// See [`StateError`].
pub fn before(state: &StateDir, now_unix_s: u64) -> Result<(Vec<CertificateDer<'static>>, Vec<RelayPin>), StateError> {
    let crossings = crossings(state, now_unix_s)?;
    let pins = crossings.iter().filter_map(|crossing| pin_of(&crossing.own)).collect();
    Ok((crossings.into_iter().flat_map(|crossing| [crossing.next, crossing.own]).collect(), pins))
}

/// Makes a new key; clients that know the present one accept it for `keep_s` seconds. Returns the new pin.
///
/// # Errors
/// See [`RotateKeyError`].
pub fn rotate_relay_key(state: &StateDir, keep_s: u64, now_unix_s: u64) -> Result<RelayPin, RotateKeyError> {
    if state.read(BY_AUTHORITY)?.is_some() {
        return Err(RotateKeyError::ByAuthority);
    }
    let keys = state.keys()?;
    let mut before = crossings(state, now_unix_s)?;
    if before.len() >= BEFORE_MAX {
        let first = before.iter().map(|crossing| crossing.ends_unix_s).min().unwrap_or(now_unix_s);
        return Err(RotateKeyError::TooMany { left_s: first - now_unix_s });
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(StateError::from)?;
    let ends_unix_s = now_unix_s.saturating_add(keep_s);
    let next = certified(&key, keys.tls_key, now_unix_s.saturating_sub(SLOW_CLOCK_S), ends_unix_s)?;
    before.insert(0, Crossing { next, own: keys.tls_certificate, ends_unix_s });
    let ders = before.iter().flat_map(|crossing| [&crossing.next, &crossing.own]);
    let text: String = ders.map(to_pem).collect();
    // The key comes last: whoever looks in between finds that the two do not belong together, and waits.
    let certificate = self_signed(&key)?;
    state.replace(BEFORE, &text)?;
    state.replace(TLS_CERTIFICATE, &certificate)?;
    state.replace(TLS_KEY, &key.serialize_pem())?;
    Ok(RelayPin::of_spki(&key.subject_public_key_info()))
}

fn certified(
    key: &KeyPair,
    by: KeyPair,
    begins_unix_s: u64,
    ends_unix_s: u64,
) -> Result<CertificateDer<'static>, StateError> {
    let name = |mut params: CertificateParams| {
        params.distinguished_name.push(DnType::CommonName, "supernode relay");
        params
    };
    let mut params = name(CertificateParams::default());
    params.serial_number =
        Some(serial(key, &[&by.subject_public_key_info()[..], &begins_unix_s.to_be_bytes()].concat()));
    let time = |unix_s: u64| ASN1Time::from_timestamp(unix_s as i64).map(|time| time.to_datetime()).ok();
    if let (Some(begins), Some(ends)) = (time(begins_unix_s), time(ends_unix_s)) {
        (params.not_before, params.not_after) = (begins, ends);
    }
    Ok(params.signed_by(key, &Issuer::new(name(CertificateParams::default()), by))?.der().clone())
}

/// The number of a certificate that is of this key and of what else tells it from others: no two of one issuer may have the same
/// (RFC 5280 section 4.1.2.2). Firefox refuses the second one as long as it remembers the first.
pub(super) fn serial(key: &KeyPair, else_of_it: &[u8]) -> SerialNumber {
    let mut hash = Sha256::new_with_prefix(key.subject_public_key_info());
    hash.update(else_of_it);
    // Twenty bytes at most, and no negative number.
    let mut number = hash.finalize()[..20].to_vec();
    number[0] &= 0x7f;
    SerialNumber::from(number)
}

/// Those that have not ended.
fn crossings(state: &StateDir, now_unix_s: u64) -> Result<Vec<Crossing>, StateError> {
    let broken = || state.broken(BEFORE, "is no list of certificates in PEM form, two for each earlier key");
    let text = state.read(BEFORE)?.unwrap_or_default();
    let ders = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(|_| broken())?;
    let mut crossings = Vec::new();
    for pair in ders.chunks(2) {
        let [next, own] = pair else { return Err(broken()) };
        let (_, certificate) = X509Certificate::from_der(next).map_err(|_| broken())?;
        let ends_unix_s = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        pin_of(own).ok_or_else(broken)?;
        crossings.push(Crossing { next: next.clone(), own: own.clone(), ends_unix_s });
    }
    crossings.retain(|crossing| now_unix_s < crossing.ends_unix_s);
    Ok(crossings)
}

/// RFC 7468.
pub(super) fn to_pem(der: &CertificateDer<'static>) -> String {
    let mut spec = BASE64.specification();
    (spec.wrap.width, spec.wrap.separator) = (64, "\n".to_owned());
    let body = spec.encoding().map_or_else(|_| BASE64.encode(der) + "\n", |wrapped| wrapped.encode(der));
    format!("-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
}

fn pin_of(certificate: &CertificateDer<'_>) -> Option<RelayPin> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(RelayPin::of_spki(certificate.public_key().raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{serve::unix_now_s, tls::relay_pin};

    const DAY: u64 = 86_400;

    //
    #[test]
    fn a_new_key_is_vouched_for_by_the_one_before_it_up_to_its_end() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::create(home.path()).expect("a directory");
        let first = relay_pin(&state.keys_or_create().expect("keys"));
        let now = unix_now_s();
        assert_eq!(before(&state, now).expect("none"), (Vec::new(), Vec::new()));
        let second = rotate_relay_key(&state, 7 * DAY, now).expect("rotated");
        let keys = state.keys().expect("they belong together");
        assert_eq!(relay_pin(&keys), second);
        assert_ne!(first, second);
        let (chain, pins) = before(&state, now).expect("one");
        assert_eq!((chain.len(), pins), (2, vec![first]));
        assert_eq!(pin_of(&chain[0]), Some(second), "it is the new key's");
        let bytes: usize = chain.iter().map(|der| der.len()).sum();
        assert!(bytes <= 850, "{bytes} bytes");
        assert!(before(&state, now + 7 * DAY).expect("ended").0.is_empty());

        let third = rotate_relay_key(&state, 9 * DAY, now).expect("rotated");
        assert_eq!(before(&state, now).expect("two").1, [second, first]);
        let refused = rotate_relay_key(&state, DAY, now);
        assert!(matches!(refused, Err(RotateKeyError::TooMany { left_s }) if left_s == 7 * DAY));
        assert_eq!(before(&state, now + 8 * DAY).expect("one").1, [second]);
        assert_eq!(relay_pin(&state.keys().expect("keys")), third);
    }

    #[test]
    fn a_key_that_an_authority_has_signed_stays() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::create(home.path()).expect("a directory");
        state.keys_or_create().expect("keys");
        state.replace(BY_AUTHORITY, "").expect("written");
        assert!(matches!(rotate_relay_key(&state, DAY, unix_now_s()), Err(RotateKeyError::ByAuthority)));
    }
}
