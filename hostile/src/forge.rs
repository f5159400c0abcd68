//! Initial packets made by hand (RFC 9000 section 17.2.2, RFC 9001 section 5).
//!
//! A client's first packets are sealed under keys that follow from a number it chooses itself, so whoever can send can
//! make them, as many as a core can encrypt and under any source address. One genuine ClientHello serves for all: QUIC
//! does not bind it to the connection but for the client's own connection ID, which therefore is always the same.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, bail, ensure};
use rustls::{
    Side,
    crypto::aws_lc_rs::{cipher_suite::TLS13_AES_128_GCM_SHA256, kx_group::X25519},
    quic::{DirectionalKeys, Suite, Version},
};

use crate::tls;

/// The least that a client's first datagram must have (RFC 9000 section 14.1).
pub(crate) const INITIAL_BYTES: usize = 1200;
/// QUIC version 1.
const V1: [u8; 4] = 1u32.to_be_bytes();
const TAG_BYTES: usize = 16;
const NUMBER_BYTES: usize = 4;

/// What one Initial packet says.
#[derive(Clone, Copy)]
pub(crate) struct Initial<'a> {
    /// The connection ID that it is sent to.
    pub(crate) to: &'a [u8],
    pub(crate) token: &'a [u8],
    pub(crate) number: u32,
    /// Bits that must be zero (RFC 9000 section 17.2), of which there are two.
    pub(crate) reserved: u8,
    pub(crate) frames: &'a [u8],
    /// Bytes of the whole packet: it is padded up to them.
    pub(crate) bytes: usize,
}

/// A ClientHello that a relay takes, and what packets are made with.
pub(crate) struct Forge {
    suite: Suite,
    /// The CRYPTO frame with the ClientHello.
    pub(crate) hello: Vec<u8>,
    /// The client's own connection ID, which its transport parameters repeat.
    source: Vec<u8>,
}

impl Forge {
    /// Lets a real client say its ClientHello, and takes it.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let suite = TLS13_AES_128_GCM_SHA256.tls13().and_then(|suite| suite.quic_suite());
        let suite = suite.context("AES-128-GCM for QUIC")?;
        let first = first_datagram()?;
        let (target, source) = connection_ids(&first).context("a long header")?;
        let (target, source) = (target.to_vec(), source.to_vec());
        let frames = open(&suite, &first, &target)?;
        let hello = crypto_frame(&frames).context("a CRYPTO frame is the first of a client's first packet")?;
        Ok(Self { suite, hello: hello.to_vec(), source })
    }

    /// The bytes of a client's first datagram to `to`, answering a Retry if there is a token.
    pub(crate) fn first(&self, to: &[u8], token: &[u8]) -> Vec<u8> {
        let frames = &self.hello;
        let what = Initial { to, token, number: 0, reserved: 0, frames, bytes: INITIAL_BYTES };
        self.initial(&self.keys(to), what)
    }

    /// What a client seals its Initial packets with whose first packet was sent to this connection ID, or whose answer
    /// to a Retry was.
    pub(crate) fn keys(&self, id: &[u8]) -> DirectionalKeys {
        self.suite.keys(id, Side::Client, Version::V1).local
    }

    /// The bytes of a packet.
    pub(crate) fn initial(&self, keys: &DirectionalKeys, what: Initial<'_>) -> Vec<u8> {
        let mut packet = vec![0xc0 | what.reserved << 2 | (NUMBER_BYTES as u8 - 1)];
        packet.extend_from_slice(&V1);
        for id in [what.to, &self.source] {
            packet.push(id.len() as u8);
            packet.extend_from_slice(id);
        }
        packet.extend_from_slice(&two_byte_varint(what.token.len()));
        packet.extend_from_slice(what.token);
        let length_at = packet.len();
        let rest = what.bytes.saturating_sub(length_at + 2).max(NUMBER_BYTES + what.frames.len() + TAG_BYTES);
        packet.extend_from_slice(&two_byte_varint(rest));
        packet.extend_from_slice(&what.number.to_be_bytes());
        let header = packet.len();
        packet.extend_from_slice(what.frames);
        packet.resize(header + rest - NUMBER_BYTES - TAG_BYTES, 0);
        let (head, payload) = packet.split_at_mut(header);
        let tag = keys.packet.encrypt_in_place(u64::from(what.number), head, payload).expect("keys of this suite");
        packet.extend_from_slice(tag.as_ref());
        let (head, sealed) = packet.split_at_mut(header);
        let (first, rest) = head.split_first_mut().expect("a header");
        let number = rest.len() - NUMBER_BYTES;
        // The sample begins four bytes behind where the number does, which is where it ends here.
        keys.header.encrypt_in_place(&sealed[..16], first, &mut rest[number..]).expect("a sample of its length");
        packet
    }
}

/// A Retry packet's own connection ID and its token (RFC 9000 section 17.2.5).
pub(crate) fn retry(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    if datagram.first()? & 0xf0 != 0xf0 || datagram.get(1..5)? != V1 {
        return None;
    }
    let (to, source) = connection_ids(datagram)?;
    let begin = 7 + to.len() + source.len();
    Some((source, datagram.get(begin..datagram.len().checked_sub(TAG_BYTES)?)?))
}

/// Whether the relay answered with an Initial of its own, so that a handshake is in progress.
pub(crate) fn is_initial(datagram: &[u8]) -> bool {
    // The bit beside the type may have any value once a client has said so (RFC 9287).
    datagram.first().is_some_and(|first| first & 0xb0 == 0x80) && datagram.get(1..5).is_some_and(|bytes| bytes == V1)
}

/// Destination and source of a long header.
fn connection_ids(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let to = usize::from(*datagram.get(5)?);
    let source = usize::from(*datagram.get(6 + to)?);
    Some((datagram.get(6..6 + to)?, datagram.get(7 + to..7 + to + source)?))
}

fn two_byte_varint(value: usize) -> [u8; 2] {
    (0x4000 | value as u16).to_be_bytes()
}

fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = *bytes.first()?;
    let len = 1 << (first >> 6);
    let rest = bytes.get(1..len)?;
    Some((rest.iter().fold(usize::from(first & 0x3f), |value, byte| value << 8 | usize::from(*byte)), len))
}

/// Everything from the front of `frames` that belongs to the first frame, a CRYPTO frame at offset zero.
fn crypto_frame(frames: &[u8]) -> Option<&[u8]> {
    let [0x06, 0x00, rest @ ..] = frames else { return None };
    let (length, len) = varint(rest)?;
    frames.get(..2 + len + length)
}

/// The first datagram of a client that offers one small key, so that its ClientHello fits.
fn first_datagram() -> anyhow::Result<Vec<u8>> {
    let config = quinn_proto::ClientConfig::new(Arc::new(tls::client_with(vec![X25519])?));
    let mut endpoint = quinn_proto::Endpoint::new(Arc::default(), None, true, None);
    let (now, relay) = (Instant::now(), ([127, 0, 0, 1], 9).into());
    let (_, mut connection) = endpoint.connect(now, config, relay, "relay")?;
    let mut datagram = Vec::new();
    ensure!(connection.poll_transmit(now, 1, &mut datagram).is_some(), "a client sends something first");
    Ok(datagram)
}

/// The frames of a client's Initial packet.
fn open(suite: &Suite, datagram: &[u8], target: &[u8]) -> anyhow::Result<Vec<u8>> {
    let keys = suite.keys(target, Side::Server, Version::V1).remote;
    let mut packet = datagram.to_vec();
    let (to, source) = connection_ids(datagram).context("a long header")?;
    let token_at = 7 + to.len() + source.len();
    let (token, len) = varint(&packet[token_at..]).context("a token")?;
    let length_at = token_at + len + token;
    let (length, len) = varint(&packet[length_at..]).context("a length")?;
    let number_at = length_at + len;
    let sample = packet.get(number_at + 4..number_at + 20).context("a sample")?.to_vec();
    let (first, rest) = packet.split_first_mut().context("a packet")?;
    keys.header.decrypt_in_place(&sample, first, &mut rest[number_at - 1..number_at + 3])?;
    let number_len = usize::from(packet[0] & 3) + 1;
    let header = number_at + number_len;
    let number = packet[number_at..header].iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    // The bytes behind a short number were not part of it.
    packet[header..number_at + 4].copy_from_slice(&datagram[header..number_at + 4]);
    let (head, sealed) = packet.split_at_mut(header);
    let Some(sealed) = sealed.get_mut(..length - number_len) else { bail!("cut short") };
    Ok(keys.packet.decrypt_in_place(number, head, sealed)?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forged_opens_as_what_a_client_sent() {
        let forge = Forge::new().expect("a client's hello");
        let datagram = forge.first(&[7; 8], &[9; 50]);
        assert_eq!(datagram.len(), INITIAL_BYTES);
        let frames = open(&forge.suite, &datagram, &[7; 8]).expect("it opens");
        assert_eq!(crypto_frame(&frames), Some(&*forge.hello));
        assert!(frames[forge.hello.len()..].iter().all(|byte| *byte == 0), "padding");
        assert!(open(&forge.suite, &datagram, &[8; 8]).is_err(), "under other keys it does not");
    }

    #[test]
    fn a_retry_is_told_from_everything_else() {
        let packet = [&[0xf0, 0, 0, 0, 1, 2, 1, 1, 3, 5, 6, 7][..], &[8; 20], &[0; 16]].concat();
        assert_eq!(retry(&packet), Some((&[5, 6, 7][..], &[8; 20][..])));
        assert_eq!(retry(&[&[0xc0], &packet[1..]].concat()), None);
        assert_eq!(retry(&packet[..20]), None);
    }
}
