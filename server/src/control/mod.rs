//! The relay's shell: keys, admission, TLS, the admin port, signals. Nothing here is on the path of a packet.

mod admit;
mod asked;
mod certificates;
pub mod cluster;
pub mod config;
pub mod dashboard;
pub mod files;
mod life;
pub mod log;
pub mod metrics;
pub mod push;
pub mod serve;
pub mod state_dir;
pub mod words;

// Names as others use them: in which folder a file lies is of no interest there.
use self::life::predecessor;
pub use self::{
    admit::{admission, allow_list, classes, hook, invite, invites, revocations, rotation, spent},
    asked::{admin, follow, marks, operator, page, pages_port, status, what_i_see},
    certificates::{acme, certificate, pages, relay_key, tls, trust},
    life::{handover, ports, prepared, process, reach, reload, secrets, successor, systemd},
};
