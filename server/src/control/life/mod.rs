//! How the process begins, takes over another configuration, is replaced and ends.

pub mod handover;
pub(super) mod predecessor;
pub mod prepared;
pub mod process;
pub mod reload;
pub mod secrets;
pub mod successor;
pub mod systemd;
