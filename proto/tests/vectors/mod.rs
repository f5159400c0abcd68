//! One example of everything that has a place on the wire, with every field set to something that shows in the bytes.
//!
//! Struct literals name every field on purpose: a new field does not compile until its example is written.

pub mod cluster;
pub mod control;
pub mod identity;
pub mod object;

/// `length` bytes that count up from `first`, so that swapped or cut fields show.
pub fn count(first: u8, length: u8) -> Vec<u8> {
    (0..length).map(|step| first.wrapping_add(step)).collect()
}
