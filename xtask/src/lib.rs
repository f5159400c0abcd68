//! What `cargo xtask` does.

// The demo compares recordings with the code that the client plays and records with. Included by path, because a
// dependency on the client would build its TLS and MLS before the first check could run.
#[path = "../../client/src/media/mod.rs"]
pub mod media;
