//! TLS and QUIC as the SDK speaks them, so that the relay sees real clients.

use std::sync::Arc;

use quinn_proto::{
    AckFrequencyConfig, ClientConfig, TransportConfig, VarInt, congestion::CubicConfig,
    crypto::rustls::QuicClientConfig,
};
use rustls::client::Resumption;
use supernode_proto::identity::RelayPin;
use supernode_session::transport::{
    DATAGRAM_BUFFER_BYTES, IDLE_TIMEOUT_MS, KEEP_ALIVE, MEDIA_STREAMS_MAX, RECEIVE_WINDOW_BYTES, SEND_WINDOW_BYTES,
    STREAM_WINDOW_BYTES,
};
use supernode_tls::PinVerifier;

/// Datagrams that may come in within one turn of a worker: never dropped by QUIC, where nobody would count them.
const DATAGRAM_RECEIVE_BYTES: usize = 8 * 1024 * 1024;
/// Windows of a client that does not keep up: a little memory, so that the relay feels it soon.
const SLOW_WINDOW_BYTES: u32 = 64 * 1024;

/// How a client connects to the relay with this key. `ack_threshold` above zero asks the relay to gather
/// acknowledgements of so many packets.
pub(super) fn client_config(pin: RelayPin, ack_threshold: u32, slow: bool) -> ClientConfig {
    let provider = supernode_tls::provider();
    let mut tls = supernode_tls::client_config(provider.clone(), Arc::new(PinVerifier::new(pin, provider)));
    // Every client is a new one: none may profit from another's handshake.
    tls.resumption = Resumption::disabled();
    let tls = QuicClientConfig::try_from(tls).expect("TLS 1.3 has QUIC's first suite");
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
