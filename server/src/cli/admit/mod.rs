//! Commands for who gets in, and by which keys.

pub(super) mod invite;
pub(super) mod invites;
pub(super) mod revoke;
pub(super) mod rotate;
