//! Nothing but tests (`tests/mls_rs.rs`): the groups of `supernode-e2ee`, which stand on openmls, against clients that
//! stand on mls-rs. A crate of its own, so that the two libraries' dependencies never meet in ours.
