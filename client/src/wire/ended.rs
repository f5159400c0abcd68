//! Why a connection or a stream is over, whatever carried it.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use supernode_proto::close::CloseCode;

/// How a connection could not be made or broke. Its text is of what carried it, which may be something else one day.
#[derive(Clone)]
pub struct ConnectionFailure {
    pub(crate) what: Arc<dyn std::error::Error + Send + Sync>,
    /// Whether every attempt meets it, tomorrow too.
    pub(crate) is_lasting: bool,
}

impl ConnectionFailure {
    /// What another attempt may well not meet.
    pub(crate) fn passing(what: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { what: Arc::new(what), is_lasting: false }
    }
}

impl fmt::Display for ConnectionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.fmt(f)
    }
}

impl fmt::Debug for ConnectionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.fmt(f)
    }
}

impl std::error::Error for ConnectionFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.what.source()
    }
}

/// Why a connection is over, or was never made.
#[derive(Debug, Clone)]
#[cfg_attr(
    target_family = "wasm",
    expect(dead_code, reason = "a browser does not tell a page whose certificate it was")
)]
pub(crate) enum Ended {
    /// The relay has ended it, with what it says beside the code.
    Closed { code: CloseCode, reason: Bytes },
    /// Whoever answered has not the key of the pin.
    WrongPin,
    /// No authority that we trust vouches for whoever answered.
    Untrusted(ConnectionFailure),
    /// It could not be made, or it broke, or we have ended it.
    Failed(ConnectionFailure),
}

/// A stream takes or gives no more: the relay has ended it, or the connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut;
