//! A world for tests: the whole relay and real clients in one thread, under a virtual clock and a seeded network.
//!
//! - [`Clock`] and [`Trace`]: the only time, and what happened as one number: two runs of one seed have the same.
//! - [`network`]: a path for each client, with delay, loss, order, width and size.
//! - [`relay`]: the shards as they are (`supernode_server::shard::offline`), process after process.
//! - [`client`]: what the SDK does around `supernode_session` and `supernode_calls`, on quinn-proto.
//! - [`judge`]: what must hold, and whether it does.
//! - [`nodes`]: several relays as one, and what is between them.
//! - [`World`]: all of it, with what happens there.
//! - [`stage`]: a world in which a test says what happens.
//! - [`Plan`]: which world is to be. [`runs`]: many seeds.
//!
//! All randomness that decides anything comes from the seed. What TLS draws differs between runs: keys, and what is sealed by
//! them; nothing here looks at it, and its length is always the same.

pub mod cast;
pub mod client;
pub mod clock;
pub mod judge;
pub mod network;
pub mod nodes;
pub mod plan;
#[cfg(feature = "planted")]
pub mod planted;
pub mod relay;
pub mod runs;
pub mod stage;
pub mod trace;

mod life;
mod world;

pub use self::{
    clock::Clock,
    plan::Plan,
    trace::Trace,
    world::{Outcome, Shape, World},
};
