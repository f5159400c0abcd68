//! Objects as they travel.

pub(crate) mod objects;
pub(crate) mod stream_reader;
