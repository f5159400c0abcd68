//! TLS and QUIC as the SDK speaks them, so that the relay sees real clients.

use std::{sync::Arc, time::Duration};

use quinn_proto::{
    AckFrequencyConfig, ClientConfig, TransportConfig, VarInt, congestion::CubicConfig,
    crypto::rustls::QuicClientConfig,
};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use supernode_proto::{ALPN, identity::RelayPin};

const DATAGRAM_BUFFER_BYTES: usize = 128 * 1024;
/// Datagrams that may come in within one turn of a worker: never dropped by QUIC, where nobody would count them.
const DATAGRAM_RECEIVE_BYTES: usize = 8 * 1024 * 1024;
const MEDIA_STREAMS_MAX: u32 = 128;
const STREAM_WINDOW_BYTES: u32 = 3 * 1024 * 1024;
const RECEIVE_WINDOW_BYTES: u32 = 12 * 1024 * 1024;
const SEND_WINDOW_BYTES: u64 = 2 * 1024 * 1024;
/// Windows of a client that does not keep up: a little memory, so that the relay feels it soon.
const SLOW_WINDOW_BYTES: u32 = 64 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT_MS: u32 = 30_000;

/// How a client connects to the relay with this key. `ack_threshold` above zero asks the relay to gather
/// acknowledgements of so many packets.
pub(super) fn client_config(pin: RelayPin, ack_threshold: u32, slow: bool) -> ClientConfig {
    let tls = QuicClientConfig::try_from(tls_config(pin)).expect("TLS 1.3 has QUIC's first suite");
    let mut acks = AckFrequencyConfig::default();
    if ack_threshold > 0 {
        acks.ack_eliciting_threshold(VarInt::from_u32(ack_threshold));
    }
    let mut transport = TransportConfig::default();
    transport
        .ack_frequency_config(Some(acks))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()))
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(MEDIA_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(if slow { SLOW_WINDOW_BYTES } else { STREAM_WINDOW_BYTES }))
        .receive_window(VarInt::from_u32(if slow { 4 * SLOW_WINDOW_BYTES } else { RECEIVE_WINDOW_BYTES }))
        .congestion_controller_factory(Arc::new(CubicConfig::default()))
        .send_window(SEND_WINDOW_BYTES);
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    config
}

fn tls_config(pin: RelayPin) -> rustls::ClientConfig {
    use aws_lc_rs::{cipher_suite, kx_group};
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    });
    let verifier = Arc::new(PinVerifier { pin, provider: provider.clone() });
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3 suites")
        .dangerous() // rustls's word for any verifier of one's own
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Every client is a new one: none may profit from another's handshake.
    config.resumption = Resumption::disabled();
    config
}

/// Accepts the one public key that hashes to the pin.
#[derive(Debug)]
struct PinVerifier {
    pin: RelayPin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (_, certificate) = x509_parser::parse_x509_certificate(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if RelayPin::of_spki(certificate.public_key().raw) == self.pin {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
