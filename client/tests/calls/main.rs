//! Clients against a real relay in this process.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod admission;
mod keys;
mod layers;
mod presence;
mod programs;
mod push;
mod rights;
mod rings;
mod rooms;
mod talks;
mod tcp;
mod trouble;
