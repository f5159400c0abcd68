//! TLS of the QUIC port (RFC 9001): what the relay offers, and the pin by which clients know it.

use std::sync::Arc;

use quinn_proto::crypto::rustls::NoInitialCipherSuite;
use rcgen::PublicKeyData;
use rustls::{
    CipherSuite, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::CertificateDer,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use supernode_proto::{ALPN, H3_ALPN, cluster::NODE_ALPN, identity::RelayPin, troubles};

use crate::control::{certificate::Certificate, config::Config, state_dir::KeyMaterial};
use crate::shard::TlsConfig;

troubles! {
    /// Why a certificate gives no TLS configuration.
    pub TlsError as WORDS:
    Rustls(#[from] rustls::Error), "the certificate and its key do not work together",
        "the key is of a kind that TLS 1.3 does not use, or is damaged",
        "use a key of ECDSA (P-256 or P-384), Ed25519 or RSA with 2048 bits or more";
    // QUIC needs it for its first packets (RFC 9001 section 5.2).
    Initial(#[from] NoInitialCipherSuite), "this program has no AES-128-GCM, which QUIC begins with",
        "it was built without it", "take a program that was built as README.md says";
}

/// SHA-256 of the public key's SubjectPublicKeyInfo: the relay's lasting name, for which its admission tokens are, also
/// while it shows a certificate of another key.
pub fn relay_pin(keys: &KeyMaterial) -> RelayPin {
    RelayPin::of_spki(&keys.tls_key.subject_public_key_info())
}

/// The pin of a certificate; `None` if it is none.
pub fn pin_of(certificate: &CertificateDer<'_>) -> Option<RelayPin> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(RelayPin::of_spki(certificate.public_key().raw))
}

/// TLS 1.3 with ALPN `supernode/1`, AES-128-GCM first, and no resumption. Pages in browsers, which say `h3`,
/// are shown a certificate of their own, if there is one: else they are refused.
///
/// Without session tickets nothing ties two connections of a device together below the Hello, the relay stores no
/// secret of a connection that has ended, and early data, which an attacker can replay, cannot happen.
///
/// # Errors
/// See [`TlsError`].
pub fn quic_server_config(
    certificate: &Certificate,
    for_pages: Option<&Certificate>,
) -> Result<Arc<TlsConfig>, TlsError> {
    // A page knows the relay by the host that its browser has checked, or by the pin of who vouches for the certificate.
    let hosts = for_pages.filter(|shown| shown.by_authority).map(|shown| shown.names.clone()).unwrap_or_default();
    Ok(Arc::new(TlsConfig::new(server_config(certificate, for_pages)?, hosts)?))
}

/// The same, also for the other nodes of the cluster that this relay is in, if it is.
///
/// # Errors
/// [`TlsError::Initial`].
pub fn for_nodes_too(tls: Arc<TlsConfig>, config: &Config) -> Result<Arc<TlsConfig>, TlsError> {
    if config.cluster.nats.is_empty() { Ok(tls) } else { Ok(Arc::new(tls.of_a_node()?)) }
}

/// The same certificate for the TCP port, with the ALPN of web sites, so that proxies that look let it pass.
///
/// # Errors
/// [`TlsError::Rustls`].
pub fn tcp_server_config(certificate: &Certificate) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = server_config(certificate, None)?;
    config.alpn_protocols = vec![supernode_proto::tcp::ALPN.to_vec()];
    Ok(Arc::new(config))
}

fn server_config(certificate: &Certificate, for_pages: Option<&Certificate>) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(provider());
    let shown = |certificate: &Certificate| {
        CertifiedKey::from_der(certificate.chain.clone(), certificate.key(), &provider).map(Arc::new)
    };
    let certificates = ByProtocol { native: shown(certificate)?, pages: for_pages.map(shown).transpose()? };
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![ALPN.to_vec()];
    if for_pages.is_some() {
        config.alpn_protocols.push(H3_ALPN.to_vec());
    }
    config.ignore_client_order = true; // clients on rustls would put AES-256 first
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// Which certificate whom is shown.
#[derive(Debug)]
struct ByProtocol {
    native: Arc<CertifiedKey>,
    pages: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByProtocol {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Of what both sides speak the relay's first is taken.
        let is_native = hello
            .alpn()
            .is_none_or(|mut protocols| protocols.any(|protocol| protocol == ALPN || protocol == NODE_ALPN));
        match (&self.pages, is_native) {
            (Some(pages), false) => Some(pages.clone()),
            _ => Some(self.native.clone()),
        }
    }
}

/// aws-lc-rs with our order. Of the key exchanges, a server takes the first in the client's order that it knows; the
/// post-quantum hybrid is first here so that whoever reads the list sees what is meant to be used.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider.kx_groups = vec![
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    provider
}

#[cfg(test)]
mod tests {
    use rustls::{
        ClientConfig, ClientConnection, NamedGroup, ProtocolVersion, RootCertStore, ServerConnection,
        pki_types::ServerName,
    };

    use super::*;
    use crate::control::state_dir::StateDir;

    fn keys() -> KeyMaterial {
        let directory = tempfile::tempdir().expect("a temporary directory");
        StateDir::create(directory.path()).expect("a state directory").keys_or_create().expect("keys")
    }

    fn own(keys: &KeyMaterial) -> Certificate {
        Certificate::self_signed(keys).expect("a certificate")
    }

    /// A client that speaks `alpn` with our groups, but rustls's own order of cipher suites: AES-256 first.
    fn client(keys: &KeyMaterial, alpn: &[u8]) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(keys.tls_certificate.clone()).expect("a valid certificate");
        let theirs = CryptoProvider { kx_groups: provider().kx_groups, ..aws_lc_rs::default_provider() };
        assert_ne!(theirs.cipher_suites[0].suite(), CipherSuite::TLS13_AES_128_GCM_SHA256, "else this tests nothing");
        let mut config = ClientConfig::builder_with_provider(Arc::new(theirs))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        ClientConnection::new(Arc::new(config), ServerName::try_from("supernode.invalid").expect("a name"))
            .expect("a client")
    }

    fn handshake(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).expect("a vector takes everything");
            server.read_tls(&mut bytes.as_slice()).expect("a vector gives everything");
            server.process_new_packets()?;
            bytes.clear();
            server.write_tls(&mut bytes).expect("a vector takes everything");
            client.read_tls(&mut bytes.as_slice()).expect("a vector gives everything");
            client.process_new_packets()?;
        }
        Ok(())
    }

    //
    #[test]
    fn a_client_that_would_take_aes_256_gets_aes_128_and_the_post_quantum_exchange() {
        let keys = keys();
        let mut client = client(&keys, ALPN);
        let mut server =
            ServerConnection::new(Arc::new(server_config(&own(&keys), None).expect("valid"))).expect("a server");
        handshake(&mut client, &mut server).expect("they agree");
        assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        let suite = server.negotiated_cipher_suite().expect("one").suite();
        assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(server.alpn_protocol(), Some(ALPN));
        let group = server.negotiated_key_exchange_group().expect("one").name();
        assert_eq!(group, NamedGroup::X25519MLKEM768);
        assert_eq!(client.tls13_tickets_received(), 0, "nothing to resume with");
    }

    //
    #[test]
    fn another_protocol_is_refused() {
        let keys = keys();
        let mut client = client(&keys, b"h3");
        let mut server =
            ServerConnection::new(Arc::new(server_config(&own(&keys), None).expect("valid"))).expect("a server");
        assert_eq!(handshake(&mut client, &mut server), Err(rustls::Error::NoApplicationProtocol));
    }

    //
    #[test]
    fn the_tcp_port_shows_the_same_certificate_and_speaks_as_web_sites_do() {
        let keys = keys();
        let config = tcp_server_config(&own(&keys)).expect("valid");
        let mut browser = client(&keys, supernode_proto::tcp::ALPN);
        let mut server = ServerConnection::new(config.clone()).expect("a server");
        handshake(&mut browser, &mut server).expect("they agree");
        assert_eq!(server.alpn_protocol(), Some(supernode_proto::tcp::ALPN));
        assert_eq!(browser.peer_certificates().expect("shown")[0], keys.tls_certificate);
        assert_eq!(browser.tls13_tickets_received(), 0, "nothing to resume with");
        let mut native = client(&keys, ALPN);
        let mut server = ServerConnection::new(config).expect("a server");
        assert_eq!(handshake(&mut native, &mut server), Err(rustls::Error::NoApplicationProtocol));
    }

    #[test]
    fn a_certificate_of_another_key_is_an_error() {
        let keys = KeyMaterial { tls_certificate: keys().tls_certificate, ..keys() };
        assert!(Certificate::self_signed(&keys).is_err());
    }

    #[test]
    fn the_pin_is_the_one_a_client_computes_from_the_certificate() {
        let keys = keys();
        let (_, certificate) = x509_parser::parse_x509_certificate(&keys.tls_certificate).expect("valid");
        assert_eq!(relay_pin(&keys), RelayPin::of_spki(certificate.tbs_certificate.subject_pki.raw));
        assert_eq!(own(&keys).pin, relay_pin(&keys));
    }
}
