//! The relay from this end: how it is reached, one connection after the other, and what comes on it.

pub(crate) mod backoff;
pub(crate) mod clock;
pub(crate) mod dial;
pub(crate) mod handed;
pub(crate) mod icmp;
pub(crate) mod inbound;
pub(crate) mod link;
pub(crate) mod reach;
pub(crate) mod session;
pub(crate) mod silence;
pub(crate) mod socket;
pub(crate) mod transport;
