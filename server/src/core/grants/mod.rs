//! Who gets in, and what each identity, and all together, may still do.

pub mod accounts;
pub mod limits;
pub mod pool;
pub mod push_services;
pub mod rate;

pub(crate) mod admission;
