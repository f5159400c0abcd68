//! How a node dials another: by the pin that it knows, on the shard's own port.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn_proto::{AckFrequencyConfig, ClientConfig, TransportConfig, VarInt, crypto::rustls::QuicClientConfig};
use rustls::crypto::CryptoProvider;
use supernode_proto::{cluster::NODE_ALPN, identity::RelayPin};
use supernode_tls::PinVerifier;

use super::outgoing::SEND_BYTES;
use crate::{
    core::NodeId,
    shard::quic::{
        meter::Metered,
        transport::{ACK_DELAY, ACK_THRESHOLD},
    },
};

/// A node's number, life and place, and the pin of its relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeBook {
    /// Its number.
    pub node: NodeId,
    /// Its life, by a number that no other has: a process that starts again lives anew.
    pub life: u64,
    /// Where its shards are reached.
    pub address: SocketAddr,
    /// By what it is known.
    pub pin: RelayPin,
}

/// How often a node that says nothing else says that it is there. Default 1 s: three may be lost before the link is over.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// After so much silence the link is over. Default 3 s: before the others end the node's life, which takes them 5 s.
const IDLE_MS: u32 = 3_000;
/// Bytes of letters that QUIC may hold unacknowledged. Default 1 MiB, as much as the other side takes of a stream. Media comes on
/// top, as much as may be under way.
pub(super) const SEND_WINDOW: u64 = 1024 * 1024;
/// Bytes that the other side may have in flight: it says Welcome.
const RECEIVE_WINDOW: u32 = 1024;

/// The wait before a node is dialled again. Default 100 ms, and twice as long each time until it is 2 s: a node that restarts
/// is met soon, and one that is gone for an hour costs a handshake in two seconds for each shard.
pub(super) const WAIT_MIN: Duration = Duration::from_millis(100);
pub(super) const WAIT_MAX: Duration = Duration::from_secs(2);

/// What nobody asks for: nodes know each other by pins.
pub(super) const SERVER_NAME: &str = "node.supernode.invalid";

/// How the relay with this pin is dialled; `None` if this program has no AES-128-GCM, with which QUIC begins.
pub(super) fn config(pin: RelayPin, provider: &Arc<CryptoProvider>) -> Option<ClientConfig> {
    let mut tls = supernode_tls::client_config(provider.clone(), Arc::new(PinVerifier::new(pin, provider.clone())));
    tls.alpn_protocols = vec![NODE_ALPN.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).ok()?));
    config.transport_config(Arc::new(parameters()));
    Some(config)
}

fn parameters() -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD)).max_ack_delay(Some(ACK_DELAY));
    let mut parameters = TransportConfig::default();
    parameters
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_MS).into()))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(Some(RECEIVE_WINDOW as usize)) // none come, but without it none could be sent
        .datagram_send_buffer_size(SEND_BYTES)
        .send_fairness(false) // as to clients
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(Metered::default()));
    parameters
}
