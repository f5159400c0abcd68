//! Knows a relay by its key.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use supernode_proto::identity::RelayPin;
use supernode_session::pin::{self, PinError, Signed};

/// Accepts the one certificate whose public key hashes to the pin, or for whose key the pinned one vouches, whatever its
/// name and dates: [`pin::check`] says how. The handshake signature is verified as ever, so that a copied certificate is of
/// no use.
#[derive(Debug)]
pub struct PinVerifier {
    pin: RelayPin,
    provider: Arc<CryptoProvider>,
}

impl PinVerifier {
    /// For the relay with this pin.
    pub fn new(pin: RelayPin, provider: Arc<CryptoProvider>) -> Self {
        Self { pin, provider }
    }
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
        let behind = intermediates.iter().map(|der| &**der);
        match pin::check(&self.pin, end_entity, behind, now.as_secs(), is_good) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(PinError::Malformed) => Err(CertificateError::BadEncoding.into()),
            Err(PinError::AnotherKey) => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
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

fn is_good(signed: Signed<'_>) -> bool {
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let mut known = algorithms.mapping.iter();
    let known = known.find(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256);
    known.is_some_and(|(_, algorithms)| {
        let verify = |algorithm: &&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
            algorithm.verify_signature(signed.key, signed.message, signed.signature).is_ok()
        };
        algorithms.iter().any(verify)
    })
}

#[cfg(test)]
mod tests {
    use supernode_server::control::{
        relay_key::{before, rotate_relay_key},
        state_dir::StateDir,
    };
    use supernode_session::pin::pin_of;

    use super::*;
    use crate::provider;

    fn verify(pin: RelayPin, certificate: &CertificateDer<'_>) -> Result<ServerCertVerified, Error> {
        let verifier = PinVerifier::new(pin, provider());
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
            let verifier = PinVerifier::new(pin, provider());
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
            let verifier = PinVerifier::new(pin_of(known).expect("a key"), provider());
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
}
