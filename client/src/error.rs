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

use crate::{
    ClockSkew,
    wire::{ended::Ended, unreachable::Unreachable},
};

pub use crate::wire::ended::ConnectionFailure;
pub use supernode_calls::room::CallEnd;

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
    Tcp(#[source] ConnectionFailure),
    /// The network, or the relay: a page is not told which certificates to take, and a browser takes none but those.
    #[error("the relay does not tell this page by which certificates it is to be known")]
    Certificates(#[source] ConnectionFailure),
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
            Self::Connection(failure) if failure.is_lasting => Retry::Never,
            Self::Resolve(_)
            | Self::Connection(_)
            | Self::Tcp(_)
            | Self::Certificates(_)
            | Self::TimedOut(_)
            | Self::Unreachable(_)
            | Self::NothingListens
            | Self::TooNarrow(_)
            | Self::Disconnected => Retry::Later,
            // A clock is set sooner or later.
            Self::ClockDiffers(_) => Retry::Later,
            Self::Refused(refusal)
                if matches!(refusal.reason, RefusalReason::GoingAway | RefusalReason::HomeUnknown) =>
            {
                Retry::Later
            }
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
}

impl From<Ended> for Error {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Closed { code, .. } => Self::Closed(code),
            Ended::WrongPin => Self::WrongPin,
            Ended::Untrusted(failure) => Self::Untrusted(failure),
            Ended::Failed(failure) => Self::Connection(failure),
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
        assert_eq!(Error::TimedOut("Hello").retry(), Retry::Later);
    }
}
