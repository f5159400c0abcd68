//! Clients' connections: what each keeps, when it wants to be looked at, and what becomes of those that keep too much.

pub(crate) mod connection;
pub(crate) mod crumbs;
pub(crate) mod deadlines;
pub(crate) mod gather;
pub(crate) mod shed;
pub(crate) mod withheld;
