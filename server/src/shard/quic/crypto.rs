//! TLS of a QUIC connection (RFC 9001): rustls as long as the handshake lasts, and then only what is still needed of it.
//!
//! quinn-proto's own would keep rustls's connection for as long as QUIC's. But once the handshake is complete the relay
//! wants nothing more of TLS: there are no tickets, and clients may send it no message. What is left are one value of
//! the exporter, which the Hello needs, and the secrets of the next keys.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_proto::{
    ConnectionId, Side, TransportError, TransportErrorCode,
    crypto::{
        self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, UnsupportedVersion,
        rustls::{NoInitialCipherSuite, QuicServerConfig},
    },
    transport_parameters::TransportParameters,
};
use rustls::{
    AlertDescription,
    quic::{Connection, DirectionalKeys, KeyChange, ServerConnection, Version},
};
use supernode_proto::{
    H3_ALPN,
    cluster::NODE_ALPN,
    identity::{EXPORTER_BYTES, EXPORTER_LABEL},
};

use super::key_phases::KeyPhases;
use crate::shard::door::answers;

/// What the relay offers to clients in the handshake.
pub struct TlsConfig {
    tls: Arc<rustls::ServerConfig>,
    /// Of the certificate that pages are shown: the hosts for which an authority has signed it; none where they know the relay
    /// by its pin.
    hosts: Arc<[String]>,
    /// Does what needs no connection: the keys of Initial packets, the tags of Retry packets.
    initial: QuicServerConfig,
}

impl TlsConfig {
    /// QUIC over this configuration, which must offer TLS 1.3, no tickets and no early data. Pages know the relay by one of
    /// these hosts, or if there are none by its pin.
    ///
    /// # Errors
    /// When its provider lacks AES-128-GCM, which QUIC's first packets need (RFC 9001 section 5.2).
    pub fn new(tls: rustls::ServerConfig, hosts: Vec<String>) -> Result<Self, NoInitialCipherSuite> {
        let tls = Arc::new(tls);
        Ok(Self { initial: QuicServerConfig::try_from(tls.clone())?, tls, hosts: hosts.into() })
    }

    /// The same of a node of a cluster, which others reach on the same port. A relay that is none does not speak it.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_a_node(&self) -> Result<Self, NoInitialCipherSuite> {
        let mut tls = rustls::ServerConfig::clone(&self.tls);
        if !tls.alpn_protocols.iter().any(|protocol| protocol == NODE_ALPN) {
            tls.alpn_protocols.push(NODE_ALPN.to_vec());
        }
        Self::new(tls, self.hosts.to_vec())
    }
}

/// How long this machine takes to seal a packet: the least of some attempts, for others may have been interrupted.
pub(crate) fn sealing_time(config: &TlsConfig, clock: impl Fn() -> Instant) -> Duration {
    const ATTEMPTS: u64 = 32;
    const PACKET_BYTES: usize = 1_200;
    const HEADER_BYTES: usize = 20;
    let Ok(keys) = config.initial_keys(answers::VERSION, &ConnectionId::new(&[0; 8])) else { return Duration::ZERO };
    let mut packet = [0; PACKET_BYTES];
    let attempt = |number| {
        let start = clock();
        keys.packet.local.encrypt(number, &mut packet, HEADER_BYTES);
        clock().saturating_duration_since(start)
    };
    (0..ATTEMPTS).map(attempt).min().unwrap_or_default()
}

impl ServerConfig for TlsConfig {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.initial.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.initial.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn crypto::Session> {
        Box::new(Tls::new(self, version, params))
    }
}

/// One connection's TLS.
struct Tls {
    config: Arc<TlsConfig>,
    version: u32,
    stage: Stage,
    /// Those after the first, once that is known.
    phases: Option<KeyPhases>,
}

enum Stage {
    Handshake(Box<Connection>),
    /// The handshake is complete, and QUIC has its last bytes.
    Complete {
        /// What a Hello signs for; the only value that the relay ever asks the exporter for.
        exporter: Option<[u8; EXPORTER_BYTES]>,
        speaks: Protocol,
    },
}

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Native,
    Page,
    Node,
}

impl Protocol {
    fn of(tls: &Connection) -> Self {
        match tls.alpn_protocol() {
            Some(H3_ALPN) => Self::Page,
            Some(NODE_ALPN) => Self::Node,
            _ => Self::Native,
        }
    }
}

/// What a shard wants to know of a connection's TLS.
#[derive(Default)]
pub(crate) struct Told {
    /// How many packets its client was sent under keys that it has not used itself.
    pub(crate) unanswered: u64,
    /// Of a page, which has agreed on HTTP/3: the hosts of the certificate that it was shown.
    pub(crate) page: Option<Arc<[String]>>,
    /// Whether it is another node, which has agreed on a node link.
    pub(crate) is_node: bool,
}

pub(crate) fn told(tls: &dyn crypto::Session) -> Told {
    tls.handshake_data().and_then(|data| data.downcast::<Told>().ok()).map(|told| *told).unwrap_or_default()
}

impl Tls {
    fn new(config: Arc<TlsConfig>, version: u32, params: &TransportParameters) -> Self {
        let mut parameters = Vec::new();
        params.write(&mut parameters);
        let tls = ServerConnection::new(config.tls.clone(), Version::V1, parameters)
            .expect("it offers TLS 1.3 without early data");
        Self { config, version, stage: Stage::Handshake(Box::new(tls.into())), phases: None }
    }

    /// Forgets rustls's state if the handshake is complete and nothing more is to be written.
    fn complete(&mut self) {
        if let Stage::Handshake(tls) = &self.stage
            && !tls.is_handshaking()
        {
            let exporter = tls.export_keying_material([0; EXPORTER_BYTES], EXPORTER_LABEL, Some(&[]));
            let speaks = Protocol::of(tls);
            self.stage = Stage::Complete { exporter: exporter.ok(), speaks };
        }
    }
}

impl crypto::Session for Tls {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        debug_assert!(side.is_server());
        self.config.initial_keys(self.version, dst_cid).expect("of a version that was accepted")
    }

    /// For [`told`].
    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let unanswered = self.phases.as_ref()?.unanswered();
        let speaks = match &self.stage {
            Stage::Handshake(tls) => Protocol::of(tls),
            Stage::Complete { speaks, .. } => *speaks,
        };
        let page = (speaks == Protocol::Page).then(|| self.config.hosts.clone());
        Some(Box::new(Told { unanswered, page, is_node: speaks == Protocol::Node }))
    }

    /// Clients prove who they are in their Hello, not by certificates.
    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        None
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        match &self.stage {
            Stage::Handshake(tls) => tls.is_handshaking(),
            Stage::Complete { .. } => false,
        }
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        let Stage::Handshake(tls) = &mut self.stage else {
            // No message may follow a client's Finished: not KeyUpdate (RFC 9001 section 6), and no certificate, because
            // none was asked for (RFC 8446 section 4.4.2).
            return Err(alert(AlertDescription::UnexpectedMessage, "a TLS message after the handshake".into()));
        };
        match tls.read_hs(buf) {
            // QUIC need not announce what nobody looks at.
            Ok(()) => Ok(false),
            Err(error) => Err(match tls.alert() {
                Some(description) => alert(description, error.to_string()),
                None => TransportError {
                    code: TransportErrorCode::PROTOCOL_VIOLATION,
                    frame: None,
                    reason: format!("TLS: {error}"),
                },
            }),
        }
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let Stage::Handshake(tls) = &self.stage else { return Ok(None) };
        match tls.quic_transport_parameters() {
            Some(mut bytes) => Ok(Some(TransportParameters::read(Side::Server, &mut bytes)?)),
            None => Ok(None),
        }
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let Stage::Handshake(tls) = &mut self.stage else { return None };
        let written = buf.len();
        match tls.write_hs(buf) {
            Some(KeyChange::Handshake { keys }) => Some(both(keys.local, keys.remote)),
            Some(KeyChange::OneRtt { keys, next }) => {
                self.phases = Some(KeyPhases::after(&keys.local.packet, next));
                Some(both(keys.local, keys.remote))
            }
            None => {
                // QUIC asks until there is nothing more.
                if buf.len() == written {
                    self.complete();
                }
                None
            }
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.phases.as_mut()?.next()
    }

    /// Only clients are sent Retry packets.
    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        false
    }

    /// The one value that the Hello needs, once the handshake is complete; no other.
    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        match &self.stage {
            Stage::Complete { exporter: Some(exporter), .. }
                if label == EXPORTER_LABEL && context.is_empty() && output.len() == EXPORTER_BYTES =>
            {
                output.copy_from_slice(exporter);
                Ok(())
            }
            _ => Err(ExportKeyingMaterialError),
        }
    }
}

fn alert(description: AlertDescription, reason: String) -> TransportError {
    TransportError { code: TransportErrorCode::crypto(description.into()), frame: None, reason }
}

fn both(local: DirectionalKeys, remote: DirectionalKeys) -> Keys {
    Keys {
        header: KeyPair { local: Box::new(local.header), remote: Box::new(remote.header) },
        packet: KeyPair { local: Box::new(local.packet), remote: Box::new(remote.packet) },
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use quinn_proto::crypto::{ClientConfig, Session, rustls::QuicClientConfig};
    use rustls::{RootCertStore, crypto::aws_lc_rs};
    use supernode_proto::ALPN;

    use super::*;
    use crate::control::{certificate::Certificate, state_dir::StateDir, tls};

    /// KeyUpdate of TLS, which QUIC forbids (RFC 8446 section 4.6.3).
    const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

    /// The relay's side and a client's that offers these protocols.
    fn pair(protocols: &[&[u8]], change: impl FnOnce(&mut rustls::ServerConfig)) -> (Tls, Box<dyn Session>) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let keys = StateDir::create(directory.path()).expect("a state directory").keys_or_create().expect("keys");
        let config =
            tls::quic_server_config(&Certificate::self_signed(&keys).expect("a certificate"), None).expect("valid");
        let mut changed = rustls::ServerConfig::clone(&config.tls);
        change(&mut changed);
        let config = Arc::new(TlsConfig::new(changed, Vec::new()).expect("the same provider"));
        let mut roots = RootCertStore::empty();
        roots.add(keys.tls_certificate.clone()).expect("a valid certificate");
        let mut client = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider knows it")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let client = Arc::new(QuicClientConfig::try_from(client).expect("it has AES-128"));
        let parameters = TransportParameters::read(Side::Client, &mut &[][..]).expect("all of them have defaults");
        let client = client.start_session(1, "supernode.invalid", &parameters).expect("a valid name");
        (Tls::new(config, 1, &parameters), client)
    }

    /// All that one side has to say now, by encryption level, and the newest keys.
    fn flight(side: &mut dyn Session) -> (Vec<Vec<u8>>, Option<Keys>) {
        let (mut levels, mut newest) = (Vec::new(), None);
        loop {
            let mut level = Vec::new();
            let keys = side.write_handshake(&mut level);
            if level.is_empty() && keys.is_none() {
                return (levels, newest);
            }
            levels.extend(Some(level).filter(|level| !level.is_empty()));
            newest = keys.or(newest);
        }
    }

    fn hear(side: &mut dyn Session, levels: &[Vec<u8>]) -> Result<(), TransportError> {
        levels.iter().try_for_each(|level| side.read_handshake(level).map(|_| ()))
    }

    /// As far as the client's last flight, and both sides' first 1-RTT keys.
    fn shake_hands(relay: &mut Tls, client: &mut dyn Session) -> (Vec<Vec<u8>>, Keys, Keys) {
        hear(relay, &flight(client).0).expect("a valid ClientHello");
        let (levels, relay_keys) = flight(relay);
        hear(client, &levels).expect("a valid flight");
        let (finished, client_keys) = flight(client);
        (finished, relay_keys.expect("1-RTT keys"), client_keys.expect("1-RTT keys"))
    }

    fn opens(from: &dyn PacketKey, to: &dyn PacketKey, number: u64) -> bool {
        let (header, text) = (b"header", b"something that is to be kept from others");
        let mut packet = [&header[..], text, &[0; 16]].concat();
        from.encrypt(number, &mut packet, header.len());
        let mut payload = BytesMut::from(&packet[header.len()..]);
        to.decrypt(number, header, &mut payload).is_ok() && payload[..] == text[..]
    }

    fn exported(side: &dyn Session, label: &[u8], context: &[u8], bytes: usize) -> Option<Vec<u8>> {
        let mut output = vec![0; bytes];
        side.export_keying_material(&mut output, label, context).ok().map(|()| output)
    }

    fn is_complete(relay: &Tls) -> bool {
        matches!(relay.stage, Stage::Complete { .. })
    }

    #[test]
    fn of_a_complete_handshake_the_exporter_is_left_and_no_tls() {
        let (mut relay, mut client) = pair(&[ALPN], |_| ());
        let (finished, ..) = shake_hands(&mut relay, &mut *client);
        assert!(relay.is_handshaking() && !is_complete(&relay), "the client has not said Finished yet");
        assert_eq!(exported(&relay, EXPORTER_LABEL, &[], EXPORTER_BYTES), None);
        hear(&mut relay, &finished).expect("a valid Finished");
        assert!(!relay.is_handshaking());
        assert_eq!(flight(&mut relay).0, Vec::<Vec<u8>>::new(), "no tickets");
        assert!(is_complete(&relay) && !relay.is_handshaking());
        let value = exported(&*client, EXPORTER_LABEL, &[], EXPORTER_BYTES);
        assert!(value.is_some());
        assert_eq!(exported(&relay, EXPORTER_LABEL, &[], EXPORTER_BYTES), value);
        // Better nothing than a value that stands for something else.
        assert_eq!(exported(&relay, b"EXPORTER-other", &[], EXPORTER_BYTES), None);
        assert_eq!(exported(&relay, EXPORTER_LABEL, b"context", EXPORTER_BYTES), None);
        assert_eq!(exported(&relay, EXPORTER_LABEL, &[], EXPORTER_BYTES - 1), None);
    }

    #[test]
    fn what_tls_still_has_to_say_is_said_before_it_is_forgotten() {
        let (mut relay, mut client) = pair(&[ALPN], |config| {
            config.send_tls13_tickets = 2;
            config.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
        });
        let (finished, ..) = shake_hands(&mut relay, &mut *client);
        hear(&mut relay, &finished).expect("a valid Finished");
        let (tickets, keys) = flight(&mut relay);
        assert!(tickets.iter().map(Vec::len).sum::<usize>() > 100 && keys.is_none(), "two tickets and no keys");
        hear(&mut *client, &tickets).expect("valid tickets");
        assert!(is_complete(&relay));
    }

    #[test]
    fn a_message_after_the_handshake_is_answered_with_an_alert() {
        for message in [&KEY_UPDATE[..], &KEY_UPDATE[..1], &[0xff; 2000]] {
            let (mut relay, mut client) = pair(&[ALPN], |_| ());
            let (finished, ..) = shake_hands(&mut relay, &mut *client);
            hear(&mut relay, &finished).expect("a valid Finished");
            flight(&mut relay);
            for _ in 0..2 {
                let error = relay.read_handshake(message).expect_err("it may not come");
                assert_eq!(u64::from(error.code), 0x10a, "unexpected_message (RFC 9001 section 6)");
            }
            assert_eq!(flight(&mut relay).0, Vec::<Vec<u8>>::new());
        }
    }

    //
    #[test]
    fn a_handshake_that_fails_says_why() {
        for protocols in [&[][..], &[&b"h3"[..]]] {
            let (mut relay, mut client) = pair(protocols, |_| ());
            let error = hear(&mut relay, &flight(&mut *client).0).expect_err("no protocol in common");
            assert_eq!(u64::from(error.code), 0x178, "no_application_protocol");
        }
        let (mut relay, mut client) = pair(&[ALPN], |_| ());
        let (mut finished, ..) = shake_hands(&mut relay, &mut *client);
        *finished.last_mut().and_then(|level| level.last_mut()).expect("Finished") ^= 1;
        let error = hear(&mut relay, &finished).expect_err("not the client's Finished");
        assert_eq!(u64::from(error.code), 0x133, "decrypt_error");
        flight(&mut relay);
        assert!(!is_complete(&relay));
    }

    #[test]
    fn keys_are_the_same_on_both_sides_in_every_phase_whoever_uses_them_first() {
        let (mut relay, mut client) = pair(&[ALPN], |_| ());
        let (finished, ours, theirs) = shake_hands(&mut relay, &mut *client);
        // As quinn-proto does it: the next ones are asked for at once, and after that when they begin to be used.
        let (mut our_next, mut their_next) = (relay.next_1rtt_keys(), client.next_1rtt_keys());
        hear(&mut relay, &finished).expect("a valid Finished");
        flight(&mut relay);
        assert!(opens(&*theirs.packet.local, &*ours.packet.remote, 1));
        for phase in 0..9 {
            let ours = our_next.expect("there is always a next phase");
            let theirs = their_next.expect("there is always a next phase");
            // What QUIC asks before it uses a key makes none.
            assert_eq!(ours.local.tag_len(), theirs.local.tag_len());
            assert_eq!(ours.local.confidentiality_limit(), theirs.local.confidentiality_limit());
            assert_eq!(ours.remote.integrity_limit(), theirs.remote.integrity_limit());
            assert!(!relay.phases.as_ref().is_some_and(KeyPhases::is_made), "phase {phase}");
            match phase % 3 {
                // A packet comes that says it is of the next phase.
                0 => assert!(opens(&*theirs.local, &*ours.remote, phase)),
                // A forged one does, and then a genuine one.
                1 => {
                    assert!(ours.remote.decrypt(phase, b"header", &mut BytesMut::from(&[7; 40][..])).is_err());
                    assert!(relay.phases.as_ref().is_some_and(KeyPhases::is_made), "and stays so");
                    assert!(opens(&*theirs.local, &*ours.remote, phase));
                }
                // The relay begins it.
                _ => {}
            }
            (our_next, their_next) = (relay.next_1rtt_keys(), client.next_1rtt_keys());
            if phase % 3 == 2 {
                // begun here, and unanswered until a packet of the client's comes.
                ours.local.encrypt(phase, &mut [0; 40], 6);
                assert_eq!(told(&relay).unanswered, 1);
            }
            assert!(opens(&*ours.local, &*theirs.remote, phase) && opens(&*theirs.local, &*ours.remote, phase));
            assert_eq!(told(&relay).unanswered, 0);
            assert!(!opens(&*ours.local, &*ours.remote, phase), "one key for each direction");
        }
    }
}
