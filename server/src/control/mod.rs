//! The relay's shell: keys, admission, TLS, the admin port, signals. Nothing here is on the path of a packet.

pub mod admin;
pub mod admission;
pub mod invite;
pub mod metrics;
pub mod serve;
pub mod state_dir;
pub mod tls;
pub mod what_i_see;
