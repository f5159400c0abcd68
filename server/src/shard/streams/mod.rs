//! Objects on their way from publishers to subscribers.

pub(crate) mod egress;
pub(crate) mod hold;
pub(crate) mod late;
pub(crate) mod media;
