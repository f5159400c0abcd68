//! The relay's shell: keys, admission, TLS, the admin port, signals. Nothing here is on the path of a packet.

pub mod acme;
pub mod admin;
pub mod admission;
pub mod allow_list;
pub mod certificate;
pub mod classes;
pub mod config;
pub mod dashboard;
pub mod handover;
pub mod hook;
pub mod invite;
pub mod metrics;
pub mod operator;
mod predecessor;
pub mod prepared;
pub mod relay_key;
pub mod reload;
pub mod revocations;
pub mod rotation;
pub mod serve;
pub mod spent;
pub mod state_dir;
pub mod status;
pub mod successor;
pub mod systemd;
pub mod tls;
pub mod what_i_see;
