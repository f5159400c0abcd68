//! Frames on their way: sent, received, put in order, played in time.

pub(crate) mod frame;
pub(crate) mod jitter;
pub(crate) mod order;
pub(crate) mod playback;
pub(crate) mod publish;
pub(crate) mod subscribe;
pub(crate) mod track;
