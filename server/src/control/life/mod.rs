//! How the process begins, is replaced and ends.

pub mod handover;
pub(super) mod predecessor;
pub mod process;
pub mod successor;
pub mod systemd;
