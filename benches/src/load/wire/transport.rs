//! TLS and QUIC as the SDK speaks them, so that the relay sees real clients; on a page's link with the protocol of pages.

use std::sync::Arc;

use quinn_proto::{AckFrequencyConfig, ClientConfig, VarInt, crypto::rustls::QuicClientConfig};
use rustls::client::Resumption;
use supernode_proto::{H3_ALPN, identity::RelayPin};
use supernode_tls::PinVerifier;

use crate::load::scenario::LinkKind;

/// Datagrams that may come in within one turn of a worker: never dropped by QUIC, where nobody would count them.
const DATAGRAM_RECEIVE_BYTES: usize = 8 * 1024 * 1024;
/// Windows of a client that does not keep up: a little memory, so that the relay feels it soon.
const SLOW_WINDOW_BYTES: u32 = 64 * 1024;

/// How a client connects to the relay with this key. `ack_threshold` above zero asks the relay to gather
/// acknowledgements of so many packets.
pub(crate) fn client_config(pin: RelayPin, link: LinkKind, ack_threshold: u32, slow: bool) -> ClientConfig {
    let provider = supernode_tls::provider();
    let mut tls = supernode_tls::client_config(provider.clone(), Arc::new(PinVerifier::new(pin, provider)));
    // Every client is a new one: none may profit from another's handshake.
    tls.resumption = Resumption::disabled();
    if link == LinkKind::Webtransport {
        tls.alpn_protocols = vec![H3_ALPN.to_vec()];
    }
    let tls = QuicClientConfig::try_from(tls).expect("TLS 1.3 has QUIC's first suite");
    let mut transport = supernode_tls::transport();
    transport.datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES));
    if ack_threshold > 0 {
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(ack_threshold));
        transport.ack_frequency_config(Some(acks));
    }
    if slow {
        transport
            .stream_receive_window(VarInt::from_u32(SLOW_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(4 * SLOW_WINDOW_BYTES));
    }
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    config
}
