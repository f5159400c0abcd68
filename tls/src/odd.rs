//! Clients whose TLS says what it must not, or whose packets are not what QUIC made: for attacks and tests.
//!
//! QUIC asks TLS for each message of the handshake, and for the keys that seal each packet. Where something else is answered, a
//! client that is correct in all else does one thing wrong, and goes on as if it had been right.

use std::{any::Any, sync::Arc};

use bytes::BytesMut;
use quinn_proto::{
    ConnectError, ConnectionId, Side, TransportError,
    crypto::{
        ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session,
        rustls::QuicClientConfig,
    },
    transport_parameters::TransportParameters,
};

/// What is odd about the TLS of one connection. What is not said is as it should be.
pub trait OddTls: Send + Sync + 'static {
    /// Instead of [`Session::write_handshake`].
    fn write_handshake(&mut self, tls: &mut dyn Session, buf: &mut Vec<u8>) -> Option<Keys> {
        tls.write_handshake(buf)
    }

    /// Instead of [`Session::next_1rtt_keys`].
    fn next_1rtt_keys(&mut self, tls: &mut dyn Session) -> Option<KeyPair<Box<dyn PacketKey>>> {
        tls.next_1rtt_keys()
    }
}

/// What is odd about packets.
pub trait OddSeal: Send + Sync + 'static {
    /// Instead of [`PacketKey::encrypt`] of `key`.
    fn encrypt(&self, key: &dyn PacketKey, packet: u64, buf: &mut [u8], header_len: usize);
}

/// A key that seals otherwise.
pub fn odd_key(key: impl Into<Arc<dyn PacketKey>>, seal: impl OddSeal) -> Box<dyn PacketKey> {
    Box::new(OddKey { key: key.into(), seal })
}

/// TLS of a client of which each connection is odd in its own way.
pub struct OddClient<F> {
    tls: Arc<QuicClientConfig>,
    oddity: F,
}

impl<O: OddTls, F: Fn() -> O> OddClient<F> {
    /// `oddity` says what is odd about the next connection.
    pub fn new(tls: QuicClientConfig, oddity: F) -> Self {
        Self { tls: Arc::new(tls), oddity }
    }
}

impl<O: OddTls, F: Fn() -> O + Send + Sync> ClientConfig for OddClient<F> {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let tls = self.tls.clone().start_session(version, server_name, params)?;
        Ok(Box::new(OddSession { tls, oddity: (self.oddity)() }))
    }
}

struct OddSession<O> {
    tls: Box<dyn Session>,
    oddity: O,
}

impl<O: OddTls> Session for OddSession<O> {
    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        self.oddity.write_handshake(&mut *self.tls, buf)
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        self.oddity.next_1rtt_keys(&mut *self.tls)
    }

    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.tls.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.tls.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.tls.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.tls.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.tls.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.tls.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.tls.transport_parameters()
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.tls.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.tls.export_keying_material(output, label, context)
    }
}

struct OddKey<S> {
    key: Arc<dyn PacketKey>,
    seal: S,
}

impl<S: OddSeal> PacketKey for OddKey<S> {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        self.seal.encrypt(&*self.key, packet, buf, header_len);
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        self.key.decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.key.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.key.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.key.integrity_limit()
    }
}
