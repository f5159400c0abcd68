//! What a shard counts, and what is seen of it from outside.

pub mod counters;
pub mod distributions;

pub(crate) mod census;
pub(crate) mod inspect;
