//! What `cargo xtask` does: the gate that every change passes, the demonstration of a call, the attacks and
//! the benches.

#![allow(clippy::print_stdout, reason = "a program for people to read")]

pub mod arguments;
pub mod arm64;
pub mod bench;
pub mod check;
pub mod checks;
pub mod demo;
pub mod deploy;
pub mod fit;
pub mod gate;
pub mod hostile;
pub mod lanes;
pub mod night;
pub mod page;
pub mod peers;
pub mod pictures;
pub mod sound;
pub mod wasm;
pub mod workspace;
pub mod world;
