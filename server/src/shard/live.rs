//! What may change while the shards run, besides the limits, which are the core's.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use supernode_proto::identity::RelayPin;

use super::{
    quic::{crypto::TlsConfig, transport::Shared},
    tcp::Tls,
};

/// What new connections are met with, and how long packets may gather.
pub(super) struct Live {
    pub(super) shared: Shared,
    /// The name that clients sign for: the public key that TLS presents.
    pub(super) pin: RelayPin,
    pub(super) batch_window: Duration,
}

/// Changes it, from any thread.
#[derive(Clone)]
pub struct LiveHandle {
    live: Arc<ArcSwap<Live>>,
    /// Of the TCP port.
    tcp: Option<Tls>,
}

impl LiveHandle {
    pub(super) fn new(live: Live, tcp: Option<Tls>) -> Self {
        Self { live: Arc::new(ArcSwap::from_pointee(live)), tcp }
    }

    pub(super) fn load(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Meets new connections with this certificate, whose public key has this pin, and lets packets gather for at most
    /// `batch_window`. Takes effect within a second; connections that are there, or in their handshake, keep what they
    /// began with.
    pub fn set(&self, tls: Arc<TlsConfig>, pin: RelayPin, batch_window: Duration) {
        let shared = self.load().shared.with(tls, batch_window);
        self.live.store(Arc::new(Live { shared, pin, batch_window }));
    }

    /// Shows this certificate at the TCP port, if there is one.
    pub fn set_tcp(&self, tls: Arc<rustls::ServerConfig>) {
        if let Some(tcp) = &self.tcp {
            tcp.store(tls);
        }
    }
}
