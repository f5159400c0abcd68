//! The work that every relay in the comparison gets, and what is measured of it: the same schedule, stamps and
//! arithmetic as `supernode-load`, for clients that somebody else's crates provide.

mod drops;
pub mod meter;
pub mod pace;
pub mod report;
mod seen;
pub mod work;

pub use supernode_measure::schedule::Due;
