//! Packets in and out of the process: system calls, batches, whose a packet is, the batching window, and the other process
//! of an upgrade.

pub mod probe;

pub(crate) mod demultiplexer;
pub(crate) mod handover;
pub(crate) mod socket;
pub(crate) mod sys;
pub(crate) mod window;
