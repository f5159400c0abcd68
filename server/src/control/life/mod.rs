//! How the process begins, takes over another configuration, is replaced and ends.

pub mod handover;
pub mod ports;
pub(super) mod predecessor;
pub mod prepared;
pub mod process;
pub mod reach;
pub mod reload;
pub mod secrets;
pub mod successor;
pub mod systemd;
