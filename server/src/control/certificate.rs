//! The certificate that the relay shows, wherever it comes from.

use std::path::{Path, PathBuf};

use rcgen::PublicKeyData;
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use supernode_proto::identity::RelayPin;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

use super::{files, state_dir::KeyMaterial};

/// A chain and its key are a few KiB; more than this is some other file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why there is no certificate. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The system refused.
    #[error("{path}: cannot read it", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The content is not what belongs there.
    #[error("{path}: {reason}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two files that do not belong together.
    #[error("{key}: is not the private key of the certificate in {certificate}", key = key.display(), certificate = certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// A certificate with its key, checked: they belong together.
#[derive(Clone)]
pub struct Certificate {
    pub(super) chain: Vec<CertificateDer<'static>>,
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
        let content = |path: &Path, reason| CertificateError::Content { path: path.to_owned(), reason };
        let chain = chain_of(&read(certificate)?)
            .ok_or_else(|| content(certificate, "holds no certificate in PEM form, or a broken one"))?;
        let key_der = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|_| content(key, "holds no private key in PEM form, or a broken one"))?;
        Self::belongs(&chain, &key_der)
            .ok_or_else(|| CertificateError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() })?;
        Self::new(chain, key_der, true).ok_or_else(|| content(certificate, "holds a certificate that cannot be read"))
    }

    /// One that an authority has signed for the relay's own key, in PEM form.
    pub fn signed_by_authority(chain_pem: &[u8], keys: &KeyMaterial) -> Option<Self> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(keys.tls_key.serialize_der()));
        let chain = chain_of(chain_pem)?;
        Self::belongs(&chain, &key)?;
        Self::new(chain, key, true)
    }

    /// The private key.
    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
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
        let names = end_entity.subject_alternative_name().ok().flatten().map_or_else(Vec::new, |names| {
            names
                .value
                .general_names
                .iter()
                .filter_map(|name| match name {
                    GeneralName::DNSName(name) => Some((*name).to_owned()),
                    _ => None,
                })
                .collect()
        });
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

fn chain_of(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok()?;
    (!chain.is_empty()).then_some(chain)
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |source| CertificateError::Read { path: path.to_owned(), source };
    files::read(path, FILE_BYTES_MAX).map_err(failed)
}
