//! The control stream: what is said on it, and what that leads to.

pub(crate) mod demand;
pub(crate) mod greeting;
pub(crate) mod presence;
pub(crate) mod refusal;
pub(crate) mod requests;
pub(crate) mod rings;
pub(crate) mod session;
