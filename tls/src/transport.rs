//! How a client's QUIC behaves, for quinn-proto and quinn, whose configuration it is.

use quinn_proto::{AckFrequencyConfig, TransportConfig, VarInt};
use supernode_session::transport::{
    DATAGRAM_BUFFER_BYTES, IDLE_TIMEOUT_MS, KEEP_ALIVE, MEDIA_STREAMS_MAX, RECEIVE_WINDOW_BYTES, SEND_WINDOW_BYTES,
    STREAM_WINDOW_BYTES,
};

/// The numbers of `supernode_session`, as a client of any kind has them.
pub fn transport() -> TransportConfig {
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
