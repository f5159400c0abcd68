//! TLS 1.3 of clients, on rustls: towards a relay whose key is known, or one that is only looked at. And how their QUIC
//! behaves, or misbehaves where that is what is tried.

mod any;
mod odd;
mod pinned;
mod transport;

use std::sync::Arc;

use rustls::{
    ClientConfig,
    client::danger::ServerCertVerifier,
    crypto::{CryptoProvider, aws_lc_rs},
};
use supernode_proto::ALPN;

pub use any::AnyCertificate;
pub use odd::{OddClient, OddSeal, OddTls, odd_key};
pub use pinned::PinVerifier;
pub use transport::transport;

/// TLS as the wire wants it, by whatever this verifier accepts.
pub fn client_config(provider: Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3 suites")
        .dangerous() // rustls's word for any verifier of one's own
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

/// aws-lc-rs with the hybrid post-quantum exchange first, and AES-128-GCM before AES-256-GCM: the smaller key is as
/// safe as the rest of the handshake, and cheaper for every packet.
pub fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::{cipher_suite, kx_group};
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hybrid_exchange_and_aes_128_come_first() {
        let provider = provider();
        assert_eq!(provider.kx_groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
        assert_eq!(provider.cipher_suites[0].suite(), rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    }
}
