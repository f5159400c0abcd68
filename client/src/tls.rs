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
/// relay's name. The handshake signature is verified as ever, so that a copied certificate is of no use.
#[derive(Debug)]
struct PinVerifier {
    pin: RelayPin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = pin_of(end_entity).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if shown != self.pin {
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

#[cfg(test)]
mod tests {
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
