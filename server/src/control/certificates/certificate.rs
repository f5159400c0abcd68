//! The certificate that the relay shows, wherever it comes from.

use std::{
    io,
    path::{Path, PathBuf},
};

use rcgen::PublicKeyData;
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use supernode_proto::{identity::RelayPin, troubles};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use crate::control::{files, state_dir::KeyMaterial};

/// A chain and its key are a few KiB; more than this is some other file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

troubles! {
    /// Why there is no certificate. Every message names the file.
    pub CertificateError as WORDS:
    Read { path: PathBuf, source: io::Error }, "{path}: cannot read it",
        "the file of the certificate or its key is not there, or this user may not read it",
        "compare the path in tls.certificate or tls.key, and let the relay's user read the file";
    Content { path: PathBuf, reason: &'static str }, "{path}: {reason}",
        "the file of the certificate or its key holds something else, or is damaged",
        "put the right file there, in PEM form; `supernode check-config` tries it";
    Mismatch { certificate: PathBuf, key: PathBuf }, "{key}: is not the private key of the certificate in {certificate}",
        "one of them was renewed without the other, or the paths are mixed up",
        "put both of one order there: the certificate first, then the key";
}

/// A certificate with its key, checked: they belong together.
#[derive(Clone)]
pub struct Certificate {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: std::sync::Arc<PrivateKeyDer<'static>>,
    /// SHA-256 of its public key: the name for which a Hello signs.
    pub pin: RelayPin,
    /// Host names for which it is good.
    pub names: Vec<String>,
    /// Its last second, Unix time.
    pub not_after_unix_s: u64,
    /// Whether clients check it by the authorities that they trust, and not by its pin.
    pub by_authority: bool,
}

impl Certificate {
    /// The one that the relay makes for itself: clients know it by its pin.
    ///
    /// # Errors
    /// [`CertificateError::Content`] when the state directory holds something else.
    pub fn self_signed(keys: &KeyMaterial) -> Result<Self, CertificateError> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(keys.tls_key.serialize_der()));
        let pin = RelayPin::of_spki(&keys.tls_key.subject_public_key_info());
        let own = Self::new(vec![keys.tls_certificate.clone()], key, false);
        own.filter(|own| own.pin == pin).ok_or(CertificateError::Content {
            path: "tls-certificate.pem".into(),
            reason: "is not of the key in tls-key.pem; remove it and a new one is made",
        })
    }

    /// Another one of the relay's own key; `None` if it is of some other key.
    pub(super) fn of_own_key(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Option<Self> {
        let chain = vec![certificate];
        Self::belongs(&chain, &key)?;
        Self::new(chain, key, false)
    }

    /// With these behind it in what is shown.
    #[must_use]
    pub fn followed_by(mut self, more: Vec<CertificateDer<'static>>) -> Self {
        self.chain.extend(more);
        self
    }

    /// The one in these two PEM files.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let content = |path: &Path| {
            let path = path.to_owned();
            move |reason| CertificateError::Content { path, reason }
        };
        let (chain_pem, key_pem) = (read(certificate)?, read(key)?);
        let chain = chain_of(&chain_pem).ok_or_else(|| no_certificate(&chain_pem)).map_err(content(certificate))?;
        let key_der =
            PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| no_private_key(&key_pem)).map_err(content(key))?;
        if Self::belongs(&chain, &key_der).is_none() {
            // Whose key it is instead, if it is that of another one in the file.
            let other = chain.iter().any(|one| Self::belongs(std::slice::from_ref(one), &key_der).is_some());
            return Err(match other {
                true => content(certificate)(
                    "does not begin with the relay's own certificate, the one of the key: put \
                                              it first, then each one's signer",
                ),
                false => CertificateError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() },
            });
        }
        if X509Certificate::from_der(&chain[0]).is_ok_and(|(_, own)| own.is_ca()) {
            return Err(content(certificate)(
                "begins with an authority's certificate (CA:TRUE), which no client takes \
                                             for a relay's: have it sign one for the relay",
            ));
        }
        Self::new(chain, key_der, true).ok_or_else(|| content(certificate)("holds a certificate that cannot be read"))
    }

    /// One that an authority has signed for the relay's own key, in PEM form.
    pub fn signed_by_authority(chain_pem: &[u8], keys: &KeyMaterial) -> Option<Self> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(keys.tls_key.serialize_der()));
        let chain = chain_of(chain_pem)?;
        Self::belongs(&chain, &key)?;
        Self::new(chain, key, true)
    }

    /// The private key.
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// Seconds from `now_unix_s` to its end; negative once it has run out.
    pub fn left_s(&self, now_unix_s: u64) -> i64 {
        self.not_after_unix_s as i64 - now_unix_s as i64
    }

    fn belongs(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> Option<()> {
        let signing = aws_lc_rs::sign::any_supported_type(key).ok()?;
        CertifiedKey::new(chain.to_vec(), signing).keys_match().ok()
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>, by_authority: bool) -> Option<Self> {
        let (_, end_entity) = X509Certificate::from_der(chain.first()?).ok()?;
        let names = names_of(&end_entity);
        let pin = RelayPin::of_spki(end_entity.public_key().raw);
        let not_after_unix_s = u64::try_from(end_entity.validity().not_after.timestamp()).unwrap_or(0);
        Some(Self { pin, names, not_after_unix_s, by_authority, key: key.into(), chain })
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate(..)")
    }
}

/// Host names for which a certificate is good.
pub(crate) fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Some(names) = certificate.subject_alternative_name().ok().flatten() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(name).collect()
}

fn chain_of(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok()?;
    (!chain.is_empty()).then_some(chain)
}

/// What is there instead of a certificate.
fn no_certificate(bytes: &[u8]) -> &'static str {
    match odd(bytes) {
        Some(odd) => odd,
        None if has(bytes, "PRIVATE KEY-----") => "holds a private key and no certificate: are the two files swapped?",
        None => "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----), or a broken one",
    }
}

/// What is there instead of a key.
fn no_private_key(bytes: &[u8]) -> &'static str {
    match odd(bytes) {
        Some(odd) => odd,
        None if has(bytes, "ENCRYPTED") => {
            "holds a key that is encrypted with a passphrase, and nobody is there to type one: decrypt it (openssl pkey \
             -in OLD -out NEW) and keep it from other users (chmod 600)"
        }
        None if has(bytes, "BEGIN CERTIFICATE-----") => {
            "holds a certificate and no private key: are the two files swapped?"
        }
        None => "holds no private key in PEM form (-----BEGIN PRIVATE KEY-----), or a broken one",
    }
}

/// What is no plain text.
fn odd(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [] => Some("is empty"),
        [0xef, 0xbb, 0xbf, ..] | [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            Some("begins with a byte order mark, as some editors write it: save it as plain text (ASCII)")
        }
        [0x30, 0x80..=0x84, ..] => {
            Some("is in DER form, and PEM is wanted: openssl x509 or openssl pkey turn it, -inform DER")
        }
        _ => None,
    }
}

fn has(bytes: &[u8], words: &str) -> bool {
    bytes.windows(words.len()).any(|window| window == words.as_bytes())
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |source| CertificateError::Read { path: path.to_owned(), source };
    files::read(path, FILE_BYTES_MAX).map_err(failed)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    use super::*;

    /// What is said to these two files.
    fn said(chain: &[u8], key: &[u8]) -> String {
        let home = tempfile::tempdir().expect("a temporary directory");
        let (chain_file, key_file) = (home.path().join("chain.pem"), home.path().join("key.pem"));
        std::fs::write(&chain_file, chain).expect("ours");
        std::fs::write(&key_file, key).expect("ours");
        Certificate::from_files(&chain_file, &key_file).expect_err("of no use").to_string()
    }

    #[test]
    fn what_is_wrong_with_the_two_files_is_named_with_the_file() {
        let (ca_key, own_key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let mut ca = CertificateParams::new(Vec::new()).expect("valid");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).expect("signed").pem();
        let own = CertificateParams::new(vec!["relay.example".to_owned()]).expect("valid");
        let own = own.signed_by(&own_key, &Issuer::from_params(&ca, &ca_key)).expect("signed");
        let (leaf, key) = (own.pem(), own_key.serialize_pem());
        let marked = |text: &str| [b"\xef\xbb\xbf", text.as_bytes()].concat();
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let traditional =
            "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIB\n-----END EC PRIVATE KEY-----\n";
        for (chain, key, file, words) in [
            (leaf.as_bytes(), encrypted.as_bytes(), "key.pem", "encrypted with a passphrase"),
            (leaf.as_bytes(), traditional.as_bytes(), "key.pem", "encrypted with a passphrase"),
            (&marked(&leaf), key.as_bytes(), "chain.pem", "byte order mark"),
            (leaf.as_bytes(), &marked(&key), "key.pem", "byte order mark"),
            (format!("{ca_pem}{leaf}").as_bytes(), key.as_bytes(), "chain.pem", "put it first"),
            (ca_pem.as_bytes(), ca_key.serialize_pem().as_bytes(), "chain.pem", "CA:TRUE"),
            (key.as_bytes(), key.as_bytes(), "chain.pem", "swapped"),
            (leaf.as_bytes(), leaf.as_bytes(), "key.pem", "swapped"),
            (own.der(), key.as_bytes(), "chain.pem", "DER"),
            (leaf.as_bytes(), b"", "key.pem", "is empty"),
            (leaf.as_bytes(), ca_key.serialize_pem().as_bytes(), "key.pem", "is not the private key"),
        ] {
            let said = said(chain, key);
            assert!(said.contains(words) && said.contains(file), "{words}: {said}");
        }
    }
}
