//! The relay as its clients meet it: real sockets on loopback, real shards, a client that knows only the wire.
//!
//! Every behaviour is tested with 1, 2 and 4 shards. After each test the relay must be empty and its ledger balanced.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test binary: nothing is reachable from outside, and a failed unwrap is a failed test"
)]

mod activity;
mod drain;
mod media;
mod presence;
mod push;
mod rings;
mod rooms;
mod strangers;
mod tcp;
