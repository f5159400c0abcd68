//! TLS of a client that trusts any certificate: what the pin is worth is the client's own tests' business.

use std::sync::Arc;

use anyhow::Context;
use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// TLS with these key exchanges.
pub(crate) fn client_with(
    kx_groups: Vec<&'static dyn SupportedKxGroup>,
) -> anyhow::Result<quinn::crypto::rustls::QuicClientConfig> {
    let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
    let tls = supernode_tls::client_config(Arc::new(provider), Arc::new(Unchecked));
    tls.try_into().context("a suite for Initial packets")
}

/// TLS with the cheapest key exchange: what attackers would use.
pub(crate) fn client() -> anyhow::Result<quinn::crypto::rustls::QuicClientConfig> {
    client_with(vec![aws_lc_rs::kx_group::X25519])
}

/// The same for another protocol than the native one.
pub(crate) fn client_for(protocol: &[u8]) -> anyhow::Result<quinn::crypto::rustls::QuicClientConfig> {
    let provider = CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() };
    let mut tls = supernode_tls::client_config(Arc::new(provider), Arc::new(Unchecked));
    tls.alpn_protocols = vec![protocol.to_vec()];
    tls.try_into().context("a suite for Initial packets")
}

/// Does not even check that the relay has its certificate's key, as [`supernode_tls::AnyCertificate`] does: attackers save what
/// they can.
#[derive(Debug)]
struct Unchecked;

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519]
    }
}
