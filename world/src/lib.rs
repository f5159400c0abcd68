//! A world for tests: the whole relay and real clients in one thread, under a virtual clock and a seeded network.
//!
//! - [`Clock`] and [`Trace`]: the only time, and what happened as one number: two runs of one seed have the same.
//! - [`network`]: a path for each client, with delay, loss, order, width and size.
//! - [`relay`]: the shards as they are (`supernode_server::shard::offline`), process after process.
//! - [`client`]: what the SDK does around `supernode_session` and `supernode_calls`, on quinn-proto.
//! - [`judge`]: what must hold, and whether it does.
//!
//! All randomness that decides anything comes from the seed.

pub mod cast;
pub mod client;
pub mod clock;
pub mod judge;
pub mod network;
pub mod relay;
pub mod trace;

pub use self::{clock::Clock, trace::Trace};
