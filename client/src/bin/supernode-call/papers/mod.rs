//! What people bring along: identity files of theirs and of their devices, links and tickets.

pub(crate) mod devices;
pub(crate) mod given;
pub(crate) mod identity;
pub(crate) mod links;
