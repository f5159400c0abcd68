//! TLS 1.3 towards a relay whose public key is known from the invite, or whose certificate an authority has signed.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use rustls_platform_verifier::Verifier;
use supernode_proto::{ALPN, identity::RelayPin};
use x509_parser::certificate::X509Certificate;

/// A client configuration that accepts exactly the relay with this key; without one, every relay whose name is in a
/// certificate that this machine's authorities, or these, have signed.
pub(crate) fn client_config(
    pin: Option<RelayPin>,
    authorities: &[CertificateDer<'static>],
) -> Result<rustls::ClientConfig, Error> {
    let provider = Arc::new(provider());
    let verifier: Arc<dyn ServerCertVerifier> = match pin {
        Some(pin) => Arc::new(PinVerifier { pin, provider: provider.clone() }),
        None => Arc::new(Verifier::new_with_extra_roots(authorities.iter().cloned(), provider.clone())?),
    };
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3 suites")
        .dangerous() // rustls's word for any verifier of one's own
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// The pin of a certificate's key; `None` for what is no certificate.
pub(crate) fn pin_of(certificate: &CertificateDer<'_>) -> Option<RelayPin> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(RelayPin::of_spki(certificate.public_key().raw))
}

/// aws-lc-rs with the hybrid post-quantum exchange first, and AES-128-GCM before AES-256-GCM: the smaller key is as
/// safe as the rest of the handshake, and cheaper for every packet.
fn provider() -> CryptoProvider {
    use aws_lc_rs::{cipher_suite, kx_group};
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    }
}

/// Accepts the one certificate whose public key hashes to the pin, whatever its name and dates: the pin is the
/// relay's name. The handshake signature is verified as ever, so that a copied certificate is of no use. Where the
/// relay has a new key, the one with this pin has certified it, or one that it has certified.
#[derive(Debug)]
struct PinVerifier {
    pin: RelayPin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = pin_of(end_entity).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if shown != self.pin && !is_certified_by(&self.pin, end_entity, intermediates, now) {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Rotations of the relay's key that a client follows at once: as many as a relay shows.
const ROTATIONS_MAX: usize = 2;

/// Whether the key with this pin has certified the one of `end_entity`, or one that has, each with a certificate that is good
/// now. A relay shows these, and the earlier keys' own certificates, behind the one of its present key.
fn is_certified_by(
    pin: &RelayPin,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> bool {
    let parse = |der| x509_parser::parse_x509_certificate(der).ok().map(|(_, certificate)| certificate);
    let Some(mut present) = parse(end_entity) else { return false };
    let shown: Vec<X509Certificate<'_>> =
        intermediates.iter().take(2 * ROTATIONS_MAX).filter_map(|der| parse(der)).collect();
    let now = now.as_secs() as i64;
    for _ in 0..ROTATIONS_MAX {
        let crossing = |earlier: &&X509Certificate<'_>| {
            earlier.public_key().raw != present.public_key().raw
                && shown.iter().any(|next| {
                    next.public_key().raw == present.public_key().raw
                        && (next.validity().not_before.timestamp()..next.validity().not_after.timestamp())
                            .contains(&now)
                        && is_signed(next, earlier)
                })
        };
        let Some(earlier) = shown.iter().find(crossing).cloned() else { return false };
        if RelayPin::of_spki(earlier.public_key().raw) == *pin {
            return true;
        }
        present = earlier;
    }
    false
}

/// Whether a certificate bears the signature of another one's key, ECDSA P-256 as all relays' own keys.
fn is_signed(certificate: &X509Certificate<'_>, by: &X509Certificate<'_>) -> bool {
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let mut known = algorithms.mapping.iter();
    let known = known.find(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256);
    let key = &by.public_key().subject_public_key.data;
    known.is_some_and(|(_, algorithms)| {
        algorithms.iter().any(|algorithm| {
            let signature = &certificate.signature_value.data;
            algorithm.verify_signature(key, certificate.tbs_certificate.as_ref(), signature).is_ok()
        })
    })
}

#[cfg(test)]
mod tests {
    use supernode_server::control::{
        relay_key::{before, rotate_relay_key},
        state_dir::StateDir,
    };

    use super::*;

    fn verify(pin: RelayPin, certificate: &CertificateDer<'_>) -> Result<ServerCertVerified, Error> {
        let verifier = PinVerifier { pin, provider: Arc::new(provider()) };
        let name = ServerName::try_from("relay.example").expect("a name");
        verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now())
    }

    fn certificate() -> (CertificateDer<'static>, RelayPin) {
        let made = rcgen::generate_simple_self_signed(["relay.example".to_owned()]).expect("a certificate");
        let pin = RelayPin::of_spki(&rcgen::PublicKeyData::subject_public_key_info(&made.signing_key));
        (made.cert.der().clone(), pin)
    }

    //
    #[test]
    fn the_pinned_key_is_accepted_and_any_other_refused() {
        let (certificate, pin) = certificate();
        assert!(verify(pin, &certificate).is_ok());
        assert_eq!(
            verify(RelayPin([7; 32]), &certificate).expect_err("another key"),
            Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
        );
    }

    /// A relay's key with its own certificate.
    struct Key(rcgen::KeyPair, CertificateDer<'static>);

    impl Key {
        fn new() -> Self {
            let made = rcgen::generate_simple_self_signed(["relay.example".to_owned()]).expect("a certificate");
            Self(made.signing_key, made.cert.der().clone())
        }

        fn pin(&self) -> RelayPin {
            pin_of(&self.1).expect("a certificate")
        }

        /// A certificate of the next key by this one, good for these years.
        fn certifies(&self, next: &Self, years: std::ops::Range<i32>) -> CertificateDer<'static> {
            let mut params = rcgen::CertificateParams::default();
            params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
            let key = rcgen::KeyPair::try_from(self.0.serialize_der()).expect("the same key");
            let issuer = rcgen::Issuer::new(rcgen::CertificateParams::default(), key);
            params.signed_by(&next.0, &issuer).expect("signed").der().clone()
        }
    }

    //
    #[test]
    fn a_new_key_is_accepted_as_long_as_the_pinned_one_vouches_for_it_and_by_nobody_else() {
        let (first, second, third, stranger) = (Key::new(), Key::new(), Key::new(), Key::new());
        let accepts = |pin: RelayPin, shown: &Key, behind: &[&CertificateDer<'static>]| {
            let verifier = PinVerifier { pin, provider: Arc::new(provider()) };
            let name = ServerName::try_from("relay.example").expect("a name");
            let behind: Vec<_> = behind.iter().map(|der| (*der).clone()).collect();
            verifier.verify_server_cert(&shown.1, &behind, &name, &[], UnixTime::now()).is_ok()
        };
        let good = 2020..2100;
        let (second_by_first, third_by_second) =
            (first.certifies(&second, good.clone()), second.certifies(&third, good.clone()));
        assert!(accepts(first.pin(), &second, &[&second_by_first, &first.1]));
        let both = [&third_by_second, &second.1, &second_by_first, &first.1];
        assert!(accepts(first.pin(), &third, &both) && accepts(second.pin(), &third, &both), "both earlier pins");

        assert!(!accepts(first.pin(), &second, &[]) && !accepts(first.pin(), &second, &[&first.1]), "nobody vouches");
        assert!(!accepts(first.pin(), &third, &[&third_by_second, &second.1, &first.1]), "a link is missing");
        let forged = stranger.certifies(&second, good.clone());
        assert!(!accepts(first.pin(), &second, &[&forged, &first.1]), "signed by somebody else");
        assert!(!accepts(first.pin(), &stranger, &[&second_by_first, &first.1]), "of another key");
        assert!(!accepts(stranger.pin(), &second, &[&second_by_first, &first.1]), "by another pin");
        assert!(!accepts(first.pin(), &second, &[&first.certifies(&second, 2020..2021), &first.1]), "it has ended");
        assert!(!accepts(first.pin(), &second, &[&first.certifies(&second, 2099..2100), &first.1]), "it has not begun");
    }

    //
    #[test]
    fn what_a_relay_shows_after_two_rotations_is_accepted_by_all_three_pins() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let state = StateDir::create(home.path()).expect("a directory");
        let first = state.keys_or_create().expect("keys").tls_certificate;
        let now = UnixTime::now().as_secs();
        rotate_relay_key(&state, 3600, now).expect("rotated");
        let second = state.keys().expect("keys").tls_certificate;
        rotate_relay_key(&state, 3600, now).expect("rotated");
        let third = state.keys().expect("keys").tls_certificate;
        let (behind, _) = before(&state, now).expect("two");
        let name = ServerName::try_from("relay.example").expect("a name");
        for known in [&first, &second, &third] {
            let verifier = PinVerifier { pin: pin_of(known).expect("a key"), provider: Arc::new(provider()) };
            assert!(verifier.verify_server_cert(&third, &behind, &name, &[], UnixTime::now()).is_ok());
            let late = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now + 3600));
            assert_eq!(verifier.verify_server_cert(&third, &behind, &name, &[], late).is_ok(), *known == third);
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let (_, pin) = certificate();
        assert_eq!(
            verify(pin, &CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])).expect_err("garbage"),
            Error::InvalidCertificate(CertificateError::BadEncoding)
        );
    }

    #[test]
    fn the_hybrid_exchange_and_aes_128_come_first() {
        let provider = provider();
        assert_eq!(provider.kx_groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
        assert_eq!(provider.cipher_suites[0].suite(), rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    }
}
