//! The work that every relay in the comparison gets, and what is measured of it: the same schedule, stamps and
//! arithmetic as `supernode-load`, for clients that somebody else's crates provide.

#![allow(unreachable_pub, reason = "modules of supernode-load, included below, are public there")]

mod drops;
pub mod meter;
pub mod pace;
pub mod report;
mod seen;
pub mod work;

// Included by path, because a dependency on supernode-load would build our relay into the peers' workspace.
#[allow(dead_code, reason = "supernode-load draws curves too")]
#[path = "../../../src/load/histogram.rs"]
mod histogram;
#[allow(dead_code, reason = "supernode-load also reads a relay's metrics")]
#[path = "../../../src/load/relay_probe.rs"]
mod relay_probe;
#[path = "../../../src/load/schedule.rs"]
mod schedule;
#[path = "../../../src/load/stamp.rs"]
mod stamp;

pub use schedule::Due;
