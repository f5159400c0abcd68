//! What all shards share, and what happens to it: people, rings, rooms and tracks.

pub(super) mod asks;
pub mod directory;
pub mod push;

pub(crate) mod crossings;
pub(crate) mod mailbox;
pub(crate) mod presence;
pub(crate) mod rings;
pub(crate) mod rooms;
pub(crate) mod table;
pub(crate) mod tracks;
