//! Packets in and out of the process: system calls, batches, the batching window, and the other process of an upgrade.

pub mod probe;

pub(crate) mod handover;
pub(crate) mod socket;
pub(crate) mod sys;
pub(crate) mod window;
