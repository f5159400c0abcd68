//! What can go wrong, sorted by whose doing it is.

use std::io;

use supernode_calls::{
    rights::Why,
    rings::{NotLetIn, RingError},
};
use supernode_e2ee::X_WING_MEMBERS_MAX;
use supernode_proto::{
    close::{CloseCode, Retry},
    control::RefusalReason,
    limits,
};
use supernode_session::Refusal;

use crate::{ClockSkew, Unreachable};

pub use supernode_calls::room::CallEnd;

/// How a connection could not be made or broke. Its text is of the library that carried it, which may be another one day.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ConnectionFailure(quinn::ConnectionError);

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller: the invite has no pin, and there is no authority to check the relay's certificate by.
    #[error(
        "the invite link has no pin=, and neither this system nor the file given names an authority to check the relay by"
    )]
    Authorities,
    /// The caller: something is larger than the wire allows.
    #[error("{field} is {value}: at most {bound}")]
    TooLarge {
        /// What.
        field: &'static str,
        /// What was given.
        value: u64,
        /// The most it may be.
        bound: u64,
    },
    /// The caller: it cannot be done now; the text says why.
    #[error("{0}")]
    State(&'static str),

    /// The network: the relay's name has no address.
    #[error("the relay's name could not be resolved")]
    Resolve(#[source] io::Error),
    /// The network: no socket.
    #[error("no UDP socket could be opened")]
    Socket(#[source] io::Error),
    /// The network: the connection could not be made or broke.
    #[error("the connection to the relay failed")]
    Connection(#[source] ConnectionFailure),
    /// The network: no way over TCP. Only ever part of [`Self::Unreachable`].
    #[error("the relay cannot be reached over TCP")]
    Tcp(#[source] supernode_tcp::OpenError),
    /// The network: no answer in time.
    #[error("no answer in time to: {0}")]
    TimedOut(&'static str),
    /// The network: none of the relay's addresses answered.
    #[error("the relay cannot be reached: {0}")]
    Unreachable(Unreachable),
    /// The network: one of the relay's addresses answers that nothing listens at that port (ICMP). Only ever part of
    /// [`Self::Unreachable`].
    #[error("nothing listens there, says that machine")]
    NothingListens,
    /// The network: the path takes no packets as large as QUIC needs them.
    #[error("the relay cannot be reached: {0}")]
    TooNarrow(Unreachable),
    /// The network: the session is down; the client is trying to get it back.
    #[error("not connected to the relay at the moment")]
    Disconnected,

    /// The relay: its public key is not the one the invite names.
    #[error("the relay's key is not the one in the invite link")]
    WrongPin,
    /// The relay: no authority that we trust has signed its certificate, or it is for another name or time.
    #[error("the relay's certificate is not one to trust: {0}")]
    Untrusted(#[source] ConnectionFailure),
    /// The relay ended the session.
    #[error("the relay ended the session: {0}")]
    Closed(CloseCode),
    /// The clocks: by the relay's, our delegation does not hold, and by ours it does.
    #[error("the relay did not let us in, for our certificate does not hold by its clock: {0}. Set whichever is wrong")]
    ClockDiffers(ClockSkew),
    /// The relay refused a request.
    #[error("the relay refused: {0}")]
    Refused(Refusal),
    /// The relay broke the protocol.
    #[error("the relay broke the protocol: {0}")]
    Protocol(&'static str),

    /// The other side, or our own keys: what was sealed does not open, or is not from whom it must be.
    #[error("end-to-end encryption")]
    EndToEnd(#[from] supernode_e2ee::Error),
    /// The other side: a member of a room does not let us in.
    #[error("we were not let in")]
    NotAdmitted,
    /// The room was opened with a key exchange that this device does not offer.
    #[error("the room's keys are agreed on by what this device does not offer: only another room can be for it, too")]
    OtherKeys,
    /// The room holds as many devices as its key exchange bears.
    #[error("the room is full: with X-Wing it holds {X_WING_MEMBERS_MAX} devices; one for more is opened with X25519")]
    RoomFull,
    /// The call is over.
    #[error("the call is over: {0}")]
    CallEnded(CallEnd),
    /// The client was closed.
    #[error("the client is closed")]
    ClientClosed,
}

impl Error {
    /// Whether a later attempt can succeed without changing anything.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Closed(code) => code.retry(),
            // Whoever answers speaks another language, and will tomorrow.
            Self::Connection(ConnectionFailure(quinn::ConnectionError::VersionMismatch)) => Retry::Never,
            // Also CONNECTION_REFUSED, by which a relay with too many handshakes turns newcomers away, and a handshake that it
            // gave up.
            Self::Resolve(_)
            | Self::Connection(_)
            | Self::Tcp(_)
            | Self::TimedOut(_)
            | Self::Unreachable(_)
            | Self::NothingListens
            | Self::TooNarrow(_)
            | Self::Disconnected => Retry::Later,
            // A clock is set sooner or later.
            Self::ClockDiffers(_) => Retry::Later,
            Self::Refused(refusal) if refusal.reason == RefusalReason::GoingAway => Retry::Later,
            Self::Authorities
            | Self::TooLarge { .. }
            | Self::State(_)
            | Self::Socket(_)
            | Self::WrongPin
            | Self::Untrusted(_)
            | Self::Refused(_)
            | Self::Protocol(_)
            | Self::EndToEnd(_)
            | Self::NotAdmitted
            | Self::OtherKeys
            | Self::RoomFull
            | Self::CallEnded(_)
            | Self::ClientClosed => Retry::Never,
        }
    }

    pub(crate) fn from_connection(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError::{ApplicationClosed, TransportError};
        match error {
            ApplicationClosed(close) => Self::Closed(CloseCode(close.error_code.into_inner())),
            // The alert that our verifier's refusal becomes.
            TransportError(error) if error.code == quinn::TransportErrorCode::crypto(ACCESS_DENIED_ALERT) => {
                Self::WrongPin
            }
            TransportError(error)
                if CERTIFICATE_ALERTS.map(quinn::TransportErrorCode::crypto).contains(&error.code) =>
            {
                Self::Untrusted(ConnectionFailure(TransportError(error)))
            }
            other => Self::Connection(ConnectionFailure(other)),
        }
    }
}

impl From<RingError> for Error {
    fn from(error: RingError) -> Self {
        match error {
            RingError::EndToEnd(error) => Self::EndToEnd(error),
            RingError::Protocol(what) => Self::Protocol(what),
            RingError::TooLarge(bytes) => {
                let (value, bound) = (bytes as u64, limits::RING_PAYLOAD_BYTES_MAX as u64);
                Self::TooLarge { field: "the Welcome for all devices", value, bound }
            }
            RingError::NotAdmitted => Self::NotAdmitted,
            RingError::NobodyAtDoor => Self::State("nobody is at the door"),
            RingError::Settled => Self::State("the ring is settled"),
        }
    }
}

impl From<NotLetIn> for Error {
    fn from(why: NotLetIn) -> Self {
        match why {
            NotLetIn::Unreadable => Self::Protocol("an admission that cannot be read"),
            NotLetIn::Denied(Why::Unsaid) => Self::NotAdmitted,
            NotLetIn::Denied(Why::OtherKeys) => Self::OtherKeys,
            NotLetIn::Denied(Why::Full) => Self::RoomFull,
        }
    }
}

/// RFC 8446 section 6.2.
const ACCESS_DENIED_ALERT: u8 = 49;
/// Bad, unsupported, revoked, expired or unknown certificate, unknown authority, and a signature that does not verify
/// (RFC 8446 section 6.2).
const CERTIFICATE_ALERTS: [u8; 7] = [42, 43, 44, 45, 46, 48, 51];

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn only_what_may_pass_by_itself_is_tried_again() {
        assert_eq!(Error::Closed(CloseCode::NOT_ADMITTED).retry(), Retry::Never);
        assert_eq!(Error::Closed(CloseCode::HELLO_TIMEOUT).retry(), Retry::Now);
        assert_eq!(Error::Closed(CloseCode::OVERLOADED).retry(), Retry::Later);
        assert_eq!(Error::WrongPin.retry(), Retry::Never);
        let refused = quinn::ConnectionError::ConnectionClosed(quinn::ConnectionClose {
            error_code: quinn::TransportErrorCode::CONNECTION_REFUSED,
            frame_type: None,
            reason: bytes::Bytes::new(),
        });
        assert_eq!(Error::from_connection(refused).retry(), Retry::Later, "the relay has too many newcomers");
        assert_eq!(Error::from_connection(quinn::ConnectionError::VersionMismatch).retry(), Retry::Never);
        for row in CloseCode::ALL {
            let closed = quinn::ApplicationClose {
                error_code: quinn::VarInt::from_u64(row.code).expect("small"),
                reason: bytes::Bytes::new(),
            };
            let error = Error::from_connection(quinn::ConnectionError::ApplicationClosed(closed));
            assert_eq!(error.retry(), row.retry, "{}", row.name);
        }
        assert_eq!(Error::TimedOut("Hello").retry(), Retry::Later);
    }
}
