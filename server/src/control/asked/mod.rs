//! What operators ask of the running relay: by the admin port, by the socket in its state directory, and of what it sees.

pub mod admin;
pub mod follow;
mod http;
pub mod marks;
pub mod operator;
pub mod page;
mod page_policy;
pub mod pages_port;
pub mod status;
pub mod what_i_see;
