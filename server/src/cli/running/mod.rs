//! Commands to the relay that runs: what it does, who is there, and its end.

pub(super) mod drain;
pub(super) mod follow;
pub(super) mod kick;
pub(super) mod sessions;
pub(super) mod status;
pub(super) mod top;
pub(super) mod upgrade;
