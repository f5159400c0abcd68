//! What is measured of a relay, ours or somebody else's, and when its load is due: `supernode-load` and the clients of
//! other relays (`benches/peers`) use the same, so that their figures can be compared.

pub mod histogram;
pub mod relay_probe;
pub mod schedule;
pub mod stamp;
