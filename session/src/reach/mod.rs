//! Whether the relay that is meant is there: by which key and with what transport, when it counts as gone, when to try again.

pub(crate) mod backoff;
pub mod pages;
pub mod pin;
pub mod places;
pub(crate) mod reconnect;
pub(crate) mod silence;
pub(crate) mod skew;
pub mod transport;
