//! A blind QUIC relay for calls.
//!
//! [`core`] decides and is pure; [`shard`] does the I/O, one thread a core of the machine; [`control`] is everything
//! an operator touches. `docs/ARCHITECTURE.md` has the map.

pub mod control;
pub mod core;
pub mod shard;

mod prefetch;

#[cfg_attr(not(feature = "planted"), doc(hidden))]
pub mod planted;
