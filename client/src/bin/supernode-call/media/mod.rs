//! Files into a call, and a call into files.

pub(crate) mod play;
pub(crate) mod record;
