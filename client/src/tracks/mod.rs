//! Frames on their way: sent, received, and played.

pub(crate) mod frame;
pub(crate) mod playback;
pub(crate) mod publish;
pub(crate) mod subscribe;
pub(crate) mod track;
