//! The pure core without sockets, clocks or threads: several shards, their mail delivered in any order, virtual time.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test binary: a failed unwrap is a failed test")]

mod allocations;
mod bindings;
mod churn;
mod doors;
mod grants;
mod homes;
mod kept;
mod nodes;
mod push;
mod world;
