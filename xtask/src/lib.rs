//! What `cargo xtask` does: the gate that every change passes, the demonstration of a call, the attacks and
//! the benches.

#![allow(clippy::print_stdout, reason = "a program for people to read")]

pub mod arguments;
pub mod bench;
pub mod checks;
pub mod demo;
pub mod deploy;
pub mod fit;
pub mod gate;
pub mod hostile;
pub mod peers;
pub mod workspace;

// The demo compares recordings with the code that the client plays and records with. Included by path, because a
// dependency on the client would build its TLS and MLS before the first check could run.
#[path = "../../client/src/media/mod.rs"]
pub mod media;
