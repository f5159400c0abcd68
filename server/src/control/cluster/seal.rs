//! What nodes say to each other through NATS, sealed, under subjects that say nothing to whoever lacks the cluster's secret.
//!
//! A message is a version (1), the number of the node that says it (two bytes, the higher one first), 16 random bytes, and what
//! is said under AES-256-GCM, with its tag. The key is an HMAC-SHA-256 of the random bytes, and is used once. What is sealed is
//! bound to the subject and to all that stands in front of it. A message may come twice, or late: that is for whoever hears it to
//! stand.

use std::fmt;

use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac};
use rustls::{
    crypto::{
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher::{AeadKey, Iv},
    },
    quic::PacketKey,
};
use sha2::Sha256;

use super::secret::{ClusterSecret, Purpose};

const VERSION: u8 = 1;
const RANDOM_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + 2 + RANDOM_BYTES;
const TAG_BYTES: usize = 16;
/// What is sealed is bound to this use of the key as well.
const LABEL: &[u8] = b"supernode bus";

/// The most that a message may say: a thousand identities with what is known of each take 48 KB.
pub const SAID_BYTES_MAX: usize = 64 * 1024;
/// What sealing adds.
pub const SEALED_MORE_BYTES: usize = HEAD_BYTES + TAG_BYTES;

/// Where something is said: a keyed hash of what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject([u8; 16]);

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// What a cluster's messages are sealed with, at one of its nodes.
#[derive(Clone)]
pub struct Seal {
    node: u16,
    subjects: Hmac<Sha256>,
    messages: Hmac<Sha256>,
}

impl Seal {
    /// Of the node with this number.
    pub fn new(secret: &ClusterSecret, node: u16) -> Self {
        let keyed =
            |purpose| Hmac::<Sha256>::new_from_slice(&secret.key(purpose)).expect("HMAC takes keys of any length");
        Self { node, subjects: keyed(Purpose::Subjects), messages: keyed(Purpose::Messages) }
    }

    /// The subject for what is about this: its kind, and whom it is about.
    pub fn subject(&self, kind: u8, whom: &[u8]) -> Subject {
        let mut over = self.subjects.clone();
        over.update(&[kind]);
        over.update(whom);
        let hash = over.finalize().into_bytes();
        Subject(hash.first_chunk().copied().expect("it has 32 bytes"))
    }

    /// A message of this node. `random` is never used twice.
    pub fn seal(&self, subject: Subject, said: &[u8], random: [u8; RANDOM_BYTES]) -> Vec<u8> {
        let mut message = Vec::with_capacity(said.len() + SEALED_MORE_BYTES);
        message.push(VERSION);
        message.extend(self.node.to_be_bytes());
        message.extend(random);
        message.extend(said);
        let bound = bound(subject, &message[..HEAD_BYTES]);
        let tag = self.key(&random).encrypt_in_place(0, &bound, &mut message[HEAD_BYTES..]);
        // It fails if there is more than 64 GiB.
        message.extend(tag.expect("a message is short").as_ref());
        message
    }

    /// What a message says, and which node says it: `None` if it was not sealed with this cluster's secret, for this subject.
    pub fn open(&self, subject: Subject, message: &[u8]) -> Option<(u16, Vec<u8>)> {
        let (head, sealed) = message.split_at_checked(HEAD_BYTES)?;
        let [VERSION, high, low, random @ ..] = head else { return None };
        if sealed.len() < TAG_BYTES || sealed.len() > SAID_BYTES_MAX + TAG_BYTES {
            return None;
        }
        let mut said = sealed.to_vec();
        let length = self.key(random).decrypt_in_place(0, &bound(subject, head), &mut said).ok()?.len();
        said.truncate(length);
        Some((u16::from_be_bytes([*high, *low]), said))
    }

    /// The key for one message: with another one for each, the nonce is always the same.
    fn key(&self, random: &[u8]) -> Box<dyn PacketKey> {
        let mut over = self.messages.clone();
        over.update(random);
        let key: [u8; 32] = over.finalize().into_bytes().into();
        let suite = TLS13_AES_256_GCM_SHA384.tls13().and_then(|suite| suite.quic);
        suite.expect("a suite of TLS 1.3, made for QUIC").packet_key(AeadKey::from(key), Iv::from([0; 12]))
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(..)")
    }
}

fn bound(subject: Subject, head: &[u8]) -> Vec<u8> {
    [LABEL, &subject.0, head].concat()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    fn secret(byte: u8) -> ClusterSecret {
        let home = tempfile::tempdir().expect("a temporary directory");
        let path = home.path().join("secret");
        std::fs::write(&path, data_encoding::BASE64URL_NOPAD.encode(&[byte; 32])).expect("ours");
        ClusterSecret::read(Path::new(&path)).expect("a secret")
    }

    fn seal(byte: u8, node: u16) -> Seal {
        Seal::new(&secret(byte), node)
    }

    //
    #[test]
    fn a_message_is_these_bytes() {
        let seal = seal(7, 0x0102);
        let subject = seal.subject(1, &[9; 32]);
        assert_eq!(subject.to_string(), "1cde03320101c05d69876788017a14b5");
        let message = seal.seal(subject, b"here", [3; 16]);
        assert_eq!(
            HEXLOWER.encode(&message),
            "0101020303030303030303030303030303030319cd13d6b814273ab6309266c6e38ff045ab90d7"
        );
    }

    #[test]
    fn what_a_node_says_is_heard_by_another_and_from_whom() {
        let (one, other) = (seal(7, 1), seal(7, 2));
        let subject = one.subject(1, &[9; 32]);
        assert_eq!(subject, other.subject(1, &[9; 32]));
        for said in [&b""[..], b"here", &[5; SAID_BYTES_MAX]] {
            let message = one.seal(subject, said, rand::random());
            assert_eq!(message.len(), said.len() + SEALED_MORE_BYTES);
            assert_eq!(other.open(subject, &message), Some((1, said.to_vec())));
        }
        let long = one.seal(subject, &[5; SAID_BYTES_MAX + 1], rand::random());
        assert_eq!(other.open(subject, &long), None, "more than anybody may say");
        let said = one.seal(subject, b"somebody", [1; 16]);
        assert!(!said.windows(8).any(|window| window == b"somebody"));
    }

    //
    #[test]
    fn whoever_has_another_secret_reads_nothing_and_knows_no_subject() {
        let (one, stranger) = (seal(7, 1), seal(8, 1));
        let subject = one.subject(1, &[9; 32]);
        assert_ne!(subject, stranger.subject(1, &[9; 32]));
        let message = one.seal(subject, b"here", rand::random());
        assert_eq!(stranger.open(subject, &message), None);
        assert_eq!(one.open(subject, &stranger.seal(subject, b"here", rand::random())), None);
        let subjects: BTreeSet<_> =
            [(1, 9), (1, 8), (2, 9)].into_iter().map(|(kind, whom)| one.subject(kind, &[whom; 32])).collect();
        assert_eq!(subjects.len(), 3, "of another person, or another kind, another subject");
    }

    //
    #[test]
    fn a_message_that_was_changed_cut_or_moved_is_refused() {
        let (one, other) = (seal(7, 1), seal(7, 2));
        let subject = one.subject(1, &[9; 32]);
        let message = one.seal(subject, b"here", [3; 16]);
        assert_eq!(other.open(one.subject(2, &[9; 32]), &message), None, "said somewhere else");
        for at in 0..message.len() {
            let mut changed = message.clone();
            changed[at] ^= 1;
            assert_eq!(other.open(subject, &changed), None, "byte {at}, and with it the sender's number");
        }
        for cut in 0..message.len() {
            assert_eq!(other.open(subject, &message[..cut]), None, "cut to {cut}");
        }
    }
}
