//! QUIC as clients speak it.

use std::sync::Arc;

use quinn_proto::{AckFrequencyConfig, ClientConfig, TransportConfig, VarInt, crypto::rustls::QuicClientConfig};
use supernode_session::transport::{
    DATAGRAM_BUFFER_BYTES, IDLE_TIMEOUT_MS, KEEP_ALIVE, MEDIA_STREAMS_MAX, RECEIVE_WINDOW_BYTES, SEND_WINDOW_BYTES,
    STREAM_WINDOW_BYTES,
};

/// How a client connects whose TLS this is: quinn takes it as well as quinn-proto.
///
/// # Panics
/// If the TLS provider has no suite of QUIC's first packets, which [`provider`](crate::provider) has.
pub fn quic_config(tls: rustls::ClientConfig) -> ClientConfig {
    let tls = QuicClientConfig::try_from(tls).expect("TLS 1.3 has QUIC's first suite");
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport_config()));
    config
}

/// What a client's transport is, by the limits of `supernode_session::transport`. Who measures something else changes it.
pub fn transport_config() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        // Every acknowledgement costs the relay a packet: ask for fewer.
        .ack_frequency_config(Some(AckFrequencyConfig::default()))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(MEDIA_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES);
    transport
}
