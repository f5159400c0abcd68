//! QUIC as the relay speaks it: one place for every transport parameter, each with its reason.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hmac::{Hmac, Mac};
use quinn_proto::{
    AckFrequencyConfig, Dir, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
    crypto::{CryptoError, HmacKey},
};
use sha2::Sha256;
use supernode_proto::{close::CloseCode, limits as wire};

use super::{
    cid::{Generator, Incarnation},
    crypto::TlsConfig,
    link_codec::OwnStreams,
    meter::Metered,
};
use crate::{
    core::{Now, ShardId, pool::Share},
    shard::{connections::gaps::Kept, door::answers, net::socket},
};

/// QUIC's own buffer of outgoing datagrams. Above what is handed over by more than a datagram and its record, so that QUIC
/// never has to refuse or drop; and no larger, because taking back what it holds means filling it.
pub(crate) const DATAGRAM_SEND_BYTES: usize = HANDOVER_BYTES + 2 * 1024;
/// Datagram bytes that a connection which keeps up is handed before its packets are built: enough to fill several
/// shared packets in one turn.
pub(crate) const HANDOVER_BYTES: usize = 16 * 1024;
/// The same for a connection that its congestion controller holds back: one packet's worth. The rest waits in our own
/// queue, where it can expire.
pub(crate) const HANDOVER_BLOCKED_BYTES: usize = 1_200;
/// What `send_buffer_space` says of an empty buffer: QUIC keeps the size of one record back.
pub(crate) const DATAGRAM_SEND_SPACE: usize = DATAGRAM_SEND_BYTES - size_of::<Bytes>();
/// Datagrams of one client that may come in within one turn. More than a turn reads from the socket, so that QUIC never
/// drops one uncounted; nothing is allocated for it ahead.
const DATAGRAM_RECEIVE_BYTES: usize = 2 * socket::TURN_BYTES_MAX;
/// Bidirectional streams of a session.
const CONTROL_STREAMS: u32 = 1;
/// Media streams that a client may open before it publishes a track: none would be forwarded, and one is enough to learn
/// why. QUIC keeps a table entry for each stream that may be opened, and most sessions that are online publish nothing. Three,
/// because HTTP/3 wants as many (RFC 9114 section 6.2) and Chromium ends a connection with fewer; transport parameters leave
/// before it is known who has come.
const STREAMS_BEFORE_A_TRACK: u32 = 3;
/// Bytes that one media stream may have in flight towards the relay: a 4K key frame in two round trips.
pub(crate) const STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes that all streams of a client together may have in flight before it has been let in: the largest Hello and as much
/// after it. What waits beyond a gap is kept, so whoever is not known may make the relay keep little.
pub(crate) const HELLO_WINDOW: u32 = 2 * wire::HELLO_BYTES_MAX as u32;
/// Bytes of TLS that may wait for those before them: the least that QUIC allows (RFC 9000 section 7.5).
const CRYPTO_BYTES: usize = 4096;
/// Bytes that all streams of a client together may have in flight while it publishes nothing: its control stream, whose
/// longest message takes four round trips then. Every session costs this, and a client that leaves a stream's first byte
/// out has the relay keep it.
const SESSION_WINDOW: usize = 16 * 1024;
/// The same for one that publishes, as far as the relay has it.
const PUBLISHER_WINDOW: usize = 4 * 1024 * 1024;
/// Bytes of streams that QUIC may hold for any client; more is taken from what all share ([`Connection::widen`]).
///
/// [`Connection::widen`]: crate::shard::connections::connection::Connection::widen
pub(crate) const SEND_WINDOW: usize = 8 * 1024;
/// Streams to any client that QUIC may keep because the client has not acknowledged their ends; more is taken from what all
/// share. Default 24: those that people send to each other are acknowledged within a round trip.
pub(crate) const SEND_STREAMS: usize = 24;
/// What QUIC keeps of each, and we, besides its bytes: some four hundred.
pub(crate) const SEND_STREAM_BYTES: usize = 512;
/// A client that is not heard of for so long is gone.
const IDLE_TIMEOUT_MS: u32 = 30_000;
/// A client, or a node, may gather acknowledgements for so many packets,
pub(crate) const ACK_THRESHOLD: u32 = 10;
/// or for so long (draft-ietf-quic-ack-frequency).
pub(crate) const ACK_DELAY: Duration = Duration::from_millis(20);

/// What all shards share: with one set of reset and token keys, any of them can check a Retry token that another gave,
/// or reset a connection that another had (RFC 9000 sections 8.1.2 and 10.3).
#[derive(Clone)]
pub(crate) struct Shared {
    endpoint: EndpointConfig,
    server: Arc<ServerConfig>,
    incarnation: Incarnation,
}

/// Makes the tokens of stateless resets (RFC 9000 section 10.3.2). It outlives the process, so that the next one can
/// tell clients of this one at once that their connection is gone.
struct ResetKey(Hmac<Sha256>);

impl Shared {
    /// The relay's transport parameters over this TLS configuration.
    pub(crate) fn new(
        tls: Arc<TlsConfig>,
        batch_window: Duration,
        reset_key: &[u8; 32],
        incarnation: Incarnation,
    ) -> Self {
        let mut server = ServerConfig::with_crypto(tls);
        server.transport_config(Arc::new(parameters(batch_window)));
        // The defaults would hold up to 100 MiB for handshakes that are not accepted yet: ours are accepted or refused
        // at once.
        server.max_incoming(256).incoming_buffer_size(16 * 1024).incoming_buffer_size_total(1024 * 1024);
        let mut endpoint = EndpointConfig::new(Arc::new(ResetKey::new(reset_key)));
        endpoint.supported_versions(vec![answers::VERSION]).min_reset_interval(answers::RESET_INTERVAL);
        Self { endpoint, server: Arc::new(server), incarnation }
    }

    /// The same with another TLS configuration and window: the keys stay, so that Retry tokens that are under way hold.
    pub(crate) fn with(&self, tls: Arc<TlsConfig>, batch_window: Duration) -> Self {
        let mut server = ServerConfig::clone(&self.server);
        server.crypto = tls;
        server.transport_config(Arc::new(parameters(batch_window)));
        Self { endpoint: self.endpoint.clone(), server: Arc::new(server), incarnation: self.incarnation }
    }

    /// What new connections are accepted with.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// One shard's endpoint, which issues that shard's connection IDs. What else QUIC draws comes from the operating system,
    /// or from a seed of its own: what everybody can see of connection IDs must tell nothing of it.
    pub(crate) fn endpoint(&self, shard: ShardId, seed: [u8; 32], quic_seed: Option<[u8; 32]>) -> Endpoint {
        let mut config = self.endpoint.clone();
        let incarnation = self.incarnation;
        config.cid_generator(move || Box::new(Generator::new(shard, incarnation, seed))).rng_seed(quic_seed);
        Endpoint::new(Arc::new(config), Some(self.server.clone()), true, None)
    }
}

impl ResetKey {
    fn new(key: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let signature = self.0.clone().chain_update(data).finalize().into_bytes();
        signature_out.copy_from_slice(&signature);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.0.clone().chain_update(data).verify_slice(signature).map_err(|_| CryptoError)
    }
}

/// A client is let in: its window is that of a session.
pub(crate) fn open_window(quic: &mut quinn_proto::Connection, kept: &mut Kept, own: OwnStreams) {
    quic.set_receive_window(VarInt::from_u32(SESSION_WINDOW as u32));
    kept.open(SESSION_WINDOW as u32, streams_max(STREAMS_BEFORE_A_TRACK, own));
}

/// A client publishes: from now on it may have as many media streams as the protocol says, and as much in flight as it may
/// have of all that the relay can take.
pub(crate) fn allow_media_streams(
    quic: &mut quinn_proto::Connection,
    kept: &mut Kept,
    own: OwnStreams,
    window: &mut Share,
    pool_max: u64,
) {
    let granted = window.take(PUBLISHER_WINDOW - SESSION_WINDOW, pool_max);
    let window = (SESSION_WINDOW + granted) as u32;
    quic.set_receive_window(VarInt::from_u32(window));
    kept.open(window, streams_max(wire::MEMBER_STREAMS_MAX, own));
    quic.set_max_concurrent_streams(Dir::Uni, VarInt::from_u32(wire::MEMBER_STREAMS_MAX + own.unidirectional));
}

/// It is known what kind of link a client has: from now on it may have the link's own streams beside the session's.
pub(crate) fn allow_own_streams(quic: &mut quinn_proto::Connection, own: OwnStreams) {
    if own != OwnStreams::default() {
        quic.set_max_concurrent_streams(Dir::Bi, VarInt::from_u32(CONTROL_STREAMS + own.bidirectional));
        quic.set_max_concurrent_streams(Dir::Uni, VarInt::from_u32(STREAMS_BEFORE_A_TRACK + own.unidirectional));
    }
}

/// Streams that a client may have open with so many of media.
fn streams_max(media: u32, own: OwnStreams) -> u32 {
    CONTROL_STREAMS + media + own.bidirectional + own.unidirectional
}

fn parameters(batch_window: Duration) -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD)).max_ack_delay(Some(ACK_DELAY + batch_window));
    let mut parameters = TransportConfig::default();
    parameters
        .max_concurrent_bidi_streams(VarInt::from_u32(CONTROL_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_BEFORE_A_TRACK))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(HELLO_WINDOW))
        .send_window(SEND_WINDOW as u64)
        .crypto_buffer_size(CRYPTO_BYTES)
        .send_fairness(false) // streams of one priority finish one by one: half of two frames is worth nothing
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_timeout_ms()))))
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES))
        .datagram_send_buffer_size(DATAGRAM_SEND_BYTES)
        .congestion_controller_factory(Arc::new(Metered::default())) // Cubic, with a count of what arrived
        .ack_frequency_config(Some(acks));
    parameters
}

fn idle_timeout_ms() -> u32 {
    if crate::planted::planted!(ImpatientRelay) { 8_000 } else { IDLE_TIMEOUT_MS }
}

/// What is said beside a close code: whoever is refused for the time's sake learns what time it is here.
pub(crate) fn reason(code: CloseCode, now: Now) -> Bytes {
    match code {
        CloseCode::DELEGATION_EXPIRED => Bytes::from((now.unix_ms / 1000).to_string()),
        _ => Bytes::new(),
    }
}
