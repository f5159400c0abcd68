//! A client whose packets are not what QUIC made.
//!
//! quinn asks its TLS to seal each packet. What seals can also change what is sealed, so that a client which is correct
//! in all else says one thing wrong, and goes on as if it had been right.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use quinn::{
    ConnectError, ConnectionId, Side,
    crypto::{
        ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, Session,
        rustls::QuicClientConfig,
    },
};
use quinn_proto::{TransportError, transport_parameters::TransportParameters};

use bytes::BytesMut;

use crate::tls;

/// Bits of a short header's first byte that must be zero (RFC 9000 section 17.3.1).
const RESERVED: u8 = 0x18;
/// The bit that tells odd generations of keys from even ones.
const KEY_PHASE: u8 = 0x04;
/// How many generations of keys there are to go through.
const PHASES: u64 = 4;
/// A frame that is only acknowledged, and what fills up.
const PING: u8 = 1;
const PADDING: u8 = 0;

/// What is wrong with packets once the handshake is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Oddity {
    None = 0,
    /// They say nothing, but the client believes that all it had to say has arrived.
    Blank = 1,
    /// Every second one says nothing.
    Gaps = 2,
    /// Bits are set that must be zero.
    Reserved = 3,
    /// Each is sealed under the keys after those of the last one.
    Phases = 4,
}

/// Says how odd a connection is from now on.
#[derive(Debug, Clone)]
pub(crate) struct Dial(Arc<AtomicU8>);

impl Dial {
    pub(crate) fn set(&self, oddity: Oddity) {
        self.0.store(oddity as u8, Ordering::Relaxed);
    }

    fn is(&self, oddity: Oddity) -> bool {
        self.0.load(Ordering::Relaxed) == oddity as u8
    }
}

/// TLS that seals what it was not given.
pub(crate) struct Odd {
    tls: Arc<QuicClientConfig>,
    dial: Dial,
}

impl Odd {
    pub(crate) fn new() -> anyhow::Result<(Self, Dial)> {
        let dial = Dial(Arc::default());
        Ok((Self { tls: Arc::new(tls::client()?), dial: dial.clone() }, dial))
    }
}

impl ClientConfig for Odd {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let tls = self.tls.clone().start_session(version, server_name, params)?;
        Ok(Box::new(OddSession { tls, dial: self.dial.clone(), levels: 0 }))
    }
}

struct OddSession {
    tls: Box<dyn Session>,
    dial: Dial,
    /// Of encryption, after the first.
    levels: usize,
}

struct OddKey {
    key: Box<dyn PacketKey>,
    /// The generations after it.
    later: Vec<Box<dyn PacketKey>>,
    dial: Dial,
}

impl PacketKey for OddKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let end = buf.len() - self.key.tag_len();
        if self.dial.is(Oddity::Blank) || self.dial.is(Oddity::Gaps) && packet.is_multiple_of(2) {
            let payload = &mut buf[header_len..end];
            payload.fill(PADDING);
            payload[0] = PING;
        }
        if self.dial.is(Oddity::Reserved) && buf[0] & 0x80 == 0 {
            buf[0] |= RESERVED;
        }
        let generation = packet % (PHASES + 1);
        let later = generation.checked_sub(1).and_then(|place| self.later.get(place as usize));
        match later.filter(|_| self.dial.is(Oddity::Phases)) {
            Some(key) => {
                buf[0] = buf[0] & !KEY_PHASE | if generation % 2 == 1 { KEY_PHASE } else { 0 };
                key.encrypt(packet, buf, header_len);
            }
            None => self.key.encrypt(packet, buf, header_len),
        }
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

impl OddSession {
    fn odd(&self, key: Box<dyn PacketKey>, later: Vec<Box<dyn PacketKey>>) -> Box<dyn PacketKey> {
        Box::new(OddKey { key, later, dial: self.dial.clone() })
    }
}

impl Session for OddSession {
    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let keys = self.tls.write_handshake(buf)?;
        self.levels += 1;
        let generations = if self.levels == 2 { PHASES } else { 0 };
        let later = (0..generations).filter_map(|_| Some(self.tls.next_1rtt_keys()?.local)).collect();
        let packet = KeyPair { local: self.odd(keys.packet.local, later), remote: keys.packet.remote };
        Some(Keys { header: keys.header, packet })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.tls.next_1rtt_keys()?;
        Some(KeyPair { local: self.odd(keys.local, Vec::new()), remote: keys.remote })
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
