//! Who may ring, who may come in, and who may no more: what is shown, what is checked, and what is believed.

pub(crate) mod claimed;
pub(crate) mod door;
pub(crate) mod greeting;
pub(crate) mod revoked;
pub(crate) mod right;
#[cfg(test)]
mod right_tests;
pub(crate) mod room_link;
pub(crate) mod standing;
