//! Clients whose relay lies to them, or lets a member lie: a filter between client and relay changes, drops, doubles,
//! delays, reorders and invents what either tells the other. THREAT-MODEL.md has a row for each.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod doors;
mod envelopes;
mod junk;
mod kicks;
mod names;
mod rejections;
mod rings;
mod scene;
mod splits;
mod standing;
