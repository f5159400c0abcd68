//! What ties a signature to one connection, so that it is of no use on another or at another relay.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::RelayPin;

/// TLS exporter label (RFC 8446 section 7.5) whose 32 bytes bind signatures to one connection; its context is empty.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-supernode-1-session";
/// Bytes taken from the exporter.
pub const EXPORTER_BYTES: usize = 32;
/// Bytes of a relay's nonce.
pub const NONCE_BYTES: usize = 32;

const NONCE_DOMAIN: &[u8] = b"supernode/1 nonce\0";
const NAME_HOST: u8 = 0;
const NAME_PIN: u8 = 1;

/// What is signed for on one connection. Each kind has domains of its own, so that none can stand for another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// What TLS exports at both ends of this connection, and nowhere else.
    TlsExporter {
        /// The pin of the certificate that the relay showed.
        relay: RelayPin,
        /// By [`EXPORTER_LABEL`].
        exporter: [u8; EXPORTER_BYTES],
    },
    /// What the relay has drawn for this connection, for a client whose TLS exports nothing, such as a page in a browser.
    RelayNonce {
        /// The relay's pin: what the client knows, or where it knows a host only, what the relay says with its nonce.
        relay: RelayPin,
        /// The nonce, with the name by which the client has checked the relay.
        nonce: NonceBinding,
    },
}

/// By what a client without an exporter has checked that the relay is the one it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayName<'a> {
    /// The host for which an authority has signed the certificate, in lower case.
    Host(&'a str),
    /// The pin of the key that has signed for the certificate.
    Pin(&'a RelayPin),
}

/// A relay's nonce and the name of the relay, as one value: a relay that passes another's nonce on as its own gets
/// signatures that are of no use there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NonceBinding([u8; 32]);

impl NonceBinding {
    /// Of this nonce, from the relay of this name.
    pub fn new(nonce: &[u8; NONCE_BYTES], relay: RelayName<'_>) -> Self {
        let (kind, name) = match relay {
            RelayName::Host(host) => (NAME_HOST, host.as_bytes()),
            RelayName::Pin(pin) => (NAME_PIN, &pin.0[..]),
        };
        // The one field whose size may differ stands last.
        Self(Sha256::digest([NONCE_DOMAIN, nonce, &[kind], name].concat()).into())
    }

    /// The value.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The domains of one thing that is signed on a connection.
pub(super) struct Domains {
    pub(super) tls_exporter: &'static [u8],
    pub(super) relay_nonce: &'static [u8],
}

impl ChannelBinding {
    /// The relay, by its pin.
    pub const fn relay(&self) -> &RelayPin {
        match self {
            Self::TlsExporter { relay, .. } | Self::RelayNonce { relay, .. } => relay,
        }
    }

    /// What no other connection has.
    pub(super) const fn value(&self) -> &[u8; 32] {
        match self {
            Self::TlsExporter { exporter, .. } => exporter,
            Self::RelayNonce { nonce, .. } => nonce.as_bytes(),
        }
    }

    /// The domain for this kind.
    pub(super) const fn domain(&self, of: &Domains) -> &'static [u8] {
        match self {
            Self::TlsExporter { .. } => of.tls_exporter,
            Self::RelayNonce { .. } => of.relay_nonce,
        }
    }
}

impl fmt::Debug for ChannelBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TlsExporter { .. } => "TlsExporter(..)",
            Self::RelayNonce { .. } => "RelayNonce(..)",
        })
    }
}

impl fmt::Debug for NonceBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceBinding(..)")
    }
}
