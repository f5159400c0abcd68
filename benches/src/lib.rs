//! Measurements of the Supernode relay.
//!
//! [`load`] is the load generator behind the program `supernode-load`.

pub mod load;
