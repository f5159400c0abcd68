//! Who gets in: by what, with which limits, until when, and who does not any more.

pub mod admission;
pub mod allow_list;
pub mod classes;
pub mod hook;
pub mod invite;
pub mod invites;
pub mod revocations;
pub mod rotation;
pub mod spent;
