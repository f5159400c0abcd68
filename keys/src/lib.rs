//! Keys that sign, and what they sign: who somebody is, what they allow, and that it is them on this one connection.
//!
//! None of them opens anything, so whatever speaks to a relay may have them: clients, tests of the relay, the load
//! generator. Keys that open content are in `supernode-e2ee`, which is built on this.
//!
//! No I/O and no clock. Fresh keys come from the operating system, in one module behind the feature `generate`; without
//! it a seed is an argument.

#[cfg(feature = "generate")]
mod fresh;
mod pass;
mod secret;

pub use pass::Pass;
pub use secret::{DeviceSecret, IdentitySecret, JoinSecret, RoomSecret, Terms, TicketSecret, TooManyDevices};
