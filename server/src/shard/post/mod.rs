//! Mail between shards, and how much of it may wait.

pub(crate) mod inbox;
pub(crate) mod room;
