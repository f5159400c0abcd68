//! What can go wrong, by blame.

use supernode_proto::identity::IdentityError;

use crate::exchange::KeyExchange;

/// Why something was refused. No variant carries an identity, a key or content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // --- bytes from elsewhere
    /// More bytes than anybody may send.
    #[error("{what} of {length} bytes: at most {bound}")]
    TooLarge {
        /// What it claims to be.
        what: &'static str,
        /// Its length.
        length: usize,
        /// The most.
        bound: usize,
    },
    /// Not the message that it should be.
    #[error("{what} cannot be read")]
    Malformed {
        /// What it should be.
        what: &'static str,
    },
    /// A part of MLS that no honest client of ours uses, such as external commits.
    #[error("{what} are not accepted")]
    Refused {
        /// What it is.
        what: &'static str,
    },
    /// A group or a message of another room.
    #[error("this belongs to another room")]
    WrongRoom,
    /// A message made in an epoch that the group has not reached: what comes before it is missing.
    #[error("a message of epoch {message} while the group is at {group}")]
    FutureEpoch {
        /// Epoch of the message.
        message: u64,
        /// Epoch of the group.
        group: u64,
    },

    // --- somebody is not who they should be
    /// A delegation that does not verify.
    #[error("a member's delegation does not hold")]
    Delegation(#[from] IdentityError),
    /// A delegation for another device than the one that signs with it.
    #[error("a delegation is for another device")]
    DelegationDevice,
    /// Somebody whom nobody expects.
    #[error("an unexpected identity would be in the group")]
    UnexpectedIdentity,
    /// A Welcome from somebody else than the caller.
    #[error("the welcome is not from the caller")]
    NotFromCaller,
    /// A member's update would make them somebody else.
    #[error("an update would change a member's identity or device")]
    IdentityChanged,

    // --- the group's state
    /// We were removed: the group is over for us.
    #[error("we are no longer in the group")]
    Removed,
    /// A commit of our own waits to be merged or discarded.
    #[error("a commit of our own is pending")]
    CommitPending,
    /// No commit of our own waits.
    #[error("no commit of our own is pending")]
    NoCommitPending,
    /// No epoch before this one is kept.
    #[error("there is no epoch to go back to")]
    NoEpochBefore,
    /// Somebody who is no host would put others out, or say who is one.
    #[error("only a host of the room may do this")]
    NotAHost,
    /// A device offers no key package for the group's key exchange.
    #[error("the device offers no key package for {0}, by which the group agrees on its keys")]
    NotOffered(KeyExchange),
    /// A device's signed leaf says that it can more than the key packages that we were handed: somebody keeps one back,
    /// who would rather have a call with weaker keys.
    #[error("a key package for {0} was kept from us, which the device says it has")]
    Withheld(KeyExchange),
    /// The group holds as many as its commits can be sealed for.
    #[error("a group whose keys are agreed on by {exchange} holds {bound} devices at most")]
    Full {
        /// By what.
        exchange: KeyExchange,
        /// The most.
        bound: usize,
    },
    /// No such leaf, or our own.
    #[error("leaf {0} is no other member")]
    NoSuchMember(u32),
    /// The MLS library refused.
    #[error("MLS refused while {during}")]
    Mls {
        /// What was being done.
        during: &'static str,
        /// Its reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    // --- media
    /// Keys of an epoch before the current one, or of another group at the same epoch.
    #[error("keys of epoch {given} while at epoch {current}")]
    EpochOrder {
        /// Epoch given.
        given: u64,
        /// Epoch current.
        current: u64,
    },
    /// A key that is not at hand: an epoch too old or not installed yet, or nobody's.
    #[error("no key for this frame")]
    UnknownKey,
    /// Sealed with another device's key than the one said to send it.
    #[error("a frame under another sender's key")]
    WrongSender,
    /// Opened before, or so late that nobody can tell any more.
    #[error("a frame that was replayed or is too late")]
    Replayed,
    /// Changed on the way, or never ours.
    #[error("a frame does not authenticate")]
    NotAuthentic,
    /// Every counter of this epoch has been used: a new epoch is needed.
    #[error("all {} counters of this epoch have been used", crate::media::frame::SEAL_COUNTER_MAX)]
    CounterExhausted,
    /// The SFrame library refused.
    #[error("SFrame refused while {during}")]
    Sframe {
        /// What was being done.
        during: &'static str,
        /// Its reason.
        source: sframe::error::SframeError,
    },
}

impl Error {
    /// Whether the time alone is why: a delegation that has run out, or would run for too long, by the time that was
    /// given. A clock that is wrong makes one of every delegation.
    pub fn is_of_time(&self) -> bool {
        matches!(self, Self::Delegation(IdentityError::Expired { .. } | IdentityError::TooLong { .. }))
    }

    pub(crate) fn mls<E: std::error::Error + Send + Sync + 'static>(during: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Mls { during, source: Box::new(source) }
    }

    pub(crate) fn sframe(during: &'static str) -> impl FnOnce(sframe::error::SframeError) -> Self {
        move |source| Self::Sframe { during, source }
    }
}

/// Refuses bytes above a bound before anybody parses them.
pub(crate) fn check_length(what: &'static str, bytes: &[u8], bound: usize) -> Result<(), Error> {
    if bytes.len() > bound {
        return Err(Error::TooLarge { what, length: bytes.len(), bound });
    }
    Ok(())
}
