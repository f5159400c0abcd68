//! Measurements of the Supernode relay.
//!
//! [`load`] is the load generator behind the program `supernode-load`; [`fixtures`] is what the benches of the core
//! measure.

pub mod fixtures;
pub mod load;
