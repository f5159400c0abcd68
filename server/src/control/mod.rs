//! The relay's shell: keys, admission, TLS, the admin port, signals. Nothing here is on the path of a packet.

pub mod admin;
mod admit;
mod certificates;
pub mod config;
pub mod dashboard;
pub mod files;
pub mod follow;
pub mod hook;
mod http;
mod life;
pub mod log;
pub mod marks;
pub mod metrics;
pub mod operator;
pub mod prepared;
pub mod reload;
pub mod secrets;
pub mod serve;
pub mod state_dir;
pub mod status;
pub mod what_i_see;
pub mod words;

// Names as others use them: in which folder a file lies is of no interest there.
use self::life::predecessor;
pub use self::{
    admit::{admission, allow_list, classes, invite, invites, revocations, rotation, spent},
    certificates::{acme, certificate, relay_key, tls, trust},
    life::{handover, process, successor, systemd},
};
