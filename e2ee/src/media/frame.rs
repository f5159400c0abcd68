//! One SFrame ciphertext (RFC 9605 section 4): header, sealed bytes, tag.

use std::sync::atomic::{AtomicU64, Ordering};

use sframe::CipherSuite;
use sframe::crypto::{DecryptionBufferView, EncryptionBufferView};
use sframe::header::{KeyId, SframeHeader};
use sframe::key::{DecryptionKey, EncryptionKey};
use sframe::mls::{MlsKeyId, MlsKeyIdBitRange};

use crate::error::Error;

/// AES_128_GCM_SHA256_128 (RFC 9605 section 4.5): the only registered suite with this key size and a full tag.
const SUITE: CipherSuite = CipherSuite::AesGcm128Sha256;
/// Bytes of the base key.
pub(crate) const BASE_KEY_BYTES: usize = SUITE.key_len();
const TAG_BYTES: usize = SUITE.auth_tag_len();

/// Low bits of the epoch in a key id: enough to tell apart the few epochs that are kept, and few enough that leaf 0 and
/// the low leaves' key ids take one byte.
const EPOCH_BITS: u8 = 4;
/// Bits of the leaf in a key id: 65,536 leaves, far above what a mailbox message could describe.
const LEAF_BITS: u8 = 16;
const KEY_ID_BYTES_MAX: usize = (EPOCH_BITS + LEAF_BITS).div_ceil(8) as usize;

/// How many frames and labels one device may seal in one epoch, all tracks together: 2^32 - 1, seven weeks at a thousand
/// a second. Far inside what AES-GCM bears under one key, and the counter never takes more than four bytes.
pub const SEAL_COUNTER_MAX: u64 = u32::MAX as u64;
const COUNTER_BYTES_MAX: usize = 4;

/// The most that sealing adds: one byte of header, key id, counter, tag. Most frames of a call carry 19 to 22 bytes.
pub const SEAL_OVERHEAD_BYTES_MAX: usize = 1 + KEY_ID_BYTES_MAX + COUNTER_BYTES_MAX + TAG_BYTES;

/// Hands out each number once. Shared by everything that seals under one key, and not to be copied.
#[derive(Debug, Default)]
pub(crate) struct SendCounter(AtomicU64);

impl SendCounter {
    pub(crate) fn next(&self) -> Result<u64, Error> {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| (next < SEAL_COUNTER_MAX).then_some(next + 1))
            .map_err(|_| Error::CounterExhausted)
    }

    #[cfg(test)]
    pub(crate) fn starting_at(next: u64) -> Self {
        Self(AtomicU64::new(next))
    }
}

/// The key id of a leaf in an epoch (RFC 9605 section 5.2, without a context).
pub(crate) fn key_id(epoch: u64, leaf: u32) -> Result<KeyId, Error> {
    const DURING: &str = "naming a key";
    let bits = MlsKeyIdBitRange::try_new(EPOCH_BITS, LEAF_BITS).map_err(Error::sframe(DURING))?;
    Ok(MlsKeyId::try_new(0u64, epoch, leaf, bits).map_err(Error::sframe(DURING))?.into())
}

/// How many epochs a key id is ahead of this one, if fewer than half of those that it can tell apart; else zero.
pub(crate) fn epochs_ahead(key_id: KeyId, epoch: u64) -> u64 {
    let ahead = key_id.wrapping_sub(epoch) & ((1 << EPOCH_BITS) - 1);
    if ahead < 1 << (EPOCH_BITS - 1) { ahead } else { 0 }
}

pub(crate) fn encryption_key(key_id: KeyId, base_key: &[u8]) -> Result<EncryptionKey, Error> {
    EncryptionKey::derive_from(SUITE, key_id, base_key).map_err(Error::sframe("deriving a key"))
}

pub(crate) fn decryption_key(key_id: KeyId, base_key: &[u8]) -> Result<DecryptionKey, Error> {
    DecryptionKey::derive_from(SUITE, key_id, base_key).map_err(Error::sframe("deriving a key"))
}

/// Appends the SFrame ciphertext of `payload` to `out`; on an error `out` is as before. `metadata` is authenticated.
pub(crate) fn seal(
    key: &EncryptionKey,
    counter: u64,
    metadata: &[u8],
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let start = out.len();
    let sealed = append_sealed(key, counter, metadata, payload, out);
    if sealed.is_err() {
        out.truncate(start);
    }
    sealed.map_err(Error::sframe("sealing a frame"))
}

/// Reads the header of an SFrame ciphertext; nothing of it is authentic yet.
pub(crate) fn read_header(sealed: &[u8]) -> Result<SframeHeader, Error> {
    SframeHeader::deserialize(sealed).map_err(|_| Error::Malformed { what: "an SFrame header" })
}

/// Appends the payload of `sealed`, whose header was read before, to `out`; on an error `out` is as before.
pub(crate) fn open(
    key: &DecryptionKey,
    header: &SframeHeader,
    metadata: &[u8],
    sealed: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let (header_bytes, body) = sealed.split_at_checked(header.len()).ok_or(Error::NotAuthentic)?;
    let payload_bytes = body.len().checked_sub(TAG_BYTES).ok_or(Error::NotAuthentic)?;
    let mut aad = [header_bytes, metadata].concat();
    let start = out.len();
    out.extend_from_slice(body);
    let buffer = DecryptionBufferView { aad: &mut aad, data: &mut out[start..] };
    let opened = key.decrypt(buffer, header.counter());
    out.truncate(if opened.is_ok() { start + payload_bytes } else { start });
    opened.map_err(|_| Error::NotAuthentic)
}

fn append_sealed(
    key: &EncryptionKey,
    counter: u64,
    metadata: &[u8],
    payload: &[u8],
    out: &mut Vec<u8>,
) -> sframe::error::Result<()> {
    let header = SframeHeader::new(key.key_id(), counter);
    let header_at = out.len();
    let payload_at = header_at + header.len();
    let tag_at = payload_at + payload.len();
    out.resize(payload_at, 0);
    header.serialize(&mut out[header_at..])?;
    let mut aad = [&out[header_at..], metadata].concat();
    out.extend_from_slice(payload);
    out.resize(tag_at + TAG_BYTES, 0);
    let (data, tag) = out[payload_at..].split_at_mut(payload.len());
    key.encrypt(EncryptionBufferView { aad: &mut aad, data, tag }, counter)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTOR: &str = include_str!("../../tests/vectors/rfc9605_aes_128_gcm_sha256_128.txt");

    fn field(name: &str) -> &'static str {
        let line = VECTOR.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        line.expect("the vector has this field")
    }

    fn number(name: &str) -> u64 {
        field(name).parse().expect("a decimal number")
    }

    fn bytes(name: &str) -> Vec<u8> {
        let digits = field(name);
        let pairs = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]);
        pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
    }

    #[test]
    fn a_frame_is_sealed_as_in_rfc_9605() {
        let key = encryption_key(number("kid"), &bytes("base_key")).expect("a key");
        let mut sealed = Vec::new();
        seal(&key, number("ctr"), &bytes("metadata"), &bytes("pt"), &mut sealed).expect("seals");
        assert_eq!(sealed, bytes("ct"));
    }

    #[test]
    fn a_frame_of_rfc_9605_is_opened_behind_what_is_there_already() {
        let key = decryption_key(number("kid"), &bytes("base_key")).expect("a key");
        let sealed = bytes("ct");
        let header = read_header(&sealed).expect("a header");
        assert_eq!((header.key_id(), header.counter()), (number("kid"), number("ctr")));
        let mut out = b"before".to_vec();
        open(&key, &header, &bytes("metadata"), &sealed, &mut out).expect("opens");
        assert_eq!(out, [b"before", &bytes("pt")[..]].concat());
    }

    #[test]
    fn a_frame_that_does_not_open_leaves_nothing_behind() {
        let key = decryption_key(number("kid"), &bytes("base_key")).expect("a key");
        let mut sealed = bytes("ct");
        let header = read_header(&sealed).expect("a header");
        *sealed.last_mut().expect("not empty") ^= 1;
        let mut out = b"before".to_vec();
        let opened = open(&key, &header, &bytes("metadata"), &sealed, &mut out);
        assert!(matches!(opened, Err(Error::NotAuthentic)));
        assert_eq!(out, b"before");
    }

    //
    #[test]
    fn a_key_id_is_the_leaf_above_the_low_bits_of_the_epoch() {
        assert_eq!(key_id(0, 0).expect("fits"), 0);
        assert_eq!(key_id(5, 1).expect("fits"), 0x15);
        assert_eq!(key_id(0x1234, 0xffff).expect("fits"), 0xf_fff4);
        assert!(key_id(0, 0x1_0000).is_err());
    }

    //
    #[test]
    fn a_key_id_of_a_later_epoch_is_told_from_one_of_an_earlier() {
        let ahead = |epoch, of| epochs_ahead(key_id(of, 3).expect("fits"), epoch);
        assert_eq!([ahead(20, 20), ahead(20, 21), ahead(20, 27), ahead(20, 19), ahead(20, 12)], [0, 1, 7, 0, 0]);
    }

    //
    #[test]
    fn the_counter_ends_instead_of_starting_again() {
        let counter = SendCounter::starting_at(SEAL_COUNTER_MAX - 1);
        assert_eq!(counter.next().expect("the last one"), SEAL_COUNTER_MAX - 1);
        for _ in 0..3 {
            assert!(matches!(counter.next(), Err(Error::CounterExhausted)));
        }
    }

    #[test]
    fn nothing_is_longer_than_the_overhead_promises() {
        let longest = key_id(u64::MAX, (1 << LEAF_BITS) - 1).expect("fits");
        let key = encryption_key(longest, &[0; BASE_KEY_BYTES]).expect("a key");
        let mut sealed = Vec::new();
        seal(&key, SEAL_COUNTER_MAX - 1, b"", b"", &mut sealed).expect("seals");
        assert_eq!(sealed.len(), SEAL_OVERHEAD_BYTES_MAX);
    }
}
