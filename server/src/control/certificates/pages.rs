//! Certificates for pages in browsers, where no authority has signed the relay's: a browser takes one by its SHA-256 that the
//! page names, if it is of a P-256 key and good for two weeks at most (`serverCertificateHashes`).
//!
//! They are of the relay's own key, the one that invites name by its pin. So a page need not believe whoever tells it a
//! certificate: it compares the key with the pin, and whoever cannot prove in the handshake that it has the key
//! is refused. The next one is made while one is shown, and both are told, so what a page was told stays good for a period.
//!
//! `page-certificates.pem` in the state directory has the two, so that a restart or an upgrade changes nothing.

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, time::ASN1Time};

use super::{certificate::Certificate, relay_key};
use crate::control::state_dir::{KeyMaterial, StateDir, StateError};

const FILE: &str = "page-certificates.pem";
const DAY_S: u64 = 24 * 3600;
/// For so long one is shown. What a page was told before stays good as long again.
const PERIOD_S: u64 = 6 * DAY_S;
/// A certificate begins so long before it is shown, for whoever's clock is slow.
const EARLY_S: u64 = DAY_S / 2;
/// From its beginning to its end. Browsers take 14 days at most, with the first and the last second.
const LIFE_S: u64 = 13 * DAY_S;

/// The one that is shown to pages, and the next.
#[derive(Debug, Clone)]
pub struct PageCertificates {
    /// What is shown.
    pub shown: Certificate,
    /// What will be shown after it.
    pub next: Certificate,
    /// When the next one takes its place, Unix time.
    pub until_unix_s: u64,
}

impl PageCertificates {
    /// Those of the state directory that are still good, by new ones where they are not; of this key.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn at(state: &StateDir, keys: &KeyMaterial, now_unix_s: u64) -> Result<Self, StateError> {
        let stored = state.read(FILE)?.unwrap_or_default();
        // A file that holds something else is made again: nothing is lost that pages could not be told anew.
        let stored = CertificateDer::pem_slice_iter(stored.as_bytes()).filter_map(Result::ok);
        let mut certificates: Vec<(u64, Certificate)> = stored
            .filter_map(|der| Some((shown_from(&der)?, certificate(der, keys)?)))
            .filter(|(from, _)| now_unix_s < from + PERIOD_S && *from < now_unix_s + 2 * PERIOD_S)
            .collect();
        let kept = certificates.len();
        if certificates.first().is_none_or(|(from, _)| *from > now_unix_s) {
            certificates = vec![made(keys, now_unix_s)?];
        }
        if certificates.len() < 2 {
            let from = certificates.last().map_or(now_unix_s, |(from, _)| from + PERIOD_S);
            certificates.push(made(keys, from)?);
        }
        let [(from, shown), (_, next), ..] = &certificates[..] else {
            return Err(state.broken(FILE, "holds no certificate"));
        };
        if kept < 2 {
            let pem: String = [shown, next].map(|certificate| relay_key::to_pem(&certificate.chain[0])).concat();
            state.replace(FILE, &pem)?;
        }
        Ok(Self { shown: shown.clone(), next: next.clone(), until_unix_s: from + PERIOD_S })
    }

    /// Both, in the order in which they are shown.
    pub fn told(&self) -> [&CertificateDer<'static>; 2] {
        [&self.shown.chain[0], &self.next.chain[0]]
    }
}

/// One that is to be shown from then on.
fn made(keys: &KeyMaterial, from_unix_s: u64) -> Result<(u64, Certificate), StateError> {
    let der = signed(&keys.tls_key, from_unix_s)?;
    let certificate = certificate(der, keys).ok_or(rcgen::Error::CouldNotParseCertificate)?;
    Ok((from_unix_s, certificate))
}

fn signed(key: &KeyPair, from_unix_s: u64) -> Result<CertificateDer<'static>, rcgen::Error> {
    let mut params = CertificateParams::new(vec!["supernode.invalid".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "supernode relay, for pages");
    let begins = from_unix_s.saturating_sub(EARLY_S);
    params.serial_number = Some(relay_key::serial(key, &begins.to_be_bytes()));
    let time = |unix_s: u64| ASN1Time::from_timestamp(unix_s as i64).map(|time| time.to_datetime()).ok();
    if let (Some(begins), Some(ends)) = (time(begins), time(begins + LIFE_S)) {
        (params.not_before, params.not_after) = (begins, ends);
    }
    Ok(params.self_signed(key)?.into())
}

/// When one of ours is shown, by its beginning; `None` for what is none.
fn shown_from(der: &CertificateDer<'_>) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let begins = u64::try_from(certificate.validity().not_before.timestamp()).ok()?;
    Some(begins + EARLY_S)
}

/// With its key, if it is of this one.
fn certificate(der: CertificateDer<'static>, keys: &KeyMaterial) -> Option<Certificate> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(keys.tls_key.serialize_der()));
    Certificate::of_own_key(der, key)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sha2::{Digest as _, Sha256};
    use supernode_session::{
        pages::{Demanded, demanded},
        pin::Signed,
    };

    use super::*;
    use crate::control::{serve::unix_now_s, tls::relay_pin};

    fn fresh() -> (tempfile::TempDir, StateDir, KeyMaterial) {
        let home = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::create(home.path()).expect("a directory");
        let keys = state.keys_or_create().expect("keys");
        (home, state, keys)
    }

    fn dates(der: &CertificateDer<'_>) -> (u64, u64) {
        let (_, certificate) = X509Certificate::from_der(der).expect("a certificate");
        let validity = certificate.validity();
        (validity.not_before.timestamp() as u64, validity.not_after.timestamp() as u64)
    }

    //
    #[test]
    fn what_a_page_was_told_is_shown_for_a_period_more_and_never_for_two_weeks() {
        let (_home, state, keys) = fresh();
        let start = unix_now_s();
        let mut told: Vec<Vec<u8>> = Vec::new();
        let (mut all, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        for hour in 0..24 * 40 {
            let now = start + hour * 3600;
            let at = PageCertificates::at(&state, &keys, now).expect("certificates");
            let shown = at.shown.chain[0].to_vec();
            // Told six days ago, or from the beginning on.
            let then = told.get((hour as usize).saturating_sub(6 * 24)).cloned();
            let both: Vec<u8> = at.told().iter().flat_map(|der| der.to_vec()).collect();
            if let Some(then) = then {
                assert!(then.windows(shown.len()).any(|window| window == shown), "after {hour} hours");
            }
            told.push(both);
            for der in at.told() {
                let (begins, ends) = dates(der);
                assert!(ends - begins < 14 * DAY_S, "{begins} to {ends}");
                let (_, certificate) = X509Certificate::from_der(der).expect("a certificate");
                numbers.insert(certificate.raw_serial().to_vec());
                all.insert(der.to_vec());
            }
            let (begins, ends) = dates(&at.shown.chain[0]);
            assert!(begins <= now && now + PERIOD_S <= ends, "after {hour} hours");
            assert!(now < at.until_unix_s && at.until_unix_s <= now + PERIOD_S);
            assert_eq!(at.shown.pin, relay_pin(&keys));
        }
        // Of two of one number Firefox takes the first only.
        assert!(all.len() == numbers.len() && all.len() > 6, "{} certificates, {} numbers", all.len(), numbers.len());
    }

    //
    #[test]
    fn a_page_takes_only_certificates_of_the_key_that_it_knows() {
        let (_home, state, keys) = fresh();
        let now = unix_now_s();
        let pages = PageCertificates::at(&state, &keys, now).expect("certificates");
        let told = pages.told().map(|der| vec![der.to_vec()]);
        let nobody_vouches = |_: Signed<'_>| false;
        let taken = demanded(&relay_pin(&keys), &told, now, nobody_vouches);
        let expected = pages.told().map(|der| Demanded { sha256: Sha256::digest(der).into(), pin: relay_pin(&keys) });
        assert_eq!(taken, expected);
        let (_other_home, _, other) = fresh();
        assert_eq!(demanded(&relay_pin(&other), &told, now, nobody_vouches), []);
        // What leads from an earlier key to this one comes behind: there it is taken as at any client.
        let nothing = [vec![], vec![b"no certificate".to_vec()]];
        assert_eq!(demanded(&relay_pin(&keys), &nothing, now, nobody_vouches), []);
    }

    #[test]
    fn a_new_key_has_new_ones_and_a_broken_file_is_made_again() {
        let (_home, state, keys) = fresh();
        let now = unix_now_s();
        let first = PageCertificates::at(&state, &keys, now).expect("certificates");
        let again = PageCertificates::at(&state, &keys, now + 1).expect("certificates");
        assert_eq!(first.told(), again.told(), "a restart changes nothing");
        let other = KeyMaterial { tls_key: KeyPair::generate().expect("a key"), ..state.keys().expect("keys") };
        let of_other = PageCertificates::at(&state, &other, now).expect("certificates");
        assert_ne!(of_other.shown.pin, first.shown.pin);
        state.replace(FILE, "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n").expect("written");
        let anew = PageCertificates::at(&state, &keys, now).expect("certificates");
        assert_eq!(anew.shown.pin, first.shown.pin);
    }
}
