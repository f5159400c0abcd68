//! Who may come in, and how: what the rights of `supernode_calls` are used for.

pub(crate) mod door;
#[cfg(test)]
mod right_tests;
pub(crate) mod standing;
