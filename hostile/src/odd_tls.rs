//! A client whose packets are not what QUIC made.

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use quinn::crypto::{ClientConfig, KeyPair, Keys, PacketKey, Session};
use supernode_tls::{OddClient, OddSeal, OddTls, odd_key};

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
    /// Bits are set that must be zero.
    Reserved = 2,
    /// Each is sealed under the keys after those of the last one.
    Phases = 3,
    /// Those with much to say hold pieces of streams instead, of a byte each with a gap behind it.
    Crumbs = 4,
    /// Those with much to say hold one byte of a stream instead, with a gap before it, so that all of the packet is kept.
    Gaps = 6,
    /// Those with much to say ask whether the path works instead, a hundred times each.
    Challenges = 5,
}

/// Says how odd a connection is from now on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dial {
    oddity: Arc<AtomicU8>,
    /// Pieces that were put into packets so far.
    crumbs: Arc<AtomicU64>,
}

impl Dial {
    pub(crate) fn set(&self, oddity: Oddity) {
        self.oddity.store(oddity as u8, Ordering::Relaxed);
    }

    fn is(&self, oddity: Oddity) -> bool {
        self.oddity.load(Ordering::Relaxed) == oddity as u8
    }

    /// Fills a payload with one byte of a stream, the next packet's with one of another: so many of each stream as QUIC keeps in
    /// their packets before it copies them together.
    fn fill_with_gap(&self, payload: &mut [u8]) {
        let number = self.crumbs.fetch_add(1, Ordering::Relaxed);
        payload.fill(PADDING);
        payload[0] = 0x0e;
        payload[1..3].copy_from_slice(&(0x4000 | (4 * (number % CRUMBED_STREAMS) + 2) as u16).to_be_bytes());
        let offset = 2 * (number / CRUMBED_STREAMS % PACKETS_A_STREAM) + 1;
        payload[3..7].copy_from_slice(&(0x8000_0000 | offset as u32).to_be_bytes());
        (payload[7], payload[8]) = (1, 0x55);
    }

    /// How many pieces have gone out.
    pub(crate) fn crumbs(&self) -> u64 {
        self.crumbs.load(Ordering::Relaxed)
    }

    /// Fills a payload with STREAM frames (RFC 9000 section 19.8): those of a packet are neighbours on one stream, the next
    /// packet's on another, and all of it again from the beginning when the windows are full.
    fn fill_with_crumbs(&self, payload: &mut [u8]) {
        let many = payload.len() / CRUMB_BYTES;
        let first = self.crumbs.fetch_add(many as u64, Ordering::Relaxed);
        let stream = (first / many as u64) % CRUMBED_STREAMS;
        let round = first / (many as u64 * CRUMBED_STREAMS);
        payload.fill(PADDING);
        for (place, frame) in payload.chunks_exact_mut(CRUMB_BYTES).enumerate() {
            let offset = 2 * ((round * many as u64 + place as u64) % CRUMBS_A_STREAM) + 1;
            // With offset and length; the client's unidirectional streams are numbered 2, 6, 10 and so on.
            frame[0] = 0x0e;
            frame[1..3].copy_from_slice(&(0x4000 | (4 * stream + 2) as u16).to_be_bytes());
            frame[3..7].copy_from_slice(&(0x8000_0000 | offset as u32).to_be_bytes());
            (frame[7], frame[8]) = (1, 0x55);
        }
    }
}

/// Fills a payload with PATH_CHALLENGE frames (RFC 9000 section 19.17), each another.
fn fill_with_challenges(packet: u64, payload: &mut [u8]) {
    payload.fill(PADDING);
    for (place, frame) in payload.chunks_exact_mut(9).enumerate() {
        frame[0] = 0x1a;
        frame[1..].copy_from_slice(&((packet << 8) | place as u64).to_be_bytes());
    }
}

/// A frame with one byte of a stream.
const CRUMB_BYTES: usize = 9;
/// Streams that pieces are sent of, and pieces of each: what one session may open, within the window of one that publishes,
/// and fewer than QUIC ends a connection for.
const CRUMBED_STREAMS: u64 = 64;
const CRUMBS_A_STREAM: u64 = 900;
/// Packets of which a stream keeps one byte each: 32 KiB.
const PACKETS_A_STREAM: u64 = 22;
/// What is replaced by pieces: not what acknowledges only.
const REPLACED_FROM_BYTES: usize = 600;

/// TLS that seals what it was not given, and says how odd it is.
pub(crate) fn odd() -> anyhow::Result<(Arc<dyn ClientConfig>, Dial)> {
    odd_ahead(0)
}

/// One that can be set to [`Oddity::Phases`].
pub(crate) fn odd_with_phases() -> anyhow::Result<(Arc<dyn ClientConfig>, Dial)> {
    odd_ahead(PHASES)
}

fn odd_ahead(ahead: u64) -> anyhow::Result<(Arc<dyn ClientConfig>, Dial)> {
    let dial = Dial::default();
    let told = dial.clone();
    let tls = OddClient::new(tls::client()?, move || Odd { dial: told.clone(), ahead, levels: 0 });
    Ok((Arc::new(tls), dial))
}

struct Odd {
    dial: Dial,
    /// Generations of keys that it takes ahead, and then cannot change them as it should.
    ahead: u64,
    /// Of encryption, after the first.
    levels: usize,
}

impl Odd {
    fn key(&self, key: Box<dyn PacketKey>, later: Vec<Box<dyn PacketKey>>) -> Box<dyn PacketKey> {
        odd_key(key, Otherwise { later, dial: self.dial.clone() })
    }
}

impl OddTls for Odd {
    fn write_handshake(&mut self, tls: &mut dyn Session, buf: &mut Vec<u8>) -> Option<Keys> {
        let keys = tls.write_handshake(buf)?;
        self.levels += 1;
        let generations = if self.levels == 2 { self.ahead } else { 0 };
        let later = (0..generations).filter_map(|_| Some(tls.next_1rtt_keys()?.local)).collect();
        let packet = KeyPair { local: self.key(keys.packet.local, later), remote: keys.packet.remote };
        Some(Keys { header: keys.header, packet })
    }

    fn next_1rtt_keys(&mut self, tls: &mut dyn Session) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = tls.next_1rtt_keys()?;
        Some(KeyPair { local: self.key(keys.local, Vec::new()), remote: keys.remote })
    }
}

struct Otherwise {
    /// The generations after the key itself.
    later: Vec<Box<dyn PacketKey>>,
    dial: Dial,
}

impl OddSeal for Otherwise {
    fn encrypt(&self, key: &dyn PacketKey, packet: u64, buf: &mut [u8], header_len: usize) {
        let end = buf.len() - key.tag_len();
        if self.dial.is(Oddity::Blank) {
            let payload = &mut buf[header_len..end];
            payload.fill(PADDING);
            payload[0] = PING;
        }
        if self.dial.is(Oddity::Crumbs) && end - header_len >= REPLACED_FROM_BYTES {
            self.dial.fill_with_crumbs(&mut buf[header_len..end]);
        }
        if self.dial.is(Oddity::Gaps) && end - header_len >= REPLACED_FROM_BYTES {
            self.dial.fill_with_gap(&mut buf[header_len..end]);
        }
        if self.dial.is(Oddity::Challenges) && end - header_len >= REPLACED_FROM_BYTES {
            fill_with_challenges(packet, &mut buf[header_len..end]);
        }
        if self.dial.is(Oddity::Reserved) && buf[0] & 0x80 == 0 {
            buf[0] |= RESERVED;
        }
        let generation = packet % (PHASES + 1);
        let later = generation.checked_sub(1).and_then(|place| self.later.get(place as usize));
        match later.filter(|_| self.dial.is(Oddity::Phases)) {
            Some(later) => {
                buf[0] = buf[0] & !KEY_PHASE | if generation % 2 == 1 { KEY_PHASE } else { 0 };
                later.encrypt(packet, buf, header_len);
            }
            None => key.encrypt(packet, buf, header_len),
        }
    }
}
