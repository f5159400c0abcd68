//! The first words on a node link: who dials proves that it is the node that it says it is.
//!
//! The relay's certificate proves to the dialling node whom it has reached. The relay asks no certificate of anybody, and so not of
//! a node: that would be asked of all clients, or need a second configuration by what a client says it speaks. Instead the node
//! signs, with the key of its own certificate, for this one connection.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use quinn_proto::Connection;
use rustls::{SignatureScheme, crypto::CryptoProvider};
use supernode_proto::{
    cluster::{NODE_VERSION, NodeHello},
    identity::{EXPORTER_BYTES, EXPORTER_LABEL, RelayPin},
};

use super::{NodeBook, table::Life};
use crate::core::{NodeId, ShardId};

/// What makes signatures by a relay's key.
type Sign = dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync;

/// A node's key: it signs, and that is all it can be asked for.
#[derive(Clone)]
pub struct NodeKey {
    spki: Bytes,
    sign: Arc<Sign>,
}

impl NodeKey {
    /// A key of P-256 with this SubjectPublicKeyInfo in DER, and what signs by it: ECDSA with SHA-256, in DER.
    pub fn new(spki: impl Into<Bytes>, sign: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self { spki: spki.into(), sign: Arc::new(sign) }
    }

    /// The pin by which others know it.
    pub fn pin(&self) -> RelayPin {
        RelayPin::of_spki(&self.spki)
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

/// What TLS exports at both ends of this connection.
pub(crate) fn exporter(quic: &Connection) -> Option<[u8; EXPORTER_BYTES]> {
    let mut exporter = [0; EXPORTER_BYTES];
    quic.crypto_session().export_keying_material(&mut exporter, EXPORTER_LABEL, &[]).ok()?;
    Some(exporter)
}

/// Who says a Hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Speaker {
    pub(crate) node: NodeId,
    pub(crate) life: Life,
    pub(crate) shard: ShardId,
}

/// What a shard says to another node, on a connection that exports this.
pub(crate) fn say(from: Speaker, key: &NodeKey, to: &NodeBook, exporter: &[u8; EXPORTER_BYTES]) -> Option<NodeHello> {
    let hello = NodeHello {
        version: NODE_VERSION,
        node: from.node.0.into(),
        life: from.life.0,
        shard: from.shard.0.into(),
        to_node: to.node.0.into(),
        to_life: to.life,
        key: key.spki.clone(),
        signature: Bytes::new(),
    };
    let signature = (key.sign)(&hello.signing_input(exporter, &key.pin(), &to.pin))?;
    Some(NodeHello { signature: signature.into(), ..hello })
}

/// Whoever said this Hello, if it is the one whom this book is of, and speaks to this node's present life.
pub(crate) fn check(
    hello: &NodeHello,
    book: &NodeBook,
    here: (NodeId, Life),
    pin: &RelayPin,
    exporter: &[u8; EXPORTER_BYTES],
    provider: &CryptoProvider,
) -> Option<Speaker> {
    let means_us = hello.to_node == u32::from(here.0.0) && hello.to_life == here.1.0;
    let is_this_life = hello.node == u32::from(book.node.0) && hello.life == book.life;
    if hello.version != NODE_VERSION || !means_us || !is_this_life {
        return None;
    }
    let shard = ShardId(u16::try_from(hello.shard).ok()?);
    let input = hello.signing_input(exporter, &book.pin, pin);
    let speaker = Speaker { node: book.node, life: Life(book.life), shard };
    is_signed(hello.point_of(&book.pin)?, &input, &hello.signature, provider).then_some(speaker)
}

fn is_signed(point: &[u8], message: &[u8], signature: &[u8], provider: &CryptoProvider) -> bool {
    let mut known = provider.signature_verification_algorithms.mapping.iter();
    let known = known.find(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256);
    known.is_some_and(|(_, algorithms)| {
        algorithms.iter().any(|algorithm| algorithm.verify_signature(point, message, signature).is_ok())
    })
}
