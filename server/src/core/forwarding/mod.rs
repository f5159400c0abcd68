//! What happens to each object: the hot path, its parts and its books.

pub mod fan_out;
pub mod forward;
pub mod group_cache;
pub mod histogram;
pub mod ledger;
pub mod queue;
pub mod speakers;
pub mod stream;
