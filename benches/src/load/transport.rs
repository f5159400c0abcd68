//! TLS and QUIC as the SDK speaks them, so that the relay sees real clients.

use std::sync::Arc;

use quinn_proto::{AckFrequencyConfig, ClientConfig, VarInt, congestion::CubicConfig};
use rustls::client::Resumption;
use supernode_proto::identity::RelayPin;
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
    let mut acks = AckFrequencyConfig::default();
    if ack_threshold > 0 {
        acks.ack_eliciting_threshold(VarInt::from_u32(ack_threshold));
    }
    let mut transport = supernode_tls::transport_config();
    transport
        .ack_frequency_config(Some(acks))
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES))
        .congestion_controller_factory(Arc::new(CubicConfig::default()));
    if slow {
        transport
            .stream_receive_window(VarInt::from_u32(SLOW_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(4 * SLOW_WINDOW_BYTES));
    }
    let mut config = supernode_tls::quic_config(tls);
    config.transport_config(Arc::new(transport));
    config
}
