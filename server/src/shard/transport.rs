//! QUIC as the relay speaks it: one place for every transport parameter, each with its reason.

use std::{sync::Arc, time::Duration};

use quinn_proto::{
    AckFrequencyConfig, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::QuicServerConfig,
};
use supernode_proto::limits as wire;

use super::{cid::Generator, socket};
use crate::core::ShardId;

/// QUIC's own buffer of outgoing datagrams. Far above what is handed over, so that QUIC never has to refuse or drop.
const DATAGRAM_SEND_BYTES: usize = 64 * 1024;
/// What `send_buffer_space` says of an empty buffer: QUIC keeps the size of one record back.
pub(super) const DATAGRAM_SEND_SPACE: usize = DATAGRAM_SEND_BYTES - size_of::<bytes::Bytes>();
/// Datagrams of one client that may come in within one turn. More than a turn reads from the socket, so that QUIC never
/// drops one uncounted; nothing is allocated for it ahead.
const DATAGRAM_RECEIVE_BYTES: usize = 2 * socket::TURN_BYTES_MAX;
/// Bytes that one media stream may have in flight towards the relay: a 4K key frame in two round trips.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes that all streams of a client together may have in flight.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of streams that QUIC may hold for a client: above the congestion window it is only delay.
const SEND_WINDOW: u64 = 512 * 1024;
/// A client that is not heard of for so long is gone.
const IDLE_TIMEOUT_MS: u32 = 30_000;
/// A client may gather acknowledgements for so many packets,
const ACK_THRESHOLD: u32 = 10;
/// or for so long (draft-ietf-quic-ack-frequency).
const ACK_DELAY: Duration = Duration::from_millis(20);

/// What all shards share: with one set of reset and token keys, any of them can check a Retry token that another gave,
/// or reset a connection that another had (RFC 9000 sections 8.1.2 and 10.3).
#[derive(Clone)]
pub(super) struct Shared {
    endpoint: EndpointConfig,
    server: Arc<ServerConfig>,
}

impl Shared {
    /// Fresh keys, and the relay's transport parameters over this TLS configuration.
    pub(super) fn new(tls: Arc<QuicServerConfig>, batch_window: Duration) -> Self {
        let mut server = ServerConfig::with_crypto(tls);
        server.transport_config(Arc::new(parameters(batch_window)));
        // The defaults would hold up to 100 MiB for handshakes that are not accepted yet: ours are accepted or refused
        // at once.
        server.max_incoming(256).incoming_buffer_size(16 * 1024).incoming_buffer_size_total(1024 * 1024);
        Self { endpoint: EndpointConfig::default(), server: Arc::new(server) }
    }

    /// One shard's endpoint, which issues that shard's connection IDs.
    pub(super) fn endpoint(&self, shard: ShardId, seed: [u8; 32]) -> Endpoint {
        let mut config = self.endpoint.clone();
        config.cid_generator(move || Box::new(Generator::new(shard, seed)));
        Endpoint::new(Arc::new(config), Some(self.server.clone()), true, None)
    }
}

fn parameters(batch_window: Duration) -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD)).max_ack_delay(Some(ACK_DELAY + batch_window));
    let mut parameters = TransportConfig::default();
    parameters
        .max_concurrent_bidi_streams(VarInt::from_u32(1)) // the control stream
        .max_concurrent_uni_streams(VarInt::from_u32(wire::MEMBER_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(SEND_WINDOW)
        .send_fairness(false) // streams of one priority finish one by one: half of two frames is worth nothing
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES))
        .datagram_send_buffer_size(DATAGRAM_SEND_BYTES)
        .ack_frequency_config(Some(acks));
    parameters
}
