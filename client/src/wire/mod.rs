//! The relay from this end: how it is reached, one connection after the other, and what comes on it.
//!
//! What carries connections is one of two: QUIC of our own, or a browser's. Both have the same types: `Reach` makes
//! `Connection`s, which have `SendStream`s, `RecvStream`s and datagrams; a `Place` is where a relay is, a `Candidate` one that is
//! tried.

pub(crate) mod backoff;
#[cfg(any(test, target_family = "wasm"))]
pub(crate) mod certificates;
pub(crate) mod clock;
pub(crate) mod coming_in;
pub(crate) mod ended;
pub(crate) mod inbound;
pub(crate) mod link;
pub(crate) mod places;
pub(crate) mod race;
pub(crate) mod session;
pub(crate) mod silence;
pub(crate) mod unreachable;

#[cfg_attr(target_family = "wasm", path = "page/mod.rs")]
#[cfg_attr(not(target_family = "wasm"), path = "quic/mod.rs")]
pub(crate) mod bearer;
