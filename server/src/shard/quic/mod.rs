//! QUIC as the relay speaks it: what quinn-proto is given, and what it is asked.

pub(crate) mod cid;
pub(crate) mod crypto;
pub(crate) mod key_phases;
pub(crate) mod link_codec;
pub(crate) mod meter;
pub(crate) mod transport;
